"""Planning: the assets of an item, their paths and their safe names."""
