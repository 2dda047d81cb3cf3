"""A collection as it is stored: the source's document, brought to the STAC version that pystac writes.

Promise: whatever the source sent, what comes out is a valid STAC collection with the id it is stored under;
licence, providers, citation, summaries and every extension field are kept where they are usable at all.

pystac knows how old versions (1.0.0-beta.2 of MLHub) become new ones, but trusts what it reads. So the core
members are made usable first (`members`), then pystac migrates. Where an extension's migration fails even so,
its fields stay as the source wrote them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from stacpull.catalog.item_assets import provenance_links, stored_assets, stored_links, with_extensions
from stacpull.catalog.members import CORE, core_members
from stacpull.models import Json, MirroredFile
from stacpull.redact import cut_url

_VERSION = re.compile(r"(0\.[89]|1\.[01])\.\d+(-(alpha|beta|rc)\.\d+)?")
STAC_VERSION = "1.1.0"
"""What pystac writes."""
_CURRENT = re.compile(r"1\.[01]\.\d+")
_FIRST = ("type", "id", "stac_version", "description", "links")
_LAST = ("title", "extent", "license", "keywords", "providers", "summaries", "assets", "deprecated")
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
    extra = {key: value for key, value in source.items() if key not in CORE and value is not None}
    stored = _migrated({**extra, **known, "assets": assets}, _version(source))
    stored["stac_extensions"] = with_extensions(stored.get("stac_extensions"), assets, here)
    links = stored_links(source.get("links"), base, _outward)
    stored["links"] = links + provenance_links(source.get("links"), base, links)
    return stored


def _too_deep(document: Json) -> bool:
    """Tell whether it is nested past what copying and writing it could bear: no collection is."""
    layer: list[Any] = [document]
    for _ in range(_DEEPEST):
        members = [value.values() if isinstance(value, dict) else value for value in layer]
        layer = [value for values in members for value in values if isinstance(value, (dict, list))]
        if not layer:
            return False
    return True


def _outward(rel: str, href: str) -> str | None:
    """Keep links out of the tree; those to pages and endpoints of the source's API say nothing here."""
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
    others = (name for name in found if not (name in _FIRST or name in _LAST or name == "stac_extensions"))
    return {name: found[name] for name in (*_FIRST, *others, *_LAST) if name in found}


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
