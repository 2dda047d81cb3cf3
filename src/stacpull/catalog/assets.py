"""Assets and links of a stored document: what is here gets a relative href, the rest its remote one.

Promises: no href that leaves here carries a credential or a signature; whatever a source calls assets or
links, the result is what STAC calls so; the source's document is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

from stacpull.catalog.references import reference
from stacpull.models import Json
from stacpull.planning.hrefs import without_blanks
from stacpull.planning.prefixes import object_of
from stacpull.redact import cut_url

__all__ = ["EXTENSION", "remote_href", "stored_assets", "stored_links", "with_extension"]

EXTENSION = "https://stac-extensions.github.io/alternate-assets/v1.2.0/schema.json"
_EXTENSION_ANY_VERSION = "https://stac-extensions.github.io/alternate-assets/"
_ABSOLUTE = ("https://", "http://", "s3://")


def stored_assets(assets: object, here: Mapping[str, str], directory: str, base: str | None) -> Json:
    """Rewrite the assets of a document stored in `directory` (relative to DEST).

    Args:
        assets: The `assets` member as the source has it, of any shape.
        here: Asset key → path relative to DEST, for those that are in the mirror.
        directory: Where the document is stored.
        base: URL of the source's document, against which its relative hrefs are resolved, if known.

    Returns:
        Asset key → asset. One that is here has a relative href, and the source's under `alternate.origin`;
        one that is elsewhere has its remote href. An entry that is no object, and one that is elsewhere and
        has no href (or a list of them), is no asset by STAC and is left out.
    """
    if not isinstance(assets, dict):
        return {}
    stored: Json = {}
    for key, asset in assets.items():
        if not isinstance(asset, dict):
            continue
        path = here.get(key)
        href = asset.get("href")
        remote = remote_href(href, base) if isinstance(href, str) and href else None
        if path is not None:
            stored[key] = _local_asset(asset, reference(path, directory), remote, base)
        elif remote is not None:
            stored[key] = _remote_asset(asset, remote, base)
    for key in here.keys() - assets.keys():  # the item was read again, and has prefixes where we have objects
        found = object_of(assets, key)
        if found is not None:
            path = reference(here[key], directory)
            stored[key] = _local_asset(found, path, remote_href(found["href"], base), base)
    return stored


def with_extension(extensions: object, assets: Json) -> list[str]:
    """Return `stac_extensions` as a list of distinct strings, alternate-assets in it if an asset uses it."""
    names = [name for name in extensions if isinstance(name, str)] if isinstance(extensions, list) else []
    names = list(dict.fromkeys(names))
    if any(name.startswith(_EXTENSION_ANY_VERSION) for name in names):
        return names
    return [*names, EXTENSION] if any("alternate" in asset for asset in assets.values()) else names


def stored_links(links: object, base: str | None, keep: Callable[[str, str], str | None]) -> list[Json]:
    """Rewrite links: `keep(rel, absolute href)` gives each its new href, or None to leave it out.

    What lacks a `rel` or an `href` is no link, and left out too. The href that `keep` sees still has its
    credentials; what it returns is written down.
    """
    stored: list[Json] = []
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict):
            continue
        rel, href = link.get("rel"), link.get("href")
        if isinstance(rel, str) and rel and isinstance(href, str) and href:
            kept = keep(rel, _absolute(href, base))
            if kept:
                stored.append({**link, "href": kept})
    return stored


def remote_href(href: str, base: str | None) -> str:
    """Return a source's href made absolute, credentials and signatures cut."""
    return cut_url(_absolute(without_blanks(href), base))


def _local_asset(asset: Json, href: str, remote: str | None, base: str | None) -> Json:
    """Return an asset that is here, at `href`; `remote` becomes its `alternate.origin`.

    An origin that the source states itself (it is a mirror too) stays, as `earlier-origin`. An href that is
    still relative leads nowhere from here and is no origin: so storing twice is storing once.
    """
    alternates = _alternates(asset.get("alternate"), base)
    if remote is not None and not remote.startswith("."):
        origin, earlier = {"href": remote}, alternates.get("origin")
        alternates["origin"] = origin
        if earlier is not None and earlier != origin:
            alternates["earlier-origin"] = earlier
    return {**asset, "href": href, "alternate": alternates} if alternates else {**asset, "href": href}


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


def _absolute(href: str, base: str | None) -> str:
    if base is None or href.startswith(_ABSOLUTE):
        return href
    try:
        if base.startswith("s3://"):  # which urljoin does not know as hierarchical
            joined = urljoin("https://" + base[5:], href)
            return "s3://" + joined[8:] if joined.startswith("https://") else joined
        return urljoin(base, href)
    except ValueError:  # "http://[": no URL, and nothing else to make of it
        return href
