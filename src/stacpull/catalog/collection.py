"""A collection as it is stored: the source's document, brought to the STAC version that pystac writes.

Promise: whatever the source sent, what comes out is a valid STAC collection with the id it is stored under;
licence, providers, citation, summaries and every extension field are kept where they are usable at all.

pystac knows how old versions (1.0.0-beta.2 of MLHub) become new ones, but trusts what it reads. So the core
members are made usable first, by the collection schema of STAC 1.1.0 (schemas.stacspec.org), then pystac
migrates. Where an extension's migration fails even so, its fields stay as the source wrote them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeGuard

from stacpull.catalog.item_assets import provenance_links, stored_assets, stored_links, with_extensions
from stacpull.models import Json, MirroredFile
from stacpull.redact import cut_url

_VERSION = re.compile(r"(0\.[89]|1\.[01])\.\d+(-(alpha|beta|rc)\.\d+)?")
STAC_VERSION = "1.1.0"
"""What pystac writes."""
_CURRENT = re.compile(r"1\.[01]\.\d+")
_FIRST = ("type", "id", "stac_version", "description", "links")
_LAST = ("title", "extent", "license", "keywords", "providers", "summaries", "assets")
_CORE = frozenset((*_FIRST, "stac_extensions", *_LAST))
"""Members that are checked; all others are extension fields and pass as they are."""
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
    here: Mapping[str, MirroredFile] = MappingProxyType({}),
    directory: str = "",
) -> Json:
    """Return the collection's own JSON, without links into the mirror: the caller adds those.

    Args:
        identifier: The id it is stored under.
        document: The source's document, None if it could not be read; not changed.
        base: URL of the source's document, if known.
        here: The files of its own assets that are in the mirror, by asset key.
        directory: Where it is stored, relative to DEST.

    Returns:
        The document in the STAC version of the installed pystac. Links that lead to other places (licence,
        documentation, citation) are kept, credentials cut; those by which an API is walked are not. `via` and
        `canonical` say where it came from.
    """
    source = document if document is not None and not _too_deep(document) else {}
    known = core_members(identifier, source)
    assets = stored_assets(source.get("assets"), here, directory, base)
    extra = {key: value for key, value in source.items() if key not in _CORE and value is not None}
    stored = _migrated({**extra, **known, "assets": assets}, _version(source))
    stored["stac_extensions"] = with_extensions(stored.get("stac_extensions"), assets, here)
    links = stored_links(source.get("links"), base, _outward)
    stored["links"] = links + provenance_links(source.get("links"), base, links)
    return stored


def _too_deep(document: Json) -> bool:
    """Return True if a document is nested too deeply to be copied and written. No real collection is."""
    layer: list[Any] = [document]
    for _ in range(_DEEPEST):
        members = [value.values() if isinstance(value, dict) else value for value in layer]
        layer = [value for values in members for value in values if isinstance(value, (dict, list))]
        if not layer:
            return False
    return True


def _outward(rel: str, href: str) -> str | None:
    """Keep links that lead out of the tree, without those to pages and endpoints of the source's API."""
    return None if rel in _NAVIGATION or rel.startswith("http") else cut_url(href)


def _migrated(document: Json, version: str) -> Json:
    """Return the document in pystac's STAC version.

    A document without extensions in a current version already is what pystac would make of it. pystac is
    spared then: to read one collection it imports all its extensions, a tenth of the time of a small run.

    `deprecated` is held apart: pystac warns of it when it reads, and a warning is for who uses the mirror.
    """
    if _CURRENT.fullmatch(version) and not document.get("stac_extensions"):
        return _in_order(document)
    held = {key: document[key] for key in ("deprecated",) if key in document}
    read = {key: value for key, value in document.items() if key not in held}
    read |= {"links": [], "stac_version": version}
    if _UNTYPED.match(version):
        del read["type"]  # a document of that version has none
    return {**_through_pystac(read), **held}


def _in_order(document: Json) -> Json:
    """Return a document in a current version, its members in pystac's order, without those it leaves out."""
    found = {**document, "links": [], "stac_version": STAC_VERSION}
    found = {name: value for name, value in found.items() if name != "assets" or value}
    others = (name for name in found if name not in _CORE and name != "deprecated")
    return {name: found[name] for name in (*_FIRST, *others, *_LAST, "deprecated") if name in found}


