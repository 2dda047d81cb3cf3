"""The record of every page, item and asset: one SQLite file with one writer, and read-only views of it."""
