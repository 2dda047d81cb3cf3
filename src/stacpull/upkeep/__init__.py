"""Looks after a mirror that is there: verifies it, rebuilds its ledger, merges its shards."""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