def _through_pystac(document: Json) -> Json:
    import pystac  # noqa: PLC0415 - few collections need it

    try:
        with warnings.catch_warnings():
            # What pystac could not migrate stays as it was; the user of a mirror cannot do anything about it.
            warnings.simplefilter("ignore", UserWarning)
            collection = pystac.Collection.from_dict(document)
            return collection.to_dict(include_self_link=False, transform_hrefs=False)
    except Exception:  # noqa: BLE001  # an extension's migration met what it did not expect: any error at all
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
_BBOX_LENGTHS = (4, 6)
_INTERVAL_LENGTH = 2


def core_members(identifier: str, document: Json) -> Json:
    """Return the core members of a collection; an extent that it does not state is the world, always."""
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
    """Return `license` as STAC wants it (one SPDX name, or `other`); other wording is kept beside it."""
    if not _is_text(licence):
        return {"license": "other"}
    text = str(licence).strip()
    if text in _LEGACY_LICENSES:
        return {"license": "other"}
    return {"license": text} if _LICENSE.fullmatch(text) else {"license": "other", "source_license": text}


def _providers(providers: object) -> list[Json]:
    if not isinstance(providers, list):
        return []
    return [
        _provider(entry) for entry in providers if isinstance(entry, dict) and _is_text(entry.get("name"))
    ]


def _provider(entry: Json) -> Json:
    kept = {key: value for key, value in entry.items() if key not in {"url", "description", "roles"}}
    kept |= {key: entry[key] for key in ("url", "description") if _is_text(entry.get(key))}
    roles = [role.lower() for role in _strings(entry.get("roles")) if role.lower() in _ROLES]
    return {**kept, "roles": roles} if roles else kept


def _summaries(summaries: object) -> Json:
    """Keep what can be a summary: a set of values, a range, a JSON Schema."""
    if not isinstance(summaries, dict):
        return {}
    return {key: value for key, value in summaries.items() if value and isinstance(value, (list, dict))}


def _extent(extent: object) -> Json:
    known = extent if isinstance(extent, dict) else {}
    spatial, temporal = known.get("spatial"), known.get("temporal")
    boxes = _boxes(spatial.get("bbox") if isinstance(spatial, dict) else None)
    intervals = _intervals(temporal.get("interval") if isinstance(temporal, dict) else None)
    return {
        "spatial": {"bbox": boxes or [_WORLD]},
        "temporal": {"interval": intervals or [[None, None]]},
    }


def _boxes(boxes: object) -> list[list[float]]:
    """Return usable bboxes; of two make three, the first around both: two alone are invalid."""
    if not isinstance(boxes, list):
        return []
    usable = [boxes] if is_bbox(boxes) else [box for box in boxes if is_bbox(box)]
    return [_enclosing(usable), *usable] if len(usable) == 2 else usable  # noqa: PLR2004  # as documented


def _enclosing(boxes: list[list[float]]) -> list[float]:
    """Return west, south, east, north around all boxes; one over the antimeridian makes it all longitudes."""
    west, south, east, north = zip(*(flat_bbox(box) for box in boxes), strict=True)
    if any(w > e for w, e in zip(west, east, strict=True)):
        return [-180.0, min(south), 180.0, max(north)]
    return [min(west), min(south), max(east), max(north)]


def flat_bbox(box: list[float]) -> list[float]:
    """Return west, south, east, north of a bbox that may have heights (RFC 7946, 5)."""
    return box if len(box) == _BBOX_LENGTHS[0] else [box[0], box[1], box[3], box[4]]


def is_bbox(box: object) -> TypeGuard[list[float]]:
    """Return True for a list of four numbers, or six with heights."""
    return (
        isinstance(box, list)
        and len(box) in _BBOX_LENGTHS
        and all(isinstance(edge, (int, float)) and not isinstance(edge, bool) for edge in box)
    )


def _intervals(intervals: object) -> list[list[str | None]]:
    """Return usable intervals, in UTC; a single one may come without the list around it."""
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
    """Return an instant as RFC 3339 in UTC, None if it cannot be read; without a zone it is taken for UTC."""
    if not isinstance(time, str):
        return None
    try:
        instant = datetime.fromisoformat(time.strip())
        zoned = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        return zoned.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return None


def _strings(values: object) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
