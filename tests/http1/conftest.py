from __future__ import annotations

from tests.net.certificates import certificate

__all__ = ["certificate"]
