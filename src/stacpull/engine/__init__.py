"""Runs that connect the other packages: producer → queue → pool, and the publisher in the store process."""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
