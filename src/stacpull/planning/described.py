"""Assets that do not say what they are, and whose collection does: `item_assets`. Pure.

A collection may describe the assets that its items have (`item_assets`, STAC 1.1; before that an extension).
Filters judge an asset by what it says itself; where it is silent, by what its collection says of that key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stacpull.models import Json
from stacpull.planning.items import KeepsAssets

__all__ = ["Described"]

_MEMBERS: Final = ("type", "roles")
"""What filters ask of an asset."""


class Described:
    """Judges assets as `keeps` does, with what their collection says of them."""

    def __init__(self, keeps: KeepsAssets, item_assets: Mapping[str, Any]) -> None:
        """Take the filter, and the collection's `item_assets` as they were read."""
        self._keeps = keeps
        self._item_assets = item_assets

    def keeps(self, key: str, asset: Json) -> bool:
        """Return True if the asset is wanted."""
        described = self._item_assets.get(key)
        if not isinstance(described, dict) or not isinstance(asset, dict):
            return self._keeps.keeps(key, asset)
        silent = {name: described[name] for name in _MEMBERS if not asset.get(name) and described.get(name)}
        return self._keeps.keeps(key, {**asset, **silent} if silent else asset)
