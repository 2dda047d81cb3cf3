"""Pages of an API: requests for the next ones, and the walk of the pages by their next links.

A page that fails is requested with fewer items. If that fails too, the walk ends with a SourceError, and a
later walk resumes there. The hashes of next links show a loop; if each link is new, `LoopDetector` does.
"""

from posixpath import basename
from typing import Final
from urllib.parse import urlunsplit

import attrs
import orjson
from msgspec.structs import replace

from stacpull import urls
from stacpull.digests import text_hash
from stacpull.errors import ForgottenCursorError, SourceError
from stacpull.hosts import origin_text
from stacpull.json_values import object_or_empty
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, Then
from stacpull.net.fields import whole_number
from stacpull.net.json_reader import Document, JsonReader
from stacpull.net.status import FORGOTTEN, TOO_MANY_ITEMS
from stacpull.net.transport import TransferError
from stacpull.redact import public_url
from stacpull.sources.documents import next_links, valid_items
from stacpull.sources.source import MIN_ITEMS, Pages, PageSize, allowed_headers

PAGE_BYTES: Final = 8_000_000
_CARRIED: Final = frozenset(  # of the selection: equal for all pages (STAC API: core, filter, query, sort)
    {"bbox", "collections", "datetime", "filter", "filter-crs", "filter-lang", "ids", "intersects"}
    | {"limit", "query", "sortby"}
)
_MAX_ITEMS: Final = 1 << 40  # larger totals are ignored: the ledger stores a sum of them in 63 bits


def _with_member(request: PageRequest, name: str, value: int | str) -> PageRequest:
    if request.method == "POST":
        body = {**(request.body or {}), name: value}
        return replace(request, body=body)
    url = urls.set_parameter(request.url, name, str(value))
    return replace(request, url=url)


def number_in(request: PageRequest, name: str) -> int | None:
    if request.method == "POST":
        return whole_number(str((request.body or {}).get(name)))
    return whole_number(str(urls.parameter(request.url, name)))


