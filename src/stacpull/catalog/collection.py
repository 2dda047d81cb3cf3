"""A stored collection: the source's document, migrated to the STAC version that pystac writes.

Guarantee: for any input, the result is a valid STAC collection with the id it is stored under. Licence,
providers, citation, summaries and all extension fields are kept if they are usable.

pystac can migrate old versions (1.0.0-beta.2 of MLHub), but expects valid input. So the core members are
first made valid by the collection schema of STAC 1.1.0 (schemas.stacspec.org). Then pystac migrates. If the
migration of an extension fails, its fields are kept unchanged.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from datetime import UTC
from types import MappingProxyType
from typing import Any

from stacpull.boxes import flat, is_bbox
from stacpull.catalog.item_assets import provenance_links, stored_assets, stored_links, with_extensions
from stacpull.clock import parse_instant, rfc3339
from stacpull.json_values import list_or_empty, object_or_empty, objects_in
from stacpull.models import Json, MirroredFile
from stacpull.redact import cut_url

_VERSION = re.compile(r"(0\.[89]|1\.[01])\.\d+(-(alpha|beta|rc)\.\d+)?")
STAC_VERSION = "1.1.0"
"""The version that pystac writes."""
_CURRENT = re.compile(r"1\.[01]\.\d+")
_FIRST = ("type", "id", "stac_version", "description", "links")
_LAST = ("title", "extent", "license", "keywords", "providers", "summaries", "assets")
_CORE = frozenset((*_FIRST, "stac_extensions", *_LAST))
"""Members that are checked. All others are extension fields and are kept unchanged."""
_DEEPEST = 100
_UNTYPED = re.compile(r"0\.|1\.0\.0-(alpha|beta)")
_NAVIGATION = frozenset(
    [
        "self",
        "root",
        "parent",
        "child",
        "item",
        "items",
        "collection",
        "collections",
        "next",
        "prev",
        "previous",
        "first",
        "last",
        "search",
        "data",
        "aggregate",
        "aggregations",
        "queryables",
        "conformance",
        "tiles",
    ]
)


def collection_document(
    identifier: str,
    document: Json | None,
    *,
    base: str | None,
    mirrored: Mapping[str, MirroredFile] = MappingProxyType({}),
    directory: str = "",
) -> Json:
    """Return the collection's JSON without links into the mirror, which the caller adds.

    Args:
        identifier: The id it is stored under.
        document: The source's document, which is not changed; None if it could not be read.
        base: The URL of the source's document, if known.
        mirrored: The mirrored files of its own assets, by asset key.
        directory: The directory where it is stored, relative to DEST.

    Returns:
        The document in the STAC version of the installed pystac. External links (licence, documentation,
        citation) are kept without credentials; navigation links of an API are removed. `via` and `canonical`
        link to its origin.
    """
    source = document if document is not None and not _too_deep(document) else {}
    known = core_members(identifier, source)
    assets = stored_assets(source.get("assets"), mirrored, directory, base)
    extra = {key: value for key, value in source.items() if key not in _CORE and value is not None}
    stored = _migrated({**extra, **known, "assets": assets}, _version(source))
    stored["stac_extensions"] = with_extensions(stored.get("stac_extensions"), assets, mirrored)
    links = stored_links(source.get("links"), base, _outward)
    stored["links"] = links + provenance_links(source.get("links"), base, links)
    return stored


def _too_deep(document: Json) -> bool:
    """Return whether a document is nested too deeply to be copied and written. No real collection is."""
    layer: list[Any] = [document]
    for _ in range(_DEEPEST):
        members = [value.values() if isinstance(value, dict) else value for value in layer]
        layer = [value for values in members for value in values if isinstance(value, (dict, list))]
        if not layer:
            return False
    return True


def _outward(rel: str, href: str) -> str | None:
    """Return the href of an external link, or None for a link to the tree or API of the source."""
    return None if rel in _NAVIGATION or rel.startswith("http") else cut_url(href)


def _migrated(document: Json, version: str) -> Json:
    """Return the document in pystac's STAC version.

    A document in a current version without extensions needs no migration. Then pystac is not used: to read
    one collection it imports all its extensions, which takes a tenth of the time of a small run.

    pystac does not see `deprecated`, because it would warn. That warning is for readers of the mirror.
    """
    if _CURRENT.fullmatch(version) and not document.get("stac_extensions"):
        return _in_order(document)
    held = {key: document[key] for key in ("deprecated",) if key in document}
    read = {key: value for key, value in document.items() if key not in held}
    read |= {"links": [], "stac_version": version}
    if _UNTYPED.match(version):
        del read["type"]  # documents of that version have none
    return {**_through_pystac(read), **held}


def _in_order(document: Json) -> Json:
    """Return a document in the current version, with the members and order that pystac would write."""
    found = {**document, "links": [], "stac_version": STAC_VERSION}
    found = {name: value for name, value in found.items() if name != "assets" or value}
    others = (name for name in found if name not in _CORE and name != "deprecated")
    return {name: found[name] for name in (*_FIRST, *others, *_LAST, "deprecated") if name in found}


def _through_pystac(document: Json) -> Json:
    import pystac  # noqa: PLC0415 - few collections need it

    try:
        with warnings.catch_warnings():
            # The user of a mirror cannot do anything about members that pystac could not migrate.
            warnings.simplefilter("ignore", UserWarning)
            collection = pystac.Collection.from_dict(document)
            return collection.to_dict(include_self_link=False, transform_hrefs=False)
    except Exception:  # noqa: BLE001  # the migration of an extension can raise any error
        held = {key: document[key] for key in ("summaries",) if key in document}
        read = {key: value for key, value in document.items() if key not in held} | {"type": "Collection"}
        collection = pystac.Collection.from_dict(read, migrate=False)
        return {**collection.to_dict(include_self_link=False, transform_hrefs=False), **held}


def _version(document: Json) -> str:
    version = document.get("stac_version")
    return version if isinstance(version, str) and _VERSION.fullmatch(version) else "1.0.0"


_LICENSE = re.compile(r"[\w\-.+]+")
_LEGACY_LICENSES = frozenset({"proprietary", "various"})  # `other` since STAC 1.1.0
_ROLES = frozenset({"producer", "licensor", "processor", "host"})
_WORLD = [-180.0, -90.0, 180.0, 90.0]
_INTERVAL_LENGTH = 2


def core_members(identifier: str, document: Json) -> Json:
    """Return the core members of a collection. The default extent is the whole world and all time."""
    description, title = document.get("description"), document.get("title")
    keywords, summaries = document.get("keywords"), document.get("summaries")
    members = {
        "id": identifier,
        "type": "Collection",
        "stac_extensions": _strings(document.get("stac_extensions")),
        "description": next((text for text in (description, title) if _is_text(text)), identifier),
        "title": title if _is_text(title) else None,
        "keywords": _strings(keywords),
        "providers": _providers(document.get("providers")),
        "summaries": _summaries(summaries),
        "extent": _extent(document.get("extent")),
        **_licence(document.get("license")),
    }
    return {key: value for key, value in members.items() if value or key == "stac_extensions"}


def _licence(licence: object) -> Json:
    """Return a valid `license` (an SPDX name or `other`), and other text as `source_license`."""
    text = licence.strip() if isinstance(licence, str) else ""
    if not text or text in _LEGACY_LICENSES:
        return {"license": "other"}
    return {"license": text} if _LICENSE.fullmatch(text) else {"license": "other", "source_license": text}


def _providers(providers: object) -> list[Json]:
    return [_provider(entry) for entry in objects_in(providers) if _is_text(entry.get("name"))]


def _provider(entry: Json) -> Json:
    kept = {key: value for key, value in entry.items() if key not in {"url", "description", "roles"}}
    kept |= {key: entry[key] for key in ("url", "description") if _is_text(entry.get(key))}
    roles = [role.lower() for role in _strings(entry.get("roles")) if role.lower() in _ROLES]
    return {**kept, "roles": roles} if roles else kept


def _summaries(summaries: object) -> Json:
    """Return the valid summaries: sets of values, ranges, JSON Schemas."""
    stated = object_or_empty(summaries)
    return {key: value for key, value in stated.items() if value and isinstance(value, (list, dict))}


def _extent(extent: object) -> Json:
    known = object_or_empty(extent)
    boxes = _boxes(object_or_empty(known.get("spatial")).get("bbox"))
    intervals = _intervals(object_or_empty(known.get("temporal")).get("interval"))
    return {
        "spatial": {"bbox": boxes or [_WORLD]},
        "temporal": {"interval": intervals or [[None, None]]},
    }


def _boxes(boxes: object) -> list[list[float]]:
    """Return the valid bboxes. Two alone are invalid, so a bbox around both is added as the first."""
    if not isinstance(boxes, list):
        return []
    usable = [boxes] if is_bbox(boxes) else [box for box in boxes if is_bbox(box)]
    return [_enclosing(usable), *usable] if len(usable) == 2 else usable  # noqa: PLR2004  # as documented


def _enclosing(boxes: list[list[float]]) -> list[float]:
    """Return west, south, east, north around all boxes: all longitudes if one crosses the antimeridian."""
    west, south, east, north = zip(*(flat(box) for box in boxes), strict=True)
    if any(w > e for w, e in zip(west, east, strict=True)):
        return [-180.0, min(south), 180.0, max(north)]
    return [min(west), min(south), max(east), max(north)]


def _intervals(intervals: object) -> list[list[str | None]]:
    """Return the valid intervals in UTC. A single interval may lack the enclosing list."""
    if not isinstance(intervals, list):
        return []
    if len(intervals) == _INTERVAL_LENGTH and not any(isinstance(end, list) for end in intervals):
        intervals = [intervals]
    return [
        [_utc(end) for end in interval]
        for interval in intervals
        if isinstance(interval, list) and len(interval) == _INTERVAL_LENGTH
    ]


def _utc(time: object) -> str | None:
    """Return an instant as RFC 3339 in UTC (also the default time zone), or None if it is invalid."""
    instant = parse_instant(time)
    try:
        return None if instant is None else rfc3339(instant.astimezone(UTC))
    except OverflowError:
        return None


def _strings(values: object) -> list[str]:
    return [value for value in list_or_empty(values) if isinstance(value, str)]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
