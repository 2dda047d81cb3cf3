"""An asset that is a prefix of an object store, taken apart: each object becomes an asset of its own. Pure.

    data: s3://bucket/tiles/39/        →   data/B02.jp2, data/qi/MSK.gml, …

Each goes under the asset's own place (`--layout`), in directories as its key has them. The item's document
has the objects in place of the prefix, so all that reads a mirror finds them as it finds any asset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from stacpull.models import Asset, Failure, FailureKind, Json
from stacpull.planning.layout import ItemLayout, complete
from stacpull.planning.names import fold, kept_apart, safe_segment

__all__ = ["Listed", "Listing", "as_prefix", "object_of", "objects", "refused", "with_objects"]

_OWN_MEMBERS: Final = frozenset({"href", "type", "file:size", "file:checksum", "alternate"})
"""What an asset says of itself as a directory, which is not true of the objects in it."""


class Listed(NamedTuple):
    """An object: its name behind the prefix, and its size in bytes."""

    name: str
    size: int


class Listing(NamedTuple):
    """What lies under a prefix and is wanted, in the order of the listing, and the names of what is not."""

    objects: tuple[Listed, ...]
    left_out: tuple[str, ...] = ()


def as_prefix(href: str) -> str:
    """Return the href of a directory with the slash that ends it: `a/b` is no prefix of `a/bc`."""
    return href if href.endswith("/") else f"{href}/"


def refused(href: str) -> Failure:
    """Return why a prefix is not fetched as it is."""
    if href.startswith("s3://"):
        why = "it is an S3 prefix and no file; --expand-prefix mirrors what lies under it"
    else:
        why = "it is a directory and no file, and only those of S3 can be listed"
    return Failure(FailureKind.PREFIX, f"The asset cannot be fetched: {why}.")


def objects(key: str, href: str, listing: Listing, places: ItemLayout) -> list[Asset]:
    """Return the objects of the prefix `href`, which is the asset `key`, as assets to fetch."""
    prefix = as_prefix(href)
    place = places.place(key, "")
    own = place.name
    if own is None:
        own = complete(place.name_template or "", prefix[:-1].rpartition("/")[2], place.directory)
    root = f"{place.directory}/{own}" if place.directory else own
    above = {fold(name) for listed in listing.objects for name in _parents(listed.name)}
    return [
        _asset(
            f"{key}/{listed.name}", prefix + listed.name, listed, root, shadowed=fold(listed.name) in above
        )
        for listed in listing.objects
    ]


def with_objects(item: Json, listings: Mapping[str, Listing | Failure]) -> Json:
    """Return `item` with the objects that are wanted in place of their prefixes.

    A prefix of which something is left out stays beside its objects: else nothing would tell of the rest.
    """
    assets = item.get("assets")
    if not isinstance(assets, dict) or not any(isinstance(found, Listing) for found in listings.values()):
        return item
    spread: Json = {}
    for key, asset in assets.items():
        found = listings.get(key)
        if not isinstance(found, Listing) or found.left_out:
            spread[key] = asset
        for listed in found.objects if isinstance(found, Listing) else ():
            spread[f"{key}/{listed.name}"] = _described(asset, listed)
    return {**item, "assets": spread}


def object_of(assets: Mapping[str, Any], key: str) -> Json | None:
    """Return the asset `key` as an item read again has it: its own, or the object of a prefix."""
    found = assets.get(key)
    if found is not None:
        return found if isinstance(found, dict) else None
    for parent, asset in assets.items():
        href = asset.get("href") if isinstance(asset, dict) else None
        if isinstance(href, str) and key.startswith(f"{parent}/"):
            return {"href": as_prefix(href) + key[len(parent) + 1 :]}
    return None


def _asset(key: str, href: str, listed: Listed, root: str, *, shadowed: bool) -> Asset:
    *directories, name = [safe_segment(step) for step in listed.name.split("/")]
    directory = "/".join([root, *directories])
    # an object may have the name of a directory of others, a file cannot
    return Asset(key, href, directory, kept_apart(name, key) if shadowed else name, size=listed.size)


def _described(asset: Json, listed: Listed) -> Json:
    kept = {name: member for name, member in asset.items() if name not in _OWN_MEMBERS}
    return {**kept, "href": as_prefix(asset["href"]) + listed.name, "file:size": listed.size}


def _parents(name: str) -> list[str]:
    """Return the directories of an object's name: `a` and `a/b` of `a/b/c`."""
    steps = name.split("/")[:-1]
    return ["/".join(steps[: count + 1]) for count in range(len(steps))]
