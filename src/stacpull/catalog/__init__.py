"""What a mirror is turned into: its STAC catalog, collections and items, as pystac writes them."""
