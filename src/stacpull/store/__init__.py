"""Storing bytes: parts, checksums, and publishing under final names in groups.

A part holds the bytes of an asset until they get their final name: an unfinished one (`parts.FileParts`)
becomes complete (`staging.StagedParts`), then published (`LocalStore`, a directory, or a bucket).
"""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
