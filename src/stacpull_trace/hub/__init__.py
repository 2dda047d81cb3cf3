"""A client of Sentinel Hub: token, catalog, statistics, and your own collections (BYOC)."""
