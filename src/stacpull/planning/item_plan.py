"""Plans an item: derives the assets to fetch from its JSON. Nothing here raises, even for invalid items."""

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import orjson

from stacpull.clock import parse_instant
from stacpull.json_values import object_or_empty, objects_in, parsed_object
from stacpull.models import Asset, Checksum, Failure, FailureKind, ItemId, Json, PlannedItem
from stacpull.planning import hrefs
from stacpull.planning.layout import ItemLayout, Layout
from stacpull.planning.names import json_name, safe_segment
from stacpull.planning.prefixes import NOT_A_FILE, Listing, assets_in, with_objects
from stacpull.redact import unsigned_url
from stacpull.urls import is_local

if TYPE_CHECKING:
    from stacpull.selection import Selection  # imports attrs, which the store process seldom needs

AssetPredicate = Callable[[str, Json], bool]
NO_COLLECTION: Final = "no-collection"  # of items for which neither they nor SOURCE state one
COLLECTION_LAYOUT: Final = Layout.parse("{collection}/{key}{ext}")  # of the assets of collections
_DIGESTS: Final = {  # of `digests`, by the code and length of a multihash (github.com/multiformats/multihash)
    b"\x11\x14": "sha1",
    b"\x12\x20": "sha256",
    b"\x13\x40": "sha512",
    b"\x14\x40": "sha3_512",
    b"\x15\x30": "sha3_384",
    b"\x16\x20": "sha3_256",
    b"\x17\x1c": "sha3_224",
    b"\x20\x30": "sha384",
    b"\xd5\x01\x10": "md5",
    **{bytes((0x80 | size, 0xE4, 2, size)): f"blake2b_{size * 8}" for size in range(1, 65)},
}


class ListedItem(NamedTuple):
    id: ItemId
    document: Json
    url: str | None  # of its page, or of the item itself if a link of its `parent` led to it
    parent: ItemId | None = None
    item_assets: Mapping[str, Any] = {}  # of its collection (STAC 1.1), which describe assets to the filter
    listings: Mapping[str, Listing | Failure] = {}  # the objects of prefixes, by asset key


class AssetPlanner(NamedTuple):
    layout: Layout
    selection: "Selection"
    keeps: AssetPredicate | None = None  # returns True if an asset is selected; None to select all

    def plan(self, item: ListedItem) -> PlannedItem:
        document = item.document
        url = item.url
        href = hrefs.self_href(document, local=is_local(url))
        layout = self.layout.for_item(item.id, document, item.parent)
        plan = _ItemPlan(self, item, layout, href or url)
        plan.add_assets(document.get("assets"))
        if plan.prefixes:
            document = with_objects(document, item.listings, plan.objects)
        if href is None and item.parent is not None:
            href = url
        if href is None and item.id.collection != NO_COLLECTION:
            href = hrefs.api_href(item.id, url)
        return PlannedItem(
            id=item.id,
            document=document,
            href=href,
            assets=tuple(plan.assets),
            parent=item.parent,
            updated=updated_in(document),
            problems=tuple(plan.problems),
            excluded=tuple(plan.excluded),
            web_pages=tuple(plan.web_pages),
            expanded_prefixes=tuple(plan.prefixes),
        )


