"""Assets of one item that would meet under one name.

Names equal but for case or Unicode form are kept apart: in the order of their keys all but the first get a
hash. Names exactly equal are refused: the first keeps it, the others are named failures. Between items the
ledger tells, by `stacpull.planning.names.path_hash`.
"""

from __future__ import annotations

from collections.abc import Collection

from stacpull.models import Asset, Failure, FailureKind
from stacpull.planning.names import fold, kept_apart

__all__ = ["keep_apart"]


def keep_apart(
    assets: list[Asset], keys: Collection[str], *, distinguishes: bool
) -> tuple[list[Asset], dict[str, Failure]]:
    """Return the assets with names that do not meet, and the failures of those that have none, by key.

    Args:
        assets: The wanted assets of one item, in the item's order; names that are None yet never clash.
        keys: All asset keys of the item, wanted or not: what is wanted must not change another's name.
        distinguishes: True if the layout holds the asset's key.
    """
    paths = {fold(_path(asset)) for asset in assets if asset.name is not None}
    named = sum(asset.name is not None for asset in assets)
    if len(paths) == named and len(set(map(fold, keys))) == len(keys):
        return assets, {}
    return _resolved(assets, _echoes(keys) if distinguishes else set())


def _resolved(assets: list[Asset], echoes: set[str]) -> tuple[list[Asset], dict[str, Failure]]:
    taken: dict[str, Asset] = {}
    placed: dict[str, Asset] = {}
    failures: dict[str, Failure] = {}
    for asset in sorted(assets, key=lambda asset: asset.key):
        if asset.name is None:
            placed[asset.key] = asset
            continue
        other = taken.get(fold(_path(asset)))
        if other is not None and _path(other) == _path(asset):
            failures[asset.key] = _clash(other)
            continue
        final = _hashed(asset) if asset.key in echoes or other is not None else asset
        taken[fold(_path(asset))] = taken[fold(_path(final))] = final
        placed[asset.key] = final
    return [placed[asset.key] for asset in assets if asset.key in placed], failures


def _echoes(keys: Collection[str]) -> set[str]:
    """Return the keys that differ from an earlier one, in sorted order, by case or Unicode form only."""
    first: dict[str, str] = {}
    return {key for key in sorted(keys) if first.setdefault(fold(key), key) != key}


def _hashed(asset: Asset) -> Asset:
    return asset if asset.name is None else asset._replace(name=kept_apart(asset.name, asset.key))


def _path(asset: Asset) -> str:
    return f"{asset.directory}/{asset.name}"


def _clash(other: Asset) -> Failure:
    where = f"{other.directory}/{other.name}"
    return Failure(
        FailureKind.NAME,
        f"The layout puts it where asset {other.key!r} of the item goes, {where}: add {{key}} to --layout.",
    )
