"""Whether an item says that an asset is not ready yet: it was ordered, or lies in an archive. Pure.

The order extension writes `order:status` on the item, or on an asset; the storage extension (version 1)
`storage:tier`. Both are what the provider says, and not proof: an asset is requested all the same, and this
explains why only if it cannot be had.
Source: https://github.com/stac-extensions/order, v1.1.0; https://github.com/stac-extensions/storage, v1.0.0.
"""

from __future__ import annotations

import re

from stacpull.models import Json

__all__ = ["STATEMENTS", "stated", "why_not_ready"]

STATEMENTS = ("order:status", "storage:tier")
"""What an item, or an asset, may say of it."""

_UNDER_WAY = frozenset({"ordered", "pending", "shipping"})
_ARCHIVED = re.compile(r"archive|glacier", re.IGNORECASE)


def why_not_ready(item: Json, key: str) -> str:
    """Return what the item says of the asset at `key` if that is not ready yet, else an empty text."""
    assets = item.get("assets")
    asset = assets.get(key) if isinstance(assets, dict) else None
    said = {**stated(item.get("properties")), **stated(asset)}
    status, tier = said.get("order:status"), said.get("storage:tier")
    if status in _UNDER_WAY:
        return f"its item says that it is being prepared (order:status {status})"
    if tier is not None and _ARCHIVED.search(tier):
        return f"its item says that it lies in an archive (storage:tier {tier[:40]})"
    return ""


def stated(said: object) -> dict[str, str]:
    """Return what the members of an item's properties, or of an asset, say of it."""
    found = {name: said.get(name) for name in STATEMENTS} if isinstance(said, dict) else {}
    return {name: value for name, value in found.items() if isinstance(value, str)}