class _ItemPlan(msgspec.Struct):
    planner: AssetPlanner
    item: ListedItem
    layout: ItemLayout
    base: str | None
    assets: list[Asset] = []
    excluded: list[str] = []
    web_pages: list[str] = []
    problems: list[tuple[str, Failure]] = []
    prefixes: dict[str, tuple[str, Listing]] = {}  # with the href of each
    objects: dict[str, list[Asset]] = {}  # of each prefix

    def add_assets(self, assets: Any) -> None:
        """Plan the `assets` of an item or a collection. If several have one path, the first gets it."""
        if isinstance(assets, dict):
            self._add_each(assets)
            taken_keys = set(assets)
            # the longest first: a key that fits two prefixes is of the longer one (`prefixes.object_asset`)
            for key in sorted(self.prefixes, key=len, reverse=True):
                href, listing = self.prefixes[key]
                self.objects[key] = assets_in(key, href, listing, self.layout, taken_keys)
                self.assets += self.objects[key]
        elif assets is not None:
            text = "The item's `assets` is not an object."
            self.problems.append(("assets", Failure(FailureKind.ITEM, text)))
        by_path: dict[tuple[str, str], Asset] = {}
        for asset in self.assets:
            names = asset.directory, asset.name or asset.key
            first = by_path.setdefault(names, asset)
            if first is not asset:
                path = "/".join(filter(None, names))
                text = f"Asset {first.key!r} already has the path {path!r}: "
                remedy = "repeat `mirror` with {key} in --layout, then `retry`."
                self.problems.append((asset.key, Failure(FailureKind.NAME, text + remedy)))
        self.assets = list(by_path.values())

    def _add_each(self, assets: Json) -> None:
        keeps = self.planner.keeps
        selection = self.planner.selection
        templates = self.item.item_assets
        listings = self.item.listings
        for key, asset in assets.items():
            described = with_template(asset, templates.get(key))
            if not (keeps is None or key in listings or keeps(key, described)):
                self.excluded.append(key)
                continue
            found = hrefs.asset_hrefs(asset, self.base, selection.prefer)
            if isinstance(found, Failure):
                self.problems.append((key, found))
                continue
            href = found[0]
            stated_type = asset.get("type")
            media_type = stated_type if isinstance(stated_type, str) else None
            kind = hrefs.asset_kind(href, media_type, key)
            if kind == "prefix":
                listing = listings.get(key)
                if listing is None or isinstance(listing, Failure):
                    self.problems.append((key, listing or NOT_A_FILE))
                else:
                    self.prefixes[key] = href, listing
                    self.excluded += [f"{key}/{name}" for name in listing.left_out]
            elif kind == "web page" and not selection.include_pages:
                self.web_pages.append(key)
            else:
                own_href = hrefs.stated_href(asset) if selection.prefer else href  # names are as without it
                path = self.layout.path(key, hrefs.suffix_of(own_href or href, media_type))
                size, checksum = size_and_checksum(asset)
                self.assets.append(Asset(key, href, *path, size, checksum, media_type, found[1:]))


def id_of(item: Json, collection: str) -> ItemId:
    """Return the ID of an item. `collection` is that of the page or link, for an item that states none."""
    return ItemId(item.get("collection") or collection, item["id"])


def updated_in(document: Json) -> str | None:
    """Return `updated` of an item, or of a collection, which may have it at the top level (STAC 1.1)."""
    properties = object_or_empty(document.get("properties"))
    updated = properties.get("updated", document.get("updated"))
    return updated if isinstance(updated, str) else None


def is_newer(updated: str | None, before: str | None) -> bool:
    later = parse_instant(updated)
    earlier = parse_instant(before)
    return later is not None and earlier is not None and later > earlier


def version_of(item: PlannedItem) -> str:
    """Return `updated` of an item, or without it a digest of its document, which is never a time."""
    if item.updated:
        return item.updated
    document = parsed_object(item.public_json) or {}
    # without links, and only with the names of files: the same item may be served elsewhere
    assets = object_or_empty(document.get("assets"))
    for asset in objects_in([*assets.values()]):
        href = unsigned_url(str(asset.get("href")))
        asset["href"] = href.partition("?")[0].rpartition("/")[2]
        asset["alternate"] = None
    data = orjson.dumps({**document, "links": None}, option=orjson.OPT_SORT_KEYS)
    return f"#{hashlib.sha256(data, usedforsecurity=False).hexdigest()[:16]}"


def with_template(asset: Any, template: Any) -> Any:
    if not isinstance(template, dict) or not isinstance(asset, dict):
        return asset
    return template | {name: value for name, value in asset.items() if value}


def size_and_checksum(asset: Json) -> tuple[int | None, Checksum | None]:
    """Return the size in bytes and the checksum of an asset (file extension), each None if not stated."""
    size = asset.get("file:size")
    if type(size) is not int or not 0 <= size < 1 << 63:  # a boolean is an `int`, too
        size = None
    multihash = asset.get("file:checksum")
    checksum = parse_multihash(multihash) if isinstance(multihash, str) else None
    return size, checksum


def parse_multihash(text: str) -> Checksum | None:
    """Return the checksum in a multihash; None for an unknown kind, or a length that contradicts the code."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    for length in (2, 3, 4):
        prefix = raw[:length]
        if prefix in _DIGESTS and prefix[-1] == len(raw) - length:
            return Checksum(_DIGESTS[prefix], raw[length:])
    return None


def item_directory(item_id: ItemId) -> str:
    return f"{safe_segment(item_id.collection)}/{safe_segment(item_id.item)}"


def item_json_in(directory: str, item: str) -> str:
    return f"{directory}/{json_name(safe_segment(item))}"
