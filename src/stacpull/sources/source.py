"""The interface of a source of items.

    open_source(url, reader) ─▶ Source ─starts─▶ WalkStart ─pages─▶ Page, Page, …

A source decides which requests to send, and a `JsonReader` sends them.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Annotated, Final, NamedTuple, Protocol, Self

import msgspec
from msgspec.structs import replace

from stacpull.errors import DestinationError, UsageError
from stacpull.events import Notice
from stacpull.models import Headers, Json, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.redact import Secrets, public_url
from stacpull.selection import Selection

Pages = AsyncGenerator[Page]
OnNotice = Callable[[Notice], None]  # gets a message for the user; it returns at once and never raises

AUTO_ITEMS: Final = 1000
MIN_ITEMS: Final = 10
FILE_ITEMS: Final = 100  # of a file or a tree: larger pages save no requests, and a kill repeats more
_MAX_PAGES_WITHOUT_NEW_ITEMS: Final = 3  # pages
_LINK_HEADERS: Final = frozenset({"accept", "accept-crs", "accept-language", "prefer", "search-after"})
"""The fields that a next link may set. Others might be credentials, or commands that a page cannot send."""


class PageSize(NamedTuple):
    items: int = AUTO_ITEMS  # per page
    is_user_set: bool = False

    @classmethod
    def requested(cls, option: int | None) -> Self:
        return cls() if option is None else cls(option, is_user_set=True)

    @property
    def for_file(self) -> int:
        return self.items if self.is_user_set else min(FILE_ITEMS, self.items)


def allowed_headers(headers: Mapping[str, object] | None) -> Headers | None:
    """Return the fields that a next link may set, with their names in lower case."""
    allowed = {}
    for name, value in (headers or {}).items():
        is_usable = isinstance(value, str) and value.isprintable()
        if is_usable and name.lower() in _LINK_HEADERS:
            allowed[name.lower()] = str(value)
    return allowed or None


class Position(msgspec.Struct, frozen=True, omit_defaults=True, rename={"announced_before": "announced"}):
    """The next page of a walk. At its start, all fields are None; at a collection's start, `request` is."""

    collection: str | None = None
    request: PageRequest | None = None
    announced_before: Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)] | None = None
    """The number of items that the earlier collections announced; None if it is not known."""

    def to_json(self, secrets: Secrets) -> str | None:
        """Return the position without credentials or a `request` that needs them; None if it has a secret."""
        request = self.request
        if request is not None:
            masked = secrets.masked_url(request.url)
            public = public_url(masked, keep_tokens=True)
            _, _, masked_query = masked.partition("?")
            _, _, public_query = public.partition("?")
            request = replace(request, url=public) if public_query == masked_query else None
        position = replace(self, request=request)
        text = msgspec.json.encode(position).decode()
        return text if secrets.masked(text) == text else None

    @classmethod
    def from_json(cls, text: str | None) -> Self:
        if text is None:
            return cls()
        try:
            position = msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            text = f"The saved position in SOURCE is damaged ({error}): run `stacpull mirror` again."
            raise DestinationError(text) from error
        if position.request is None:
            return position
        allowed = allowed_headers(position.request.headers)  # someone else may have written the ledger
        return replace(position, request=replace(position.request, headers=allowed))


class LoopDetector(msgspec.Struct):
    """Ends the reading of pages that keep listing known items, or none: broken links can go on forever."""

    # the items that may come again: those seen before a stop, or on the largest page
    may_repeat: int = 0
    _pages: int = 0  # in a row without new items
    _repeated: int = 0  # the items on them

    def count_entries(self, items: int, new_items: int) -> str | None:
        """Count a page of `items`. Return why it should be the last one, or None."""
        if new_items:
            self.may_repeat = max(self.may_repeat, items)
            self._pages = 0
            self._repeated = 0
            return None
        self._pages += 1
        self._repeated += items or self.may_repeat + 1
        if self._pages <= _MAX_PAGES_WITHOUT_NEW_ITEMS or self._repeated <= self.may_repeat:
            return None
        return f"{self._pages} pages in a row had nothing new"

    def count_page(self, page: Page, new_items: int) -> str | None:
        """Count a page. Return a sentence if a walk should end there although it has a next page, or None."""
        if page.next is None:
            return None
        reason = page.loop_reason or self.count_entries(len(page.items), new_items)
        return None if reason is None else f"Reading ended at {page.request.url}: {reason}."


class WalkStart(NamedTuple):
    collection: str
    request: PageRequest  # for the first page, without a page size
    selected: frozenset[str] = frozenset()  # whose items the pages of a search may have; empty for all
    cursor: PageRequest | None = None  # the `next` of a page of an earlier walk, to resume there
    filtered_pages: Callable[[PageSize, OnNotice], Pages] | None = None
    """Yields the pages of a query with filters from the start; None if the next links are followed."""
    order: str | None = None  # `Selection.sortby`, for a source that sorts by itself


class Source(Protocol):
    """A source of items, made from a URL, a `JsonReader`, and the document at the URL if it was read."""

    # every method may raise SourceError and CredentialsError
    url: str
    api_root: str | None = None
    has_cursors: bool = True  # False if a stopped walk starts from the beginning
    sorts: bool = False  # True if the walk keeps to `sortby`; if it cannot, `starts` raises `sort_error`

    async def collections(self) -> list[Json]:
        """Return the collection documents of the source, or raise SourceError if it does not list them."""

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection, or raise UsageError if there is none of that id."""

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start per selected collection, or raise UsageError if one does not exist."""

    def pages(self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice) -> Pages:
        """Yield the pages of one collection, of which the last one may have a `loop_reason`.

        Raises ForgottenCursorError if the source no longer knows a page that it linked to, and SourceError if
        a page could not be read; its `__cause__` is the TransferError, if there was one.
        """

    async def item(self, href: str) -> Document:
        """Return the item at `href`; a TransferError if it is gone, or is not an item."""

    async def items(self, hrefs: Sequence[str]) -> Mapping[str, Document]:  # noqa: ARG002 -- for subclasses
        """Return, by href, the items that can be read with fewer requests. `item` reads the others."""
        return {}

    def sort_error(self) -> UsageError:
        needed = "one collection of an API with the sort extension, or an ItemCollection"
        return UsageError(f"SOURCE cannot be sorted: --sortby needs {needed}.")
