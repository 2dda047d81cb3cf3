"""The core members of a collection, made usable: what STAC 1.1.0 requires is there and has its type.

Promise: pure, no exception on any JSON; a usable value of the source's is kept as it is.
Rules are those of the collection schema of STAC 1.1.0 (schemas.stacspec.org).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from stacpull.models import Json

CORE = frozenset(
    [
        "id",
        "type",
        "stac_version",
        "stac_extensions",
        "title",
        "description",
        "keywords",
        "license",
        "providers",
        "extent",
        "summaries",
        "assets",
        "links",
    ]
)
"""Members that are checked; all others are extension fields and pass as they are."""

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
    usable = [boxes] if _is_bbox(boxes) else [box for box in boxes if _is_bbox(box)]
    return [_enclosing(usable), *usable] if len(usable) == 2 else usable  # noqa: PLR2004  # as documented


def _enclosing(boxes: list[list[float]]) -> list[float]:
    """Return west, south, east, north around all boxes; one over the antimeridian makes it all longitudes."""
    west, south, east, north = zip(*(_flat(box) for box in boxes), strict=True)
    if any(w > e for w, e in zip(west, east, strict=True)):
        return [-180.0, min(south), 180.0, max(north)]
    return [min(west), min(south), max(east), max(north)]


def _flat(box: list[float]) -> list[float]:
    return box if len(box) == _BBOX_LENGTHS[0] else [box[0], box[1], box[3], box[4]]


def _is_bbox(box: object) -> bool:
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
