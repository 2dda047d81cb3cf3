"""Filters on raw items and assets: labels, flags, location, time, ids, keys."""
