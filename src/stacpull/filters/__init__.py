"""Predicates over raw items and assets: labels, flags, place, time, ids, keys. Pure."""
