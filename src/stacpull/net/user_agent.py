"""What stacpull calls itself."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def user_agent() -> str:
    """Return what stacpull calls itself: name, version, and where to complain."""
    about = metadata.metadata("stacpull")
    urls = [entry.partition(",")[2].strip() for entry in about.get_all("Project-URL") or []]
    contact = f" (+{urls[0]})" if urls else ""
    return f"stacpull/{about['Version']}{contact}"
