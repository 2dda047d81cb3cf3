"""Sources of items: APIs, static catalogs and files.

`opening.open_source` detects the kind of SOURCE. `source.Source` is the interface of all kinds.
"""
