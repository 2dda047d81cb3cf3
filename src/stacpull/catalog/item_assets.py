"""Assets and links of a stored document: an asset in the mirror gets a relative href, others a remote one.

Promises: no href that is returned carries a credential or a signature; whatever a source calls assets or
links, the result is what STAC calls so; the source's document is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final

from stacpull.catalog.references import reference
from stacpull.models import Clip, Json, MirroredFile
from stacpull.planning.prefixes import object_of
from stacpull.redact import cut_url, unsigned_url
from stacpull.urls import is_remote, join, without_blanks

_SCHEMAS = "https://stac-extensions.github.io"
EXTENSION = f"{_SCHEMAS}/alternate-assets/v1.2.0/schema.json"
FILE_EXTENSION = f"{_SCHEMAS}/file/v2.1.0/schema.json"
FILE_FIELDS = ("file:size", "file:checksum")
_REPLACED = frozenset({*FILE_FIELDS, "alternate"})
_SHA256_MULTIHASH = b"\x12\x20"
"""Code and length in bytes (https://github.com/multiformats/multihash)."""
_OF_THE_EXTENT = ("proj:shape", "proj:transform", "proj:bbox", "proj:geometry", "proj:centroid")
_WEB: Final = ("http://", "https://")
_SCRUBBED = "***"
"""What `redact.Secrets` puts in the place of a secret."""

REMOTE_ASSETS = "stacpull:remote_assets"
"""The member of an item that lists the assets that are not in the mirror and whose hrefs do not last."""

COLLECTION_MIRROR = "collection-mirror"
"""Key and role of the asset for the file that holds the items."""


def stored_assets(assets: object, here: Mapping[str, MirroredFile], directory: str, base: str | None) -> Json:
    """Rewrite the assets of a document stored in `directory` (relative to DEST).

    Args:
        assets: The `assets` member as the source has it, of any shape.
        here: The files of the assets that are in the mirror, by asset key.
        directory: Where the document is stored.
        base: URL of the source's document, against which its relative hrefs are resolved, if known.

    Returns:
        Asset key → asset. One that is here has a relative href, the size and the SHA-256 of its file, and
        under `alternate.origin` what the source states; one that is elsewhere has its remote href. An entry
        that is not an object, and one that is elsewhere without an href (or with a list), is not an asset by
        STAC and is left out.
    """
    if not isinstance(assets, dict):
        return {}
    stored: Json = {}
    for key, asset in assets.items():
        if not isinstance(asset, dict):
            continue
        file = here.get(key)
        href = asset.get("href")
        remote = remote_href(href, base) if isinstance(href, str) and href else None
        if file is not None:
            stored[key] = _local_asset(asset, file, directory, remote, base)
        elif remote is not None:
            stored[key] = _remote_asset(asset, remote, base)
    for key in here.keys() - assets.keys():  # the item was read again, and has prefixes where we have objects
        found = object_of(assets, key)
        if found is not None:
            stored[key] = _local_asset(found, here[key], directory, remote_href(found["href"], base), base)
    return stored


def remote_assets(document: Json, here: Container[str], base: str | None) -> frozenset[str]:
    """Return the keys of an item's assets that belong in `REMOTE_ASSETS`, not in `assets`.

    These are the assets that are not in the mirror and have no lasting href: it is signed, needs a
    credential, holds an expiring token (MLHub), or is not a URL of http, https or s3.

    Args:
        document: The item, as the source sent it or as `note_cut_hrefs` returned it.
        here: The keys of the assets that are in the mirror.
        base: The item's own URL, against which relative hrefs are resolved.
    """
    assets, noted = document.get("assets"), document.get(REMOTE_ASSETS)
    moved = frozenset(noted) if isinstance(noted, dict) else frozenset()
    if isinstance(assets, dict):
        moved |= {key for key, asset in assets.items() if key not in here and not _is_lasting(asset, base)}
    return frozenset(key for key in moved if key not in here)


def _is_lasting(asset: object, base: str | None) -> bool:
    href = asset.get("href") if isinstance(asset, dict) else None
    if not isinstance(href, str):
        return False
    url = join(base, href) or without_blanks(href)
    return is_remote(url) and unsigned_url(url) == url and _SCRUBBED not in url


def note_cut_hrefs(document: Json) -> Json:
    """Return an item in which `REMOTE_ASSETS` names the assets whose hrefs hold a credential or signature.

    It is called before these are cut: a signed href that was cut looks like any other, and leads nowhere.
    """
    assets, noted = document.get("assets"), document.get(REMOTE_ASSETS)
    if not isinstance(assets, dict):
        return document
    hrefs = ((key, asset.get("href")) for key, asset in assets.items() if isinstance(asset, dict))
    found: Json = {key: {} for key, href in hrefs if isinstance(href, str) and cut_url(href) != href}
    if not found:
        return document
    return {**document, REMOTE_ASSETS: {**found, **(noted if isinstance(noted, dict) else {})}}


def with_extensions(extensions: object, assets: Json, here: Container[str]) -> list[str]:
    """Return `stac_extensions` as a list of distinct strings, with the extensions that stored assets use.

    Args:
        extensions: The `stac_extensions` member as the source has it, of any shape.
        assets: The assets as they are stored.
        here: The keys of those that are in the mirror.
    """
    names = [name for name in extensions if isinstance(name, str)] if isinstance(extensions, list) else []
    names = list(dict.fromkeys(names))
    used = {
        EXTENSION: any("alternate" in asset for asset in assets.values()),
        FILE_EXTENSION: any(
            name in asset for key, asset in assets.items() if key in here for name in FILE_FIELDS
        ),
    }
    for extension, is_used in used.items():
        any_version = extension.rsplit("/", 2)[0] + "/"
        if is_used and not any(name.startswith(any_version) for name in names):
            names.append(extension)
    return names


def stored_links(links: object, base: str | None, keep: Callable[[str, str], str | None]) -> list[Json]:
    """Rewrite links: `keep(rel, absolute href)` gives each its new href, or None to leave it out.

    What lacks a `rel` or an `href` is not a link, and left out too. The href that `keep` sees still has its
    credentials; what it returns is written down.
    """
    stored: list[Json] = []
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict):
            continue
        rel, href = link.get("rel"), link.get("href")
        if isinstance(rel, str) and rel and isinstance(href, str) and href:
            kept = keep(rel, join(base, href) or href)
            if kept:
                stored.append({**link, "href": kept})
    return stored


