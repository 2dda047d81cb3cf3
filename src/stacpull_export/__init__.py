"""Outputs made from a mirror: an index of its items, training shards, TorchGeo trees, label tables, a report.

They read a finished or running mirror and change nothing in it. `dashboard` shows a run while it is active.
"""
