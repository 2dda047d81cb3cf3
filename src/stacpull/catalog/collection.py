"""A stored collection: for any input, a valid STAC 1.1.0 collection with the id it is stored under.

Usable fields, also of extensions, are kept; what pystac cannot migrate is kept unchanged.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from datetime import UTC
from types import MappingProxyType
from typing import Any

from stacpull.boxes import flat, is_bbox
from stacpull.catalog.item import provenance_links, stored_assets, stored_links, with_extensions
from stacpull.clock import parse_instant, rfc3339
from stacpull.json_values import list_or_empty, object_or_empty, objects_in
from stacpull.models import Json, MirroredFile
from stacpull.redact import cut_url

STAC_VERSION = "1.1.0"
_VERSION = re.compile(r"(0\.[89]|1\.[01])\.\d+(-(alpha|beta|rc)\.\d+)?")
_CURRENT = re.compile(r"1\.[01]\.\d+")
_UNTYPED = re.compile(r"0\.|1\.0\.0-(alpha|beta)")
"""Versions whose collections have no `type`."""
_LICENSE = re.compile(r"[\w\-.+]+")
_LEGACY = ("proprietary", "various")
"""Licences that are `other` since STAC 1.1.0."""
_FIRST = ("type", "id", "stac_version", "description", "links")
_LAST = ("title", "extent", "license", "keywords", "providers", "summaries", "assets")
_CORE = frozenset((*_FIRST, "stac_extensions", *_LAST))
"""Members that are checked. All others are extension fields and are kept unchanged."""
_ROLES = frozenset({"producer", "licensor", "processor", "host"})
_NAVIGATION = frozenset({
    "self", "root", "parent", "child", "item", "items", "collection", "collections", "next", "prev",
    "previous", "first", "last", "search", "data", "aggregate", "aggregations", "queryables", "conformance",
    "tiles",
})  # fmt: skip


def collection_document(
    identifier: str,
    document: Json | None,
    *,
    base: str | None,
    mirrored: Mapping[str, MirroredFile] = MappingProxyType({}),
    directory: str = "",
) -> Json:
    """Return the JSON without links into the mirror, which the caller adds.

    External links are kept without credentials; navigation links of an API are removed. `via` and `canonical`
    link to its origin.
    """
    source = document or {}
    assets = stored_assets(source.get("assets"), mirrored, directory, base)
    extra = {key: value for key, value in source.items() if key not in _CORE and value is not None}
    version = source.get("stac_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        version = "1.0.0"
    made = {
        **extra,
        **_core_members(identifier, source),
        "assets": assets,
        "links": [],
        "stac_version": version,
    }
    # pystac imports all its extensions to read one collection: a tenth of the time of a small run
    is_plain = _CURRENT.fullmatch(version) and not made["stac_extensions"]
    stored = _in_order(made) if is_plain else _migrated(made)
    stored["stac_extensions"] = with_extensions(stored.get("stac_extensions"), assets, mirrored)
    links = stored_links(source.get("links"), base, _outward)
    stored["links"] = links + provenance_links(source.get("links"), base, links)
    return stored


def _outward(rel: str, href: str) -> str | None:
    return None if rel in _NAVIGATION or rel.startswith("http") else cut_url(href)


def _in_order(document: Json) -> Json:
    found = {name: value for name, value in document.items() if name != "assets" or value}
    found["stac_version"] = STAC_VERSION
    others = (name for name in found if name not in _CORE)
    return {name: found[name] for name in (*_FIRST, *others, *_LAST) if name in found}


def _migrated(document: Json) -> Json:
    import pystac  # noqa: PLC0415 - few collections need it

    if _UNTYPED.match(document["stac_version"]):
        document = {name: value for name, value in document.items() if name != "type"}
    try:
        with warnings.catch_warnings(action="ignore"):  # they are for readers of the mirror
            collection = pystac.Collection.from_dict(document)
            return collection.to_dict(include_self_link=False, transform_hrefs=False)
    except Exception:  # noqa: BLE001  # the migration of an extension can raise any error
        kept = {**document, "type": "Collection"}
        return {**_in_order(kept), "stac_extensions": kept["stac_extensions"]}


# --- core members -----------------------------------------------------------------------------------------


def _core_members(identifier: str, document: Json) -> Json:
    """Return the core members of a collection. The default extent is the whole world and all time."""
    title, licence, extent = (document.get(name) for name in ("title", "license", "extent"))
    description = next((text for text in (document.get("description"), title) if _is_text(text)), identifier)
    text = licence.strip() if isinstance(licence, str) else ""
    is_name = bool(_LICENSE.fullmatch(text)) and text not in _LEGACY
    summaries = object_or_empty(document.get("summaries"))
    spatial = object_or_empty(object_or_empty(extent).get("spatial")).get("bbox")
    temporal = object_or_empty(object_or_empty(extent).get("temporal")).get("interval")
    members = {
        "id": identifier,
        "type": "Collection",
        "description": description,
        "title": title if _is_text(title) else None,
        "keywords": _strings(document.get("keywords")),
        "providers": [
            _provider(one) for one in objects_in(document.get("providers")) if _is_text(one.get("name"))
        ],
        "summaries": {
            key: value for key, value in summaries.items() if value and isinstance(value, (list, dict))
        },
        "extent": {"spatial": {"bbox": _boxes(spatial)}, "temporal": {"interval": _intervals(temporal)}},
        "license": text if is_name else "other",
        "source_license": None if is_name or text in _LEGACY else text,
    }
    found = {key: value for key, value in members.items() if value}
    return {**found, "stac_extensions": _strings(document.get("stac_extensions"))}


def _provider(entry: Json) -> Json:
    kept = {key: value for key, value in entry.items() if key not in {"url", "description", "roles"}}
    kept |= {key: entry[key] for key in ("url", "description") if _is_text(entry.get(key))}
    roles = [role.lower() for role in _strings(entry.get("roles")) if role.lower() in _ROLES]
    return {**kept, "roles": roles} if roles else kept


def _boxes(boxes: object) -> list[list[float]]:
    """Return the valid bboxes. Two alone are invalid, so a bbox around both is added as the first."""
    listed = [boxes] if is_bbox(boxes) else list_or_empty(boxes)
    usable = [box for box in listed if is_bbox(box)]
    if len(usable) != 2:  # noqa: PLR2004  # as documented
        return usable or [[-180.0, -90.0, 180.0, 90.0]]
    west, south, east, north = zip(*(flat(box) for box in usable), strict=True)
    if any(w > e for w, e in zip(west, east, strict=True)):  # across the antimeridian
        west, east = (-180.0,), (180.0,)
    return [[min(west), min(south), max(east), max(north)], *usable]


def _intervals(intervals: object) -> list[list[str | None]]:
    """Return the valid intervals in UTC. A single interval may lack the enclosing list."""
    listed = list_or_empty(intervals)
    if len(listed) == 2 and not any(isinstance(end, list) for end in listed):  # noqa: PLR2004
        listed = [listed]
    usable = [one for one in listed if isinstance(one, list) and len(one) == 2]  # noqa: PLR2004
    return [[_utc(end) for end in one] for one in usable] or [[None, None]]


def _utc(time: object) -> str | None:
    """Return an instant as RFC 3339 in UTC (also the default time zone), or None if it is invalid."""
    instant = parse_instant(time)
    try:
        return None if instant is None else rfc3339(instant.astimezone(UTC))
    except OverflowError:
        return None


def _strings(values: object) -> list[str]:
    return [value for value in list_or_empty(values) if isinstance(value, str)]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
