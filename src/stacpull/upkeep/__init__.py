"""Verify an existing mirror, and repair it."""

from stacpull.system import require_posix

require_posix()  # modules of this package import fcntl and resource
