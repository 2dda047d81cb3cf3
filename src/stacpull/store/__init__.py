"""Storing bytes: part files, checksums, and publishing under final names in groups.

A part holds the bytes of an asset until they get their final name:

    unfinished   `transfer.part_writer.Parts`: `FileParts` (files), or `StreamedParts` (uploads to a bucket)
    complete     `StagedParts` (files); for a bucket `BufferedParts` (also in memory, or to be copied there)
                 with `StagedObjects` (uploads that are complete)
    published    `LocalStore` (a directory) and `BucketStore` extend these two with the files of DEST
"""

from stacpull.system import require_posix

require_posix()  # the modules here import fcntl and resource
