"""The hrefs of links and assets: their absolute URLs, what is behind them, and the suffix of a file.

Only remote schemes are fetched: a `file:` URL of a service is a path on its disk. Web pages, computed
previews (`tilejson` at Planetary Computer) and directories (`data` at Sentinel Hub) are not files.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, unquote

import orjson

from stacpull.caches import cached_if_short
from stacpull.hosts import host_of, origin_text, scheme_of
from stacpull.json_values import list_or_empty, media_type_of, object_or_empty, objects_in
from stacpull.models import Failure, FailureKind, ItemId, Json
from stacpull.schemes import remote_schemes
from stacpull.urls import is_local, is_remote, join, may_link_to, parts_of, scheme_rules, without_blanks

AssetKind = Literal["file", "web page", "prefix"]
"""A web page, or an endpoint that computes its answer, a prefix a directory or part of a bucket."""

_KIND_OF_TYPE: Final[dict[str, AssetKind]] = {
    "text/html": "web page",
    "application/xhtml+xml": "web page",
    "inode/directory": "prefix",
    "application/x-directory": "prefix",
}
_WEB_PAGE_KEYS: Final = frozenset({"tilejson", "rendered_preview"})  # endpoints, at any host
_SUFFIXES_FILE: Final = Path(__file__).with_name("media_types.json")
_SUFFIX_OF_TYPE: Final[dict[str, str]] = orjson.loads(_SUFFIXES_FILE.read_bytes())
_RENDERERS: Final = re.compile(r"/(tilejson\.json|preview|map|viewer|wmts|WMTSCapabilities\.xml)(\.\w+)?\Z")
_TILE: Final = re.compile(r"\{-?[xyz]\}", re.IGNORECASE)  # a number in the URL of a map tile
_ENDING: Final = re.compile("(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,10}")
"""A suffix has at least one letter: the end of `…/v1.5` is not one."""


def is_own_document(href: str) -> bool:
    return not any(parts_of(without_blanks(href))[:4])  # it has at most a fragment (RFC 3986, 4.4)


def stated_href(value: Any) -> str:
    href = object_or_empty(value).get("href")
    return without_blanks(href) if isinstance(href, str) else ""


def asset_href(asset: Any, base: str | None) -> str | Failure:
    href = stated_href(asset)
    if _is_server(origin_text(href)):
        return href
    if is_remote(href):
        return _failure("its URL has no valid host and port")
    if is_own_document(href):
        return _failure("it has no href, or its href is the item itself", FailureKind.ITEM)
    absolute = join(base, href)
    if absolute is None:
        return _failure("its href is a path, and its item has no URL: use a file with the items as SOURCE")
    if not may_link_to(base, absolute):
        name = scheme_of(absolute)
        return _failure(f"its href begins with {name}:, and only {', '.join(remote_schemes())} are fetched")
    return absolute


@cached_if_short(1024)
def _is_server(origin: str) -> bool:
    rules = scheme_rules(origin)
    return rules.is_remote and (bool(host_of(origin)) or rules.default_port is None)


def asset_hrefs(asset: Any, base: str | None, prefer: tuple[str, ...]) -> tuple[str, ...] | Failure:
    """Return the absolute hrefs of an asset, of preferred schemes first, or the failure if there is none."""
    href = asset_href(asset, base)
    if not prefer:
        return href if isinstance(href, Failure) else (href,)
    alternates = object_or_empty(asset).get("alternate")
    if isinstance(alternates, dict):  # an object of alternates, or a single alternate
        alternates = [alternates] if stated_href(alternates) else [*alternates.values()]
    hrefs = [href, *(asset_href(entry, base) for entry in list_or_empty(alternates))]
    usable = dict.fromkeys(url for url in hrefs if isinstance(url, str))
    if isinstance(href, Failure) and not usable:
        return href

    def rank(url: str) -> int:
        scheme = scheme_of(url)
        return prefer.index(scheme) if scheme in prefer else len(prefer)

    # of one scheme, the asset's own href stays before alternates
    return tuple(sorted(usable, key=rank))


def self_href(item: Json, *, local: bool = False) -> str | None:
    """Return the item's `self` link if it is absolute. It may be a local file only if the item is `local`."""
    for link in hrefs_with(item, "self"):
        href = join(None, link) or ""
        if is_remote(href) or (local and is_local(href)):
            return href
    return None


