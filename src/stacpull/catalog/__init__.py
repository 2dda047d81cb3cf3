"""The STAC documents of a mirror: its catalog, collections and items, in the form that pystac writes."""
