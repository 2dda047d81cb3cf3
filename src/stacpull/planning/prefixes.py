"""Expands an asset that is a prefix of an object store: each object becomes an asset.

    data: s3://bucket/tiles/39/        →   data/B02.jp2, data/qi/MSK.gml, …

The item's document lists the objects instead of the prefix, so readers of a mirror find them like any asset.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from stacpull.models import Asset, Failure, FailureKind, Json, path_in_dest
from stacpull.planning.hrefs import stated_href
from stacpull.planning.layout import ItemLayout, final_name, name_in, safe_subdirectory
from stacpull.planning.names import fold, with_salted_hash

_OWN_MEMBERS: Final = frozenset({"href", "type", "file:size", "file:checksum", "alternate"})
"""Members of an asset that describe the directory and not the objects in it."""
MAX_OBJECTS: Final = 100_000  # of one prefix, because all of them are planned at once
NOT_A_FILE: Final = Failure(
    FailureKind.PREFIX,
    "The asset cannot be fetched: it is a directory. In a bucket, --expand-prefix mirrors the files in it.",
)


class ListedObject(NamedTuple):
    name: str
    size: int


class Listing(NamedTuple):
    objects: tuple[ListedObject, ...]  # the selected ones, in the order of the listing
    left_out: tuple[str, ...] = ()  # the names of the others


def as_prefix(href: str) -> str:
    """Return the href of a directory with a trailing slash, because `a/b` is also a prefix of `a/bc`."""
    return f"{href.removesuffix('/')}/"


def assets_in(
    prefix_key: str, href: str, listing: Listing, layout: ItemLayout, taken_keys: set[str]
) -> list[Asset]:
    """Return the objects below a prefix as assets. Their keys are added to `taken_keys`."""
    prefix = as_prefix(href)
    parent, root_name, template = layout.path(prefix_key, "")
    filename = prefix[:-1].rpartition("/")[2]
    root = path_in_dest(parent, final_name(root_name, template, filename, parent))
    paths = [listed.name.split("/") for listed in listing.objects]
    directories = set[str]()
    for path in paths:
        directories.update(map(fold, accumulate(path[:-1], "{}/{}".format)))
    assets = []
    for listed, path in zip(listing.objects, paths, strict=True):
        key = f"{prefix_key}/{listed.name}"
        directory = safe_subdirectory(root, path[:-1])
        name = name_in(directory, path[-1])
        if fold(listed.name) in directories:  # an object may be named like one, but a file may not
            name = with_salted_hash(name, key)
        while key in taken_keys:
            above, slash, last = key.rpartition("/")
            key = above + slash + with_salted_hash(last, above)
        taken_keys.add(key)
        assets.append(Asset(key, prefix + listed.name, directory, name, size=listed.size))
    return assets


def with_objects(
    item: Json, listings: Mapping[str, Listing | Failure], objects: Mapping[str, Sequence[Asset]]
) -> Json:
    """Return an item that has `objects`, the assets by prefix, instead of the prefixes that are complete."""
    spread: Json = {}
    for key, asset in item["assets"].items():
        listing = listings.get(key)
        if not isinstance(listing, Listing) or listing.left_out:
            spread[key] = asset
        if key in objects:
            kept = {name: member for name, member in asset.items() if name not in _OWN_MEMBERS}
            for file in objects[key]:
                spread[file.key] = {**kept, "href": file.href, "file:size": file.size}
    return {**item, "assets": spread}


def object_asset(assets: Mapping[str, Any], key: str, href: str = "") -> Json | None:
    """Return the asset `key` of an item that was read again. It may be below a prefix, as `href` was."""
    asset = assets.get(key)
    if asset is not None:
        return asset if isinstance(asset, dict) else None
    prefixes: dict[str, str] = {}  # by the part of the key that is left below each
    for parent, asset in assets.items():
        prefix = stated_href(asset)
        if prefix and key.startswith(f"{parent}/"):
            prefixes[key[len(parent) + 1 :]] = as_prefix(prefix)
    if any(map(href.startswith, prefixes.values())):
        return {"href": href}
    rest = min(prefixes, key=len, default="")
    return {"href": prefixes[rest] + rest} if prefixes else None