def links_with(document: Json, *relations: str) -> Iterator[Json]:
    """Yield the links with these relations, which are in lower case (RFC 8288, 2.1.1)."""
    for link in objects_in(document.get("links")):
        rel = link.get("rel")
        if isinstance(rel, str) and rel.lower() in relations:
            yield link


def hrefs_with(document: Json, *relations: str) -> list[str]:
    """Return the distinct hrefs of the links with these relations."""
    hrefs = dict.fromkeys(map(stated_href, links_with(document, *relations)))
    return [href for href in hrefs if href]


def api_href(item_id: ItemId, page_url: str | None) -> str | None:
    """Return the URL that an item without `self` link has at its API (OGC API Features, part 1, 7.16)."""
    page = re.split("[?#]", page_url or "", maxsplit=1)[0].rstrip("/")
    parts = parts_of(page)
    name = quote(item_id.item, safe="")
    if parts.scheme and parts.path.endswith("/items"):
        return f"{page}/{name}"
    if parts.scheme and parts.path.endswith("/search"):
        return f"{page.removesuffix('search')}collections/{quote(item_id.collection, safe='')}/items/{name}"
    return None


def item_id_in(href: str) -> ItemId | None:
    """Return the item that an API's URL `…/collections/C/items/I` names, None for any other."""
    match parts_of(href).path.rstrip("/").split("/"):
        case [*_, "collections", collection, "items", item]:
            return ItemId(unquote(collection), unquote(item))
    return None


def linked_hrefs(item: Json, base_url: str | None, relations: Collection[str]) -> tuple[str, ...]:
    """Return the hrefs of an item's links with these relations (lower case). An invalid href fails later."""
    base = self_href(item, local=is_local(base_url)) or base_url
    hrefs = hrefs_with(item, *relations)
    if base is None:
        hrefs = [href for href in hrefs if scheme_of(href)]
    return tuple(dict.fromkeys(join(base, href) or href for href in hrefs))


def _failure(why: str, kind: FailureKind = FailureKind.SCHEME) -> Failure:
    return Failure(kind, f"The asset cannot be fetched: {why}.")


def asset_kind(href: str, media_type: str | None, key: str = "") -> AssetKind:
    """Return the kind of the asset at this absolute href."""
    if key in _WEB_PAGE_KEYS:
        return "web page"
    kind = _KIND_OF_TYPE.get(media_type_of(media_type))
    if kind is not None:
        return kind
    if scheme_rules(href).is_object_store:
        return "prefix" if href.endswith("/") or href.count("/") == len("//") else "file"  # or a bucket
    if "{" not in href and "?" not in href:
        return "file"  # nearly all
    if _TILE.search(href) is not None:
        return "web page"
    parts = parts_of(href)
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    names = {name.lower() for name, _ in parameters}
    is_rendered = "url" in names and _RENDERERS.search(parts.path) is not None
    is_rendered = is_rendered or {"collection", "item"} <= names
    is_service = {"service", "request"} <= names  # of OGC (06-121r9, 7.2)
    return "web page" if is_rendered or is_service else "file"


def suffix_of(href: str, media_type: str | None) -> str:
    """Return the suffix with its dot, from the path of the href, or else the media type; empty for none."""
    stem, _, ending = scheme_rules(href).filename(href).rpartition(".")
    if stem and _ENDING.fullmatch(ending):
        tar = stem[1:][-len(".tar") :]
        return f"{tar}.{ending}" if tar.lower() == ".tar" else f".{ending}"
    return _SUFFIX_OF_TYPE.get(media_type_of(media_type), "")
