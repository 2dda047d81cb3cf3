"""The client of Sentinel Hub: token, catalog, statistics, own collections (BYOC)."""
