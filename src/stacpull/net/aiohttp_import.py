"""Import aiohttp without the certificates that it reads and that the command does not use.

aiohttp makes two TLS contexts when it is imported, each with all certificates of the system: half of its
import, and a tenth of the time that a small mirror takes. `net.http` makes its own context for its first TLS
connection. Only the command does this: a program around the library may rely on aiohttp's contexts, which
trust no certificate here.
"""

from __future__ import annotations

import ssl
import sys


def import_aiohttp() -> None:
    """Import aiohttp, unless it is imported already."""
    if "aiohttp" in sys.modules:
        return
    read = ssl.SSLContext.set_default_verify_paths
    ssl.SSLContext.set_default_verify_paths = _read_nothing  # type: ignore[method-assign, assignment]
    try:
        import aiohttp  # noqa: F401, PLC0415 -- this is the place
    finally:
        ssl.SSLContext.set_default_verify_paths = read  # type: ignore[method-assign]


def _read_nothing(_context: ssl.SSLContext) -> None:
    """Trust no certificate."""
