"""Storing bytes: part files, checksums, and publishing under final names in groups.

A part holds the bytes of an asset until they get their final name:

    unfinished   `parts.FileParts`
    complete     `StagedParts`, for every kind of store
    published    `LocalStore` (a directory) or `BucketStore`, which have a `StagedParts`
"""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
