"""STAC documents: their kinds, their links, how to read them, and how to open SOURCE.

Before STAC 1.0 (0.6 to 1.0.0-beta), catalogs had no `type`, so their required members show the kind. Many
catalogs mix up `item` and `child` links, so only the linked document shows what it is.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

import msgspec

from stacpull.entry_points import require, target_of
from stacpull.errors import CredentialsError, SourceError, UsageError, similar
from stacpull.hosts import host_of
from stacpull.json_values import list_or_empty, object_or_empty, parsed_object
from stacpull.models import Failure, FailureKind, ItemId, Json, PageRequest, UnreadableEntry
from stacpull.net.json_reader import SMALL, Document, JsonReader
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import hrefs_with, links_with, self_href, suffix_of
from stacpull.planning.item_plan import id_of
from stacpull.redact import public_url
from stacpull.sources.source import Source
from stacpull.sources.source_url import parse_api_url
from stacpull.urls import is_local, is_web, join, may_link_to, scheme_rules

MAX_COLLECTIONS: Final = 16_384  # maximum collections of a file or a tree whose URLs are kept
MAX_LISTED_COLLECTIONS: Final = 40
_API_LINKS: Final = frozenset({"data", "search", "conformance"})  # of landing pages (STAC API core)
_GROUP: Final = "stacpull.sources"
_DOCUMENTS: Final = frozenset({"", ".json", ".geojson"})  # endings that do not show the kind
NOT_FOLLOWED: Final = "is a page of an API. Its next page is not followed."
_NO_ITEM: Final = Failure(FailureKind.ITEM, "not an item with an id.")
NamedFeatures = Iterable[tuple[str, object]]  # features, each with its name in messages
DocumentKind = Literal["Catalog", "Collection", "Feature", "FeatureCollection", ""]


def kind_of(document: object) -> DocumentKind:
    match document:
        case {"type": "Catalog" | "Collection" | "Feature" | "FeatureCollection" as kind}:
            return cast("DocumentKind", kind)
        case {"features": list()}:
            return "FeatureCollection"
        case {"extent": _, "license": _}:
            return "Collection"
        case {"properties": dict(), "assets": dict()}:
            return "Feature"
        case {"links": list(), "id": str()}:
            return "Catalog"
    return ""


def decoded_feature(feature: object) -> object:
    """Decode a feature of a large document, which was kept as text (`decode_without_features`)."""
    return parsed_object(bytes(feature)) if isinstance(feature, msgspec.Raw) else feature


def _is_text_or_integer(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def valid_item(feature: object) -> Json | None:
    """Return an item, its id as a text, and without a collection that is not a text; None if it has no id."""
    if not isinstance(feature, dict):
        return None
    item_id = feature.get("id")
    if not _is_text_or_integer(item_id):
        return None
    collection = feature.get("collection")
    if collection is not None and not isinstance(collection, str):
        feature = {key: value for key, value in feature.items() if key != "collection"}
    return feature if isinstance(item_id, str) else {**feature, "id": str(item_id)}


def valid_items(features: NamedFeatures) -> tuple[list[Json], tuple[UnreadableEntry, ...]]:
    """Return the items among `features`, and the others as unreadable."""
    items: list[Json] = []
    unreadable: list[UnreadableEntry] = []
    id_types: dict[ItemId, type] = {}
    for name, feature in features:
        document: Any = decoded_feature(feature)
        item = valid_item(document)
        reason = document if isinstance(document, Failure) else _NO_ITEM
        if item is not None:
            id_type = type(document["id"])
            if id_types.setdefault(id_of(item, ""), id_type) is id_type:
                items.append(item)
                continue
            reason = Failure(FailureKind.ITEM, f"its id {item['id']} equals another one: one is a number.")
        unreadable.append(UnreadableEntry("", name, reason))
    return items, tuple(unreadable)


def tree_hrefs(document: Json, *, items: bool = True) -> list[str]:
    """Return the hrefs of the `item` and `child` links, or only of the `child` links."""
    if not items:
        return hrefs_with(document, "child")
    # a collection may link to a file of its items (OGC API Features)
    return hrefs_with(document, "item", "child") or hrefs_with(document, "items")


def absolute(base: str, href: str) -> str:
    url = join(base, href) or ""
    if not may_link_to(base, url):
        return ""  # it cannot be followed
    return url.partition("#")[0] if is_web(url) else url


def with_self(document: Json, url: str) -> Json:
    """Return a document whose `self` link is the URL that it was read from, because it may be a copy."""
    links = list_or_empty(document.get("links"))
    left_out = ["self"]  # no set: `rel` may be a list
    if kind_of(document) == "Collection":  # which may link to 600,000 items
        left_out += "item", "child"
    kept = [link for link in links if object_or_empty(link).get("rel") not in left_out]
    return {**document, "links": [{"rel": "self", "href": url}, *kept]}


def ensure_self(document: Json, url: str) -> Json:
    """Return a document with its own absolute `self` link, or with `url` if it has none."""
    has_self = self_href(document, local=is_local(url)) is not None
    return document if has_self else with_self(document, url)


def next_links(page: Json) -> list[Json]:
    """Return the next links of a page, or the cursor of the next page (`next`) in place of a link."""
    planet_link = {"href": object_or_empty(page.get("_links")).get("_next")}  # of Planet's Data API
    stated = [*links_with(page, "next"), planet_link]
    links = [link for link in stated if str(link.get("href") or "").strip()]
    cursor = object_or_empty(page.get("context")).get("next")  # Sentinel Hub's catalog
    if not links and _is_text_or_integer(cursor):
        links.append({"next": cursor})
    return links


def is_api_root(document: Json) -> bool:
    has_list = isinstance(document.get("collections"), list)
    return has_list or "conformsTo" in document or bool(hrefs_with(document, *_API_LINKS))


async def open_source(url: str, reader: JsonReader) -> Source:
    """Return the source at `url`, which has no credentials. Entry points name kinds and endings of files."""

    def open_as(kind: str, document: Document | None = None) -> Source:
        source: Source = require(_GROUP, kind, f"SOURCE {url}")(url, reader, document)
        return source

    if url.startswith("stdin:"):
        return open_as(".ndjson")
    path = urlsplit(url).path.lower()
    ending = suffix_of(path.removesuffix(".gz"), None)
    api = parse_api_url(url) if is_web(url) else None
    if api is not None and api.page is not None:
        return open_as("api")
    if ending not in _DOCUMENTS and target_of(_GROUP, ending):
        return open_as(ending)
    if ending in {".tif", ".tiff"}:
        raise SourceError("SOURCE is a TIFF: use a STAC item, a catalog or a file of items that lists it.")
    document = await read_root(reader, url)
    body = document.members
    kind = kind_of(body)
    is_root = is_api_root(body)
    if is_root and api is not None:
        return open_as("api", document)
    if is_root and not tree_hrefs(body):
        raise UsageError(f"{url} is a saved document of an API and lists no items: use the API itself.")
    if is_root or kind in {"Catalog", "Collection"}:
        hrefs = hrefs_with(body, "items", "item", "child")
        is_named = api is not None and body.get("id") == api.collection and kind == "Collection"
        has_pages = all(parse_api_url(href).page == "items" for href in hrefs)
        if is_named and (has_pages or hrefs_with(body, "items")):
            return open_as("api", document)
        return open_as("tree", document)
    if kind in {"Feature", "FeatureCollection"}:
        return open_as("items", document)
    raise SourceError(f"{url} is not STAC: SOURCE must be an API, a catalog, a collection or items.")


async def read_or_failure(reader: JsonReader, url: str, limit: int | None) -> Document | Failure:
    """Read a document that may be left out. Without a `limit`, one is read at a time: they may be large."""
    async with reader.large_document_lock if limit is None else nullcontext():
        try:
            return _with_items(await reader.read_optional(PageRequest(url), limit))
        except TransferError as error:
            return error.failure


async def read_root(reader: JsonReader, url: str) -> Document:
    """Return the document of SOURCE or of a collection, which must be an object."""
    try:
        document = _with_items(await reader.read(PageRequest(url)))
    except TransferError as error:
        failure = error.failure
        is_object = scheme_rules(url).is_object_store
        if is_object and failure.kind is FailureKind.REFUSED:
            raise CredentialsError(f"{error} Check the credentials of the service.") from error
        hint = ""
        if failure.kind in {FailureKind.GONE, FailureKind.HTTP}:  # HTTP: perhaps there is no such bucket
            hint = " Check SOURCE: an API's root is like https://host/v1."
            if is_object:
                hint = " Check the bucket and the key; for S3, also --endpoint-url."
            elif is_local(url):
                raise SourceError(f"{error} If SOURCE is a URL, start it with https://.") from error
        elif failure.retryable:
            hint = " Check SOURCE, network and proxy, or try again later."
        raise SourceError(f"The source {url} could not be read: {error}{hint}") from error
    if not isinstance(document.body, dict):
        what = "a JSON list without items" if isinstance(document.body, list) else "not a JSON object"
        raise SourceError(f"{url} is not STAC: it is {what}.")
    return document


async def read_item(
    reader: JsonReader, href: str, add_self: Callable[[Json, str], Json] = with_self
) -> Document:
    """Return the document of the item at `href`, to which `add_self` adds its URL."""
    document = await read_or_failure(reader, href, SMALL)
    if isinstance(document, Failure) and document.is_over_limit:
        document = await read_or_failure(reader, href, None)
    if isinstance(document, Failure):
        raise TransferError(document)
    item = valid_item(document.body)
    if item is None or kind_of(item) == "FeatureCollection":
        message = f"{public_url(document.url)} is not an item: it is not a JSON object with an id."
        raise TransferError(Failure(FailureKind.ITEM, message, host=host_of(document.url)))
    return document._replace(body=add_self(item, document.url))


def _with_items(document: Document) -> Document:
    body = document.body
    if not isinstance(body, list):
        return document
    if body and not any(kind_of(feature) == "Feature" for feature in body):
        return document
    return document._replace(body={"type": "FeatureCollection", "features": body})


def no_collection_text(source: str, name: str, names: list[str]) -> str:
    near = similar(name, names, limit=3)
    if not near:
        near = [known for known in names if name.casefold() in known.casefold()]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else collections_text(names)
    hint += " Repeat -C for each collection." if "," in name else ""
    return f"{source} has no collection {name}: {hint}"


def collections_text(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:MAX_LISTED_COLLECTIONS]) or "none"
    rest = len(names) - MAX_LISTED_COLLECTIONS
    if rest > 0:
        shown += f" and {rest} more (see stacpull collections)"
    return f"SOURCE has {shown}."
