"""Assets and links of a stored document: mirrored assets get a relative href, others a remote one.

Guarantees: no returned href contains a credential or a signature; for any input, the result has valid assets
and links; the source's document is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Final

from stacpull.catalog.references import reference
from stacpull.json_values import list_or_empty, object_or_empty, objects_in
from stacpull.models import Json, MirroredFile
from stacpull.planning.prefixes import object_asset
from stacpull.redact import cut_url, unsigned_url
from stacpull.urls import is_remote, join, without_blanks

_SCHEMAS = "https://stac-extensions.github.io"
EXTENSION = f"{_SCHEMAS}/alternate-assets/v1.2.0/schema.json"
FILE_EXTENSION = f"{_SCHEMAS}/file/v2.1.0/schema.json"
FILE_FIELDS = _SIZE, _CHECKSUM = "file:size", "file:checksum"
_REPLACED = frozenset({*FILE_FIELDS, "alternate"})
_SHA256_MULTIHASH = b"\x12\x20"
"""Code and length in bytes (https://github.com/multiformats/multihash)."""
_WEB: Final = ("http://", "https://")
_SCRUBBED = "***"
"""The replacement of secrets by `redact.Secrets`."""

REMOTE_ASSETS = "stacpull:remote_assets"
"""The member of an item with the assets that are not in the mirror and whose hrefs do not last."""

COLLECTION_MIRROR = "collection-mirror"
"""Key and role of the asset for items.parquet."""


def stored_assets(
    assets: object, mirrored: Mapping[str, MirroredFile], directory: str, base: str | None
) -> Json:
    """Return the assets of a document (of any type) for the mirror.

    A mirrored asset has an href relative to `directory`, the size and SHA-256 of its file, and the source's
    statements in `alternate.origin`. Another asset has its remote href: relative ones are joined with `base`.
    Invalid entries are left out: those that are not objects, and remote ones whose href is not a string.
    """
    if not isinstance(assets, dict):
        return {}
    stored: Json = {}
    for key, asset in assets.items():
        if not isinstance(asset, dict):
            continue
        file, href = mirrored.get(key), asset.get("href")
        remote = remote_href(href, base) if isinstance(href, str) and href else None
        if file is not None:
            stored[key] = _local_asset(asset, file, directory, remote, base)
        elif remote is not None:
            stored[key] = {**asset, "href": remote}
            if "alternate" in asset:
                stored[key]["alternate"] = _alternates(asset["alternate"], base)
    for key in mirrored.keys() - assets.keys():  # the item, read again, has prefixes instead of objects
        found = object_asset(assets, key)
        if found is not None:
            remote = remote_href(found["href"], base)
            stored[key] = _local_asset(found, mirrored[key], directory, remote, base)
    return stored


def remote_assets(document: Json, mirrored: Container[str], base: str | None) -> frozenset[str]:
    """Return the keys of an item's assets that belong in `REMOTE_ASSETS` instead of `assets`.

    These assets are not in the mirror, and their href does not last: it is signed, needs a credential,
    contains an expiring token (MLHub), or is not an http, https or s3 URL.
    """
    assets = object_or_empty(document.get("assets"))
    moved = {key for key, asset in assets.items() if key not in mirrored and not _is_lasting(asset, base)}
    noted = object_or_empty(document.get(REMOTE_ASSETS))
    return frozenset(moved) | {key for key in noted if key not in mirrored}


def _is_lasting(asset: object, base: str | None) -> bool:
    href = object_or_empty(asset).get("href")
    if not isinstance(href, str):
        return False
    url = join(base, href) or without_blanks(href)
    return is_remote(url) and unsigned_url(url) == url and _SCRUBBED not in url


def note_cut_hrefs(document: Json) -> Json:
    """Return an item in which `REMOTE_ASSETS` lists the assets whose hrefs contain a credential or signature.

    Call it before these are removed: an href without its signature looks like any other, but does not work.
    """
    assets = object_or_empty(document.get("assets"))
    hrefs = ((key, asset.get("href")) for key, asset in assets.items() if isinstance(asset, dict))
    found: Json = {key: {} for key, href in hrefs if isinstance(href, str) and cut_url(href) != href}
    if not found:
        return document
    return {**document, REMOTE_ASSETS: {**found, **object_or_empty(document.get(REMOTE_ASSETS))}}


def with_extensions(extensions: object, assets: Json, mirrored: Container[str]) -> list[str]:
    """Return `stac_extensions` as a list of distinct strings, including the extensions of stored assets."""
    names = list(dict.fromkeys(name for name in list_or_empty(extensions) if isinstance(name, str)))
    used = {
        EXTENSION: any("alternate" in asset for asset in assets.values()),
        FILE_EXTENSION: any(
            name in asset for key, asset in assets.items() if key in mirrored for name in FILE_FIELDS
        ),
    }
    for extension, is_used in used.items():
        any_version = extension.rsplit("/", 2)[0] + "/"
        if is_used and not any(name.startswith(any_version) for name in names):
            names.append(extension)
    return names


def stored_links(links: object, base: str | None, keep: Callable[[str, str], str | None]) -> list[Json]:
    """Return links with new hrefs from `keep(rel, absolute href)`, which returns None to leave a link out.

    Links without `rel` or `href` are left out, too. `keep` gets the href with credentials, and must return
    one without.
    """
    stored: list[Json] = []
    for link in objects_in(links):
        rel, href = link.get("rel"), link.get("href")
        if isinstance(rel, str) and rel and isinstance(href, str) and href:
            kept = keep(rel, join(base, href) or href)
            if kept:
                stored.append({**link, "href": kept})
    return stored


def provenance_links(links: object, base: str | None, stored: Iterable[Json]) -> list[Json]:
    """Return links to the origin of a document, except those that are already stored.

    They are `via`, the URL that the document was read from, and `canonical`, its own `self` link if it has
    one. Local paths are left out, because they mean nothing elsewhere.
    """
    known = {(link["rel"], link["href"]) for link in stored} | {(link["rel"], "") for link in stored}
    hrefs = [link.get("href") for link in objects_in(links) if link.get("rel") == "self"]
    own = next((remote_href(href, None) for href in hrefs if isinstance(href, str) and is_remote(href)), None)
    read = remote_href(base, None) if base is not None and is_remote(base) else own
    found = [("via", read, read), ("canonical", own or read, "")]
    return [
        {"rel": rel, "href": href, "type": "application/json"}
        for rel, href, known_by in found
        if href is not None and (rel, known_by) not in known
    ]


def remote_href(href: str, base: str | None) -> str:
    """Return an absolute href without credentials and signatures."""
    is_plain = href.isascii() and href.isprintable() and not (" " in href or "?" in href or "@" in href)
    if is_plain and href.startswith(_WEB):
        return href  # the common case: absolute, with nothing to remove
    return cut_url(join(base, href) or without_blanks(href))


def _local_asset(
    asset: Json, file: MirroredFile, directory: str, remote: str | None, base: str | None
) -> Json:
    """Return a mirrored asset with `remote` as its `alternate.origin`.

    The size and checksum of the asset are those of the file; the origin has those that the source states. An
    origin in the source, which is then also a mirror, becomes `earlier-origin`. A relative `remote` is not an
    origin, so that storing twice gives the same result.
    """
    stored: Json = {**asset, "href": reference(file.path, directory)}
    stated: Json = {}
    if not _REPLACED.isdisjoint(asset):  # they are added at the end, in a fixed order
        stated = {name: asset[name] for name in FILE_FIELDS if name in asset}
        stored = {key: value for key, value in stored.items() if key not in _REPLACED}
    of_file = stated
    if file.clip is not None:
        described = {**stored, **file.clip.fields}
        stored, of_file = {name: value for name, value in described.items() if value is not None}, {}
    if file.size is not None:
        stored[_SIZE] = file.size
    elif _SIZE in of_file:
        stored[_SIZE] = of_file[_SIZE]
    if file.sha256 is not None:
        stored[_CHECKSUM] = (_SHA256_MULTIHASH + file.sha256).hex()
    elif _CHECKSUM in of_file:
        stored[_CHECKSUM] = of_file[_CHECKSUM]
    alternates = _alternates(asset["alternate"], base) if "alternate" in asset else {}
    if remote is not None and not remote.startswith("."):
        earlier, origin = alternates.get("origin"), {"href": remote, **stated} if stated else {"href": remote}
        alternates["origin"] = origin
        if earlier is not None and earlier != origin:
            alternates["earlier-origin"] = earlier
    if alternates:
        stored["alternate"] = alternates
    return stored


def _alternates(alternates: object, base: str | None) -> dict[str, Any]:
    """Return the alternates by name, without credentials. Entries of a list are named by position from 1."""
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
