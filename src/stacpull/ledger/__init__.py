"""The truth about every page, item and asset: one SQLite file, one writer, read-only views beside it."""
