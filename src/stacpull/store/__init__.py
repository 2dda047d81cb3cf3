"""How bytes come to rest: part files, checksums, and publishing under final names in groups."""
