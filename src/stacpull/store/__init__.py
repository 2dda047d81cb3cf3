"""Storing bytes: part files, checksums, and publishing under final names in groups."""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
