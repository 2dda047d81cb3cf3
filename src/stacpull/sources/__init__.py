"""Where items come from: API pages and links now, static catalogs and files as further modules.

`opening.open_source` finds out what SOURCE is; `source.Source` is what all kinds of it offer.
"""