def provenance_links(links: object, base: str | None, stored: Iterable[Json]) -> list[Json]:
    """Return the links that say where a document came from, except those that are stored already.

    Args:
        links: The `links` member as the source has it, of any shape.
        base: The URL that the document was read from, if known.
        stored: The links that are stored.

    Returns:
        `via`, the URL that the document was read from, and `canonical`, its own `self` link if it has one. A
        place on a disk is not such a URL: it means nothing elsewhere.
    """
    known = {(link["rel"], link["href"]) for link in stored} | {(link["rel"], "") for link in stored}
    own = next((href for rel, href in _remote_links(links) if rel == "self"), None)
    read = remote_href(base, None) if base is not None and is_remote(base) else own
    found = [("via", read, read), ("canonical", own or read, "")]
    return [
        {"rel": rel, "href": href, "type": "application/json"}
        for rel, href, known_by in found
        if href is not None and (rel, known_by) not in known
    ]


def _remote_links(links: object) -> Iterator[tuple[str, str]]:
    for link in links if isinstance(links, list) else ():
        rel, href = (link.get("rel"), link.get("href")) if isinstance(link, dict) else (None, None)
        if isinstance(rel, str) and isinstance(href, str) and is_remote(href):
            yield rel, remote_href(href, None)


def remote_href(href: str, base: str | None) -> str:
    """Return a source's href made absolute, credentials and signatures cut."""
    is_plain = href.isascii() and href.isprintable() and not (" " in href or "?" in href or "@" in href)
    if is_plain and href.startswith(_WEB):
        return href  # nearly all: absolute, with nothing to cut
    return cut_url(join(base, href) or without_blanks(href))


