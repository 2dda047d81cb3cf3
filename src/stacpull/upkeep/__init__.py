"""Verify an existing mirror, rebuild its ledger, and merge its shards."""

from stacpull.system import require_posix

require_posix()  # modules of this package import fcntl and resource
