"""What a mirror is turned into: an index of its items, training shards, label tables, a report.

One module per output. Each reads a finished or running mirror and changes nothing in it.
"""
