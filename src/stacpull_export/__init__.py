"""Outputs made from a mirror: an index of its items, training shards, label tables, references, a report.

They read a finished or running mirror and change nothing in it. `dashboard` shows a run while it works.
"""
