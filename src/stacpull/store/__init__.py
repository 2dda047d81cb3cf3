"""Storing bytes: parts hold them until they get their final names, in a directory or a bucket."""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
