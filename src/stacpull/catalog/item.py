"""An item as it is stored: the source's document, adapted to the mirror.

Promises: pure; no exception whatever the source sent; what the source says about the item is kept, except
what STAC does not allow; no href carries a credential. It runs once an item, 1.2 million times for
BigEarthNet, so it works on plain dicts (a `pystac.Item` costs 170 µs) and shares what it does not change with
the source's document, which it leaves alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from stacpull.catalog.item_assets import (
    REMOTE_ASSETS,
    provenance_links,
    remote_assets,
    stored_assets,
    stored_links,
    with_extensions,
)
from stacpull.catalog.references import reference
from stacpull.models import Json, MirroredFile
from stacpull.redact import Secrets, cut_url

_OWN_LINKS = frozenset({"root", "parent", "collection", "self"})
_OTHER_LINKS = frozenset(
    {
        "about",
        "alternate",
        "canonical",
        "cite-as",
        "icon",
        "license",
        "preview",
        "service",
        "thumbnail",
        "tilejson",
    }
    | {"via", "xyz"}
)
"""Relations that never lead to another item of the mirror. They are not looked up."""
_DATED = re.compile(r"\d{4}")
_ANY_TIME: Json = {
    "datetime": None,
    "start_datetime": "0001-01-01T00:00:00Z",
    "end_datetime": "9999-12-31T23:59:59Z",
}
_BBOX_LENGTHS = (4, 6)


def item_document(
    document: Json,
    *,
    collection: str,
    here: Mapping[str, MirroredFile],
    item_path: str,
    collection_path: str,
    local_items: Callable[[str], str | None],
    base: str | None = None,
) -> Json:
    """Return the item as it is stored at `item_path`.

    Args:
        document: The item as the source sent it; not changed.
        collection: Id of the collection it is stored under.
        here: The files of the assets that are in the mirror, by asset key.
        item_path: Where the document goes, relative to DEST: hrefs are relative to its directory. For
            `--metadata ndjson` that is the path of the NDJSON file.
        collection_path: The collection's JSON, relative to DEST.
        local_items: Asked with the absolute href, credentials included, of each link that may lead to
            another item: the path of that item's JSON relative to DEST, or None if it is not in the mirror.
        base: The item's own URL, against which relative hrefs are resolved; None leaves them.

    Returns:
        A valid STAC item, if the source's was one. Assets as `stored_assets` says; those that are not in the
        mirror and whose remote hrefs do not last are listed apart (`remote_assets`). Links `root`, `parent`
        and `collection` lead into the mirror, links to items that are here are relative, all others remote.
        `self` is gone (a mirror can be moved): `via` and `canonical` say where the item came from. Where the
        source gives no time, the item spans all time; where it gives a geometry and no bbox, the bbox is
        computed.
    """
    directory = item_path.rpartition("/")[0]

    def keep(rel: str, href: str) -> str | None:
        if rel in _OWN_LINKS:
            return None
        local = None if rel in _OTHER_LINKS else local_items(href)
        return cut_url(href) if local is None else reference(local, directory)

    assets, remote = _assets(document, here, directory, base)
    links = _tree_links(directory, collection_path)
    links += stored_links(document.get("links"), base, keep)
    links += provenance_links(document.get("links"), base, links)
    stored = {
        "stac_version": "1.0.0",
        **document,
        "type": "Feature",
        "stac_extensions": with_extensions(document.get("stac_extensions"), {**remote, **assets}, here),
        "properties": _dated(document.get("properties")),
        "collection": collection,
        "links": links,
        "assets": assets,
    }
    _place(stored)
    stored.pop(REMOTE_ASSETS, None)  # and last again: storing twice gives the same bytes
    if remote:
        stored[REMOTE_ASSETS] = remote
    return stored


def _assets(
    document: Json, here: Mapping[str, MirroredFile], directory: str, base: str | None
) -> tuple[Json, Json]:
    """Return the assets, and those listed apart; sorted, so that a later one gives the same bytes."""
    assets = stored_assets(document.get("assets"), here, directory, base)
    listed = stored_assets(document.get(REMOTE_ASSETS), {}, directory, base)  # the source is a mirror, too
    moved = remote_assets(document, here, base)
    remote = {key: found for key in sorted(moved) if (found := assets.get(key) or listed.get(key))}
    return {key: assets[key] for key in sorted(assets) if key not in moved}, remote


def encode_item(document: Json, secrets: Secrets) -> bytes:
    """Return the document as one line of compact JSON in UTF-8, without line end, known secrets scrubbed.

    Raises:
        ValueError: It is nested too deeply to be written.
    """
    try:
        data = orjson.dumps(document)
    except orjson.JSONEncodeError:  # a lone surrogate, an integer past 64 bits, 254 levels
        data = _encode_odd(document)
    return secrets.scrub_bytes(data)


def _encode_odd(document: Json) -> bytes:
    try:
        return json.dumps(_finite(document), separators=(",", ":"), allow_nan=False).encode("ascii")
    except RecursionError:
        raise ValueError("the document is nested too deeply to be written") from None


def _finite(value: Any) -> Any:
    """Return JSON without NaN and infinities: null stands for them, as orjson has it (RFC 8259, 6)."""
    if isinstance(value, dict):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tree_links(directory: str, collection_path: str) -> list[Json]:
    collection = reference(collection_path, directory)
    return [
        {"rel": "root", "href": reference("catalog.json", directory), "type": "application/json"},
        {"rel": "parent", "href": collection, "type": "application/json"},
        {"rel": "collection", "href": collection, "type": "application/json"},
    ]


def _place(stored: Json) -> None:
    """Make `geometry` and `bbox` what STAC pairs: both, or a null geometry and no bbox."""
    geometry, bbox = stored.get("geometry"), stored.get("bbox")
    if isinstance(geometry, dict) and isinstance(bbox, list) and len(bbox) in _BBOX_LENGTHS:
        return
    bounds = _bounds(geometry) if isinstance(geometry, dict) else None
    if bounds is None:
        stored["geometry"] = None
        stored.pop("bbox", None)
    else:
        stored["bbox"] = bounds


def _bounds(geometry: Json) -> list[float] | None:
    """Return [west, south, east, north] of a GeoJSON geometry (RFC 7946, 5), None if it has no position."""
    positions = list(_positions(geometry))
    if not positions:
        return None
    xs, ys = zip(*positions, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _positions(geometry: Json) -> Iterator[tuple[float, float]]:
    waiting: list[Any] = [geometry]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.get("coordinates"), value.get("geometries")
        elif isinstance(value, list):
            match value:
                case [int() | float() as x, int() | float() as y, *_]:
                    yield x, y
                case _:
                    waiting.extend(value)


def _dated(properties: object) -> Json:
    """Return properties with a `datetime`, null beside an interval; see `item_document`."""
    if not isinstance(properties, dict):
        return _ANY_TIME
    time = properties.get("datetime")
    if isinstance(time, str) and _DATED.match(time):
        return properties
    ends = properties.get("start_datetime"), properties.get("end_datetime")
    if all(isinstance(end, str) and _DATED.match(end) for end in ends):
        return properties if time is None and "datetime" in properties else {**properties, "datetime": None}
    return {**properties, **_ANY_TIME}
