"""`stacpull trace`: the scenes behind the pixels of Analysis-Ready PlanetScope, from Sentinel Hub."""
