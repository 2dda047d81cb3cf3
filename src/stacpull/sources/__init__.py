"""Sources of items: APIs, static catalogs and files.

`documents.open_source` detects the kind of SOURCE. `source.Source` is the interface of all kinds.
"""
