"""Assets that do not say what they are, and whose collection does: `item_assets`. Pure.

A collection may describe the assets that its items have (`item_assets`, STAC 1.1; before that an extension).
Filters judge an asset by what it says itself; where it is silent, by what its collection says of that key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stacpull.models import Json
from stacpull.planning.items import KeepsAssets

__all__ = ["Described", "described"]

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
        return self._keeps.keeps(key, described(asset, self._item_assets.get(key)))


def described(asset: Any, template: Any) -> Any:
    """Return an asset with the type and the roles that `template` says, as far as it says none itself."""
    if not isinstance(template, dict) or not isinstance(asset, dict):
        return asset
    silent = {name: template[name] for name in _MEMBERS if not asset.get(name) and template.get(name)}
    return {**asset, **silent} if silent else asset