def with_limit(request: PageRequest, limit: int) -> PageRequest:
    """Return `request` for pages of `limit` items, at the same position or a little before it."""
    page = number_in(request, "page")
    current_limit = number_in(request, "limit")
    if page and current_limit:
        limit = min(limit, current_limit)  # and the number is rounded down: no item is skipped
        request = _with_member(request, "page", (page - 1) * current_limit // limit + 1)
    return _with_member(request, "limit", limit)


def next_request(page: Json, current: PageRequest, base: str) -> PageRequest | None:
    """Return the request for the page after `page`, or None. `base` is the URL of `page` after redirects."""
    links = next_links(page)
    if not links:
        return None
    if "href" not in links[0]:
        return _with_member(current, "next", links[0]["next"])
    usable = [link for link in links if isinstance(link["href"], str)]
    if not usable:
        raise SourceError(f"The source names a link that is not a URL: {str(links[0]['href'])[:80]!r}.")
    same_method = [link for link in usable if _method_of(link) == current.method]
    link = (same_method or usable)[0]
    url = urls.join_web(base, link["href"])
    fields = object_or_empty(link.get("headers"))
    if link.get("merge") is True:
        fields = {**(current.headers or {}), **fields}
    headers = allowed_headers(fields)
    if _method_of(link) == "GET":
        return PageRequest(_with_selection(url, current), headers=headers)
    # merged, whatever `merge` states: without a member of the query, the filter would be lost
    body = {**(current.body or {}), **object_or_empty(link.get("body"))}
    following = PageRequest(url, "POST", body, headers)
    # a body goes to no other host; behind a proxy, links often name an internal one
    return following if urls.same_site(base, url) else on_origin_of(following, base)


def _with_selection(url: str, current: PageRequest) -> str:
    """Return `url` with the parameters of the selection that a next link has left out."""
    is_same_path = urls.parts_of(current.url).path == urls.parts_of(url).path
    if current.method != "GET" or not is_same_path:
        return url
    missing = _CARRIED.difference(parameter.name for parameter in urls.parameters(url))
    added = [parameter for parameter in urls.parameters(current.url) if parameter.name in missing]
    return urls.add_parameters(url, added)


def next_or_failure(page: Json, current: PageRequest, base: str) -> PageRequest | Failure | None:
    try:
        return next_request(page, current, base)
    except SourceError as error:
        return Failure(FailureKind.SCHEME, str(error))


def _method_of(link: Json) -> str:
    return "POST" if str(link.get("method")).upper() == "POST" else "GET"


def on_origin_of(following: PageRequest, base: str) -> PageRequest:
    """Return `following` at the origin of `base`, whose page linked to it."""
    if origin_text(base) == origin_text(following.url):
        return following
    base_parts = urls.parts_of(base)
    parts = urls.parts_of(following.url)
    is_same_name = basename(base_parts.path) == basename(parts.path)
    path = base_parts.path if is_same_name else parts.path  # that of `base` may have a proxy's prefix
    moved_parts = parts._replace(scheme=base_parts.scheme, netloc=base_parts.netloc, path=path)
    return replace(following, url=urlunsplit(moved_parts))


def announced_total(page: Json) -> int | None:
    context = object_or_empty(page.get("context"))
    metadata = object_or_empty(page.get("search:metadata"))
    totals = page.get("numberMatched"), context.get("matched"), metadata.get("matched")
    for total in totals:
        if type(total) is int and 0 <= total < _MAX_ITEMS:  # a boolean is an `int`, too
            return total
    return None


def _cursor_hash(request: PageRequest) -> int:
    """Return a digest of a cursor, without the limit: that only falls, so page numbers only rise."""
    request = _with_member(request, "limit", 0)
    body = orjson.dumps(request.body, option=orjson.OPT_SORT_KEYS)
    headers = sorted((request.headers or {}).items())
    return text_hash(f"{request.method} {request.url} {body!r} {headers}")


def failure_of(error: BaseException) -> Failure:
    cause = error.__cause__
    return cause.failure if isinstance(cause, TransferError) else Failure(FailureKind.ITEM, str(error))


@attrs.define(eq=False)
class PageReader:
    _reader: JsonReader
    _size: PageSize
    _last_url: str
    _without_pages: set[str] = attrs.field(factory=set, init=False)  # origins
    _cursors: set[int] = attrs.field(factory=set, init=False)  # hashes

    async def pages(
        self, start: PageRequest, *, first: Document | None = None, resumed: bool = False
    ) -> Pages:
        """Yield the pages from `start` on (`first`, if read). If `resumed`, it may be forgotten already."""
        request: PageRequest | None = start
        answer = None if first is None else (start, first)
        while request is not None:
            try:
                sent, document = answer or await self._read(request)
            except SourceError as error:
                if resumed and failure_of(error).status in FORGOTTEN:
                    raise ForgottenCursorError(str(error)) from error.__cause__
                raise
            page = self._page_of(sent, document)
            answer = None
            yield page
            request = page.next if page.loop_reason is None else None
            resumed = True

    async def _read(self, request: PageRequest) -> tuple[PageRequest, Document]:
        try:
            return await self._read_page(request)
        except SourceError as error:
            # the link may name an internal host: try that of the last page, or of SOURCE
            own_request = on_origin_of(request, self._last_url)
            if own_request is request or Then.OWN_HOST not in failure_of(error).kind.then:
                raise
            try:
                answer = await self._read_page(own_request)
            except SourceError:
                raise error from error.__cause__
        self._without_pages.add(origin_text(request.url))
        return answer

    async def _read_page(self, request: PageRequest) -> tuple[PageRequest, Document]:
        """Read one page; after each failure, request a tenth of the items."""
        cause: TransferError | SourceError | None = None
        while True:
            sent = with_limit(request, self._size.items)
            requested = number_in(sent, "limit") or self._size.items
            self._size = self._size._replace(items=requested)
            try:
                return sent, await self._reader.read(sent)
            except TransferError as error:
                cause = cause or error
                failure = error.failure
                is_too_much = failure.status in TOO_MANY_ITEMS or Then.SMALLER_PAGE in failure.kind.then
            except SourceError as error:
                if not isinstance(error.__cause__, ValueError):
                    raise
                cause = cause or error
                is_too_much = True  # the service may have cut off the JSON
            smaller = max(MIN_ITEMS, requested // 10)
            if not is_too_much or smaller >= requested:
                page = public_url(request.url)
                raise SourceError(f"The page {page} could not be read: {cause}") from cause
            self._size = self._size._replace(items=smaller)

    def _page_of(self, sent: PageRequest, document: Document) -> Page:
        shown = replace(sent, url=public_url(sent.url, keep_tokens=True))
        features = document.members.get("features", "")
        if not isinstance(features, list | None):
            raise SourceError(f"{shown.url} is not a page of items: it has no list of features.")
        features = features or []  # null: an empty list of Go
        cursor = _cursor_hash(sent)
        page = f"page {cursor & 0xFFFFFFFF:08x} of {shown.url}"  # that URL may lack its cursor
        entries = [(f"feature {n} of {page}", feature) for n, feature in enumerate(features, 1)]
        following = next_or_failure(document.members, sent, document.url)
        if isinstance(following, Failure):
            entries.append((f"the next link of {shown.url}", following))
            following = None
        items, unreadable = valid_items(entries)
        if not self._size.is_user_set and document.size > PAGE_BYTES and features:
            fitting = max(MIN_ITEMS, PAGE_BYTES * len(features) // document.size)
            self._size = self._size._replace(items=min(fitting, self._size.items))
        self._last_url = sent.url
        self._cursors.add(cursor)
        loop_reason = None
        if following is not None:
            following = self._adjusted(following, sent, len(features))
            if _cursor_hash(following) in self._cursors:
                loop_reason = "its next page was read before; later items cannot be reached"
        announced = announced_total(document.members)
        return Page(shown, items, following, announced, loop_reason=loop_reason, unreadable=unreadable)

    def _adjusted(self, following: PageRequest, sent: PageRequest, item_count: int) -> PageRequest:
        # without SOURCE's own keys, which a service may repeat in its links: the client adds them again
        secrets = self._reader.client.secrets
        following = replace(following, url=secrets.masked_url(following.url))
        if origin_text(following.url) in self._without_pages:
            following = on_origin_of(following, sent.url)
        limit = number_in(following, "limit")
        if limit is None and number_in(sent, "limit") is None:  # a page that was given as SOURCE
            limit = self._size.items
        is_first_number = number_in(sent, "page") is None and number_in(following, "page") is not None
        if is_first_number and limit and 0 < item_count < limit:
            return _with_member(following, "limit", item_count)  # the service counts pages of this size
        return following
