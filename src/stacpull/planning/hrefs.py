"""Resolves the hrefs of links and assets to absolute URLs.

A relative href is relative to the item's own URL: its `self` link if that is absolute, else the URL that it
was read from. Only remote schemes are fetched: a `file:` URL from a service is a path on the service's disk.
A local item may refer to local files; `transfer.local` decides which may be opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote, unquote

from stacpull.hosts import scheme_of
from stacpull.json_values import list_or_empty
from stacpull.models import Failure, FailureKind, ItemId, Json
from stacpull.schemes import remote_schemes
from stacpull.urls import is_local, is_remote, join, may_lead, parts_of, without_blanks


def asset_href(asset: Any, base: str | None) -> str | Failure:
    """Return the absolute href of an asset, or the failure if it has none that can be fetched."""
    href = asset.get("href") if isinstance(asset, dict) else None
    if isinstance(href, str):
        href = without_blanks(href)
    if not isinstance(href, str) or not href:
        return _unusable("it has no href" if href in (None, "") else "its href is not a string")
    if is_remote(href):
        return href
    absolute = join(base, href)
    if absolute is None:
        return _unusable("its href is relative, and the URL of the item is unknown")
    name = scheme_of(absolute)
    if not name:
        return _unusable("its href is a local path")
    absolute = name + absolute[len(name) :]
    if not may_lead(base, absolute):
        return _unusable(f"its href is a {name}: URL, and only {', '.join(remote_schemes())} are fetched")
    return absolute


def asset_hrefs(asset: Any, base: str | None, prefer: tuple[str, ...] = ()) -> tuple[str, ...] | Failure:
    """Return the absolute hrefs of an asset in order of preference, or the failure if there is none.

    Without `prefer` this is only its own href. With it, `alternate` hrefs are included (alternate-assets
    extension): first those with the first scheme in `prefer`, then the second, then all others. Within a
    scheme, the own href comes first. Hrefs that cannot be fetched are skipped.
    """
    own = asset_href(asset, base)
    if not prefer:
        return own if isinstance(own, Failure) else (own,)
    alternates = asset.get("alternate") if isinstance(asset, dict) else None
    if isinstance(alternates, dict):  # an object of them, or a single one
        alternates = [alternates] if isinstance(alternates.get("href"), str) else list(alternates.values())
    entries = list_or_empty(alternates)
    found = [own, *(asset_href(entry, base) for entry in entries)]
    usable = dict.fromkeys(href for href in found if isinstance(href, str))
    rank = {scheme: number for number, scheme in enumerate(prefer)}
    wanted = sorted(usable, key=lambda href: rank.get(href.partition(":")[0], len(rank)))
    return own if isinstance(own, Failure) and not wanted else tuple(wanted)


def self_href(item: Json, *, local: bool = False) -> str | None:
    """Return the item's `self` link if it is absolute. It may be a local file only if the item is `local`."""
    own = (href for rel, href in links_of(item) if rel == "self")
    return next((href for href in own if is_remote(href) or (local and is_local(href))), None)


def links_of(document: Json) -> Iterator[tuple[str, str]]:
    """Yield the rel and href of every link that has both as strings.

    An href may be any non-blank string: `parts_of` and `join` accept it.
    """
    for link in list_or_empty(document.get("links")):
        if isinstance(link, dict):
            rel, href = link.get("rel"), link.get("href")
            if isinstance(rel, str) and isinstance(href, str) and (href := without_blanks(href)):
                yield rel, href


def own_href(item_id: ItemId, page_url: str | None) -> str | None:
    """Return the URL of an item at its API, derived from the URL of its page, or None.

    This is for items without a `self` link. The path is that of OGC API Features, part 1, 7.16.
    """
    page, name = parts_of(page_url or ""), quote(item_id.item, safe="")
    path = page.path.rstrip("/")
    if not page.scheme or not path.endswith(("/items", "/search")):
        return None
    if path.endswith("/items"):
        path += f"/{name}"
    else:
        path = f"{path.removesuffix('search')}collections/{quote(item_id.collection, safe='')}/items/{name}"
    return page._replace(path=path, query="", fragment="").geturl()


def item_of(href: str) -> ItemId | None:
    """Return the item that an API's URL `…/collections/C/items/I` names, None for any other."""
    match parts_of(href).path.rstrip("/").split("/"):
        case [*_, "collections", collection, "items", item]:
            return ItemId(unquote(collection), unquote(item))
    return None


def source_links(
    item: Json, base_url: str | None, relations: Collection[str] | None = ("source",)
) -> tuple[str, ...]:
    """Return the distinct absolute hrefs of an item's links with these relations, in order.

    An invalid URL is returned unchanged, so that reading it is reported as a failure.
    """
    base = self_href(item, local=is_local(base_url)) or base_url
    hrefs = [href for rel, href in links_of(item) if relations is None or rel in relations]
    absolute = (join(base, href) or (href if base else None) for href in hrefs)
    return tuple(dict.fromkeys(href for href in absolute if href is not None))


def _unusable(why: str) -> Failure:
    return Failure(FailureKind.SCHEME, f"The asset cannot be fetched: {why}.")
