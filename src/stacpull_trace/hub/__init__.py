"""The client of Sentinel Hub: token, catalog, statistics, collections of one's own (BYOC)."""
