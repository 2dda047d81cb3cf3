"""What stacpull calls itself."""

from __future__ import annotations

from stacpull import __version__

USER_AGENT = f"stacpull/{__version__} (+https://github.com/stacpull/stacpull)"
"""Name, version, and where to complain."""
