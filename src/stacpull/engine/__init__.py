"""Runs that connect the other packages: producer → bounded queue → pool of workers → publisher."""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