def _local_asset(
    asset: Json, file: MirroredFile, directory: str, remote: str | None, base: str | None
) -> Json:
    """Return an asset that is in the mirror; `remote` becomes its `alternate.origin`.

    The origin keeps the size and the checksum that the source states: those of the asset are the file's. An
    origin that the source states itself (it is a mirror too) stays, as `earlier-origin`. An href that is
    still relative leads nowhere from here and is not an origin: so storing twice is storing once.
    """
    source, stored = asset, {**asset, "href": reference(file.path, directory)}
    if not _REPLACED.isdisjoint(stored):  # they are put at the end, in an order that is always the same
        stored = {key: value for key, value in stored.items() if key not in _REPLACED}
    if file.clip is not None:
        stored = _clipped(stored, file.clip)
        asset = {name: value for name, value in asset.items() if name not in FILE_FIELDS}  # of the whole
    measured = file.size, None if file.sha256 is None else (_SHA256_MULTIHASH + file.sha256).hex()
    for name, value in zip(FILE_FIELDS, measured, strict=True):  # always in this order: the same bytes
        if value is not None:
            stored[name] = value
        elif name in asset:
            stored[name] = asset[name]
    alternates = _with_origin(source, remote, base)
    if alternates:
        stored["alternate"] = alternates
    return stored


def _with_origin(asset: Json, remote: str | None, base: str | None) -> Json:
    """Return the alternates of an asset, with its place at the source."""
    alternates = _alternates(asset["alternate"], base) if "alternate" in asset else {}
    if remote is not None and not remote.startswith("."):
        origin, earlier = {"href": remote}, alternates.get("origin")
        for name in FILE_FIELDS:
            if name in asset:
                origin[name] = asset[name]
        alternates["origin"] = origin
        if earlier is not None and earlier != origin:
            alternates["earlier-origin"] = earlier
    return alternates


def _clipped(asset: Json, clip: Clip) -> Json:
    """Return an asset of which a part is in the mirror, with where that is (projection extension).

    What the source states of the extent of the whole is left out, or replaced if it can be.
    """
    a, b, c, d, e, f = clip.transform
    rows, columns = clip.shape
    xs = [a * x + b * y + c for x in (0, columns) for y in (0, rows)]
    ys = [d * x + e * y + f for x in (0, columns) for y in (0, rows)]
    stored = {name: value for name, value in asset.items() if name not in _OF_THE_EXTENT}
    stored["proj:shape"] = [rows, columns]
    stored["proj:transform"] = list(clip.transform)
    stored["proj:bbox"] = [min(xs), min(ys), max(xs), max(ys)]
    return stored


def _remote_asset(asset: Json, remote: str, base: str | None) -> Json:
    if "alternate" not in asset:
        return {**asset, "href": remote}
    return {**asset, "href": remote, "alternate": _alternates(asset["alternate"], base)}


def _alternates(alternates: object, base: str | None) -> dict[str, Any]:
    """Return a source's alternates by name, hrefs cut; a list gets its positions (from 1) as names."""
    if not alternates:
        return {}
    if isinstance(alternates, list):
        alternates = {str(position): entry for position, entry in enumerate(alternates, 1)}
    if not isinstance(alternates, dict):
        return {}
    return {
        name: {**entry, "href": remote_href(entry["href"], base)}
        for name, entry in alternates.items()
        if isinstance(entry, dict) and isinstance(entry.get("href"), str)
    }


def with_items_parquet(document: Json, href: str) -> Json:
    """Return a collection with an asset for items.parquet (stac-geoparquet, "Referencing")."""
    asset = {
        "href": href,
        "type": "application/vnd.apache.parquet",
        "title": "Items as stac-geoparquet",
        "roles": [COLLECTION_MIRROR],
    }
    return {**document, "assets": {**document.get("assets", {}), COLLECTION_MIRROR: asset}}


def without_items_parquet(document: Json) -> Json:
    """Return a collection without the asset of `with_items_parquet`."""
    assets = document.get("assets")
    if not isinstance(assets, dict) or not isinstance(asset := assets.get(COLLECTION_MIRROR), dict):
        return document
    if not str(asset.get("href")).startswith("../"):
        return document  # of the source
    return {**document, "assets": {key: one for key, one in assets.items() if key != COLLECTION_MIRROR}}
