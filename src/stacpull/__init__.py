"""Mirror datasets described by STAC: filtered, verified, resumable at any point."""

__version__ = "0.1.0"
