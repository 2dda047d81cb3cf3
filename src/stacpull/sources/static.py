"""Static catalogs as a source: the tree below a catalog or a collection, on a server, in a bucket or on disk.

The document that SOURCE names is the root, and the tree below it is what there is: links to `root` and
`parent` are not followed, they lead out of it or are wrong. Without `-C` all of it is walked; a collection
that is named is looked for level by level, and its own tree is walked.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple
from urllib.parse import quote

from stacpull.errors import SourceError, UsageError
from stacpull.models import Json, Page, PageRequest, Selection
from stacpull.net.api import Document
from stacpull.net.json import weight_of_document
from stacpull.planning.items import NO_COLLECTION
from stacpull.sources.api import api_place
from stacpull.sources.documents import (
    Kind,
    absolute,
    kind_of,
    located,
    tree_hrefs,
    without_links,
)
from stacpull.sources.live import is_live, live_source
from stacpull.sources.page_size import PageSize
from stacpull.sources.reading import outcome_of, read_root, refuse_split, static_item
from stacpull.sources.source import JsonReader, OnNotice, WalkStart
from stacpull.sources.tree import AT_ONCE, DEEPEST, tree_pages

__all__ = ["StaticSource"]

_MOST_NAMED = 40
"""Collections that an error sentence lists."""
_HEAVIEST_LEVEL = 512 * 1024 * 1024
"""Bytes of memory, about, that the catalogs and collections of one level may take."""


class _Place(NamedTuple):
    """A collection that was met while looking for some, and where."""

    url: str
    document: Json


class StaticSource:
    """The tree below one catalog or collection.

    Args:
        url: SOURCE.
        root: The document that it leads to.
        reader: Reads the others.
    """

    def __init__(self, url: str, root: Document, reader: JsonReader) -> None:
        body: Json = root.body if isinstance(root.body, dict) else {}
        name = body.get("id")
        self.url = url
        self._root: Document | None = root
        """As it was read, until the walk has taken it: its links may be many."""
        self._id = name if isinstance(name, str) and name else NO_COLLECTION
        self._is_collection = kind_of(body) is Kind.COLLECTION
        self._reader = reader
        self._urls: dict[str, str] = {self._id: url} if self._is_collection else {}
        """Where the collections are that were met."""
        self._looked = False
        """True if all of them were looked for."""
        self._selection = Selection()
        """What APIs that the tree leads to are asked to filter."""

    @property
    def reader(self) -> JsonReader:
        """What reads the documents of the tree."""
        return self._reader

    async def collections(self) -> list[Json]:
        """Return the documents of all collections of the tree, without their links down the tree.

        Raises:
            SourceError: the root could not be read.
        """
        return [place.document async for place in self._met()]

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection, its `self` link where it is.

        The root stands for the collection of items that have none above them.

        Raises:
            UsageError: the tree has no collection of that id.
            SourceError: it could not be read.
        """
        if collection_id not in self._urls and collection_id != self._id and not self._looked:
            self._looked = True  # a walk that went on did not meet those that were done before
            async with aclosing(self._met()) as met:
                async for _ in met:
                    if collection_id in self._urls:
                        self._looked = False
                        break
        url = self._urls.get(collection_id, self.url if collection_id == self._id else None)
        if url is None:
            raise UsageError(f"{self.url} has no collection {collection_id}.")
        document = await read_root(self._reader, url)
        body = document.body
        return located(without_links(body if isinstance(body, dict) else {}, "item", "child"), document.url)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start for the whole tree, or one for each collection that is named.

        Raises:
            UsageError: a collection that is named is not in the tree, or the walk is to be split.
        """
        refuse_split(selection)
        asked = list(dict.fromkeys(selection.collections))
        self.narrow(selection)
        if not asked:
            return [WalkStart(self._id, PageRequest(self.url))]
        missing = set(asked) - self._urls.keys()
        found = []
        if missing:
            async with aclosing(self._met()) as met:
                async for place in met:
                    found.append(str(place.document["id"]))
                    missing -= {found[-1]}
                    if not missing:
                        break
        if missing:
            raise UsageError(self._unknown(min(missing), found))
        return [WalkStart(name, PageRequest(self._urls[name])) for name in asked]

    async def pages(
        self, start: PageRequest, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the pages of the tree below `start`, from the place on that it names.

        Raises:
            SourceError: the root could not be read, or the servers answer no more.
            CredentialsError: credentials are missing or refused.
        """
        root, self._root = self._root, None
        if root is None or start.url != self.url:
            root = await read_root(self._reader, start.url)
        pages = tree_pages(
            self._reader, root, start, page_size, self._meet, on_notice, self._id, self._selection
        )
        del root
        async with aclosing(pages):
            async for page in pages:
                yield page

    def narrow(self, selection: Selection) -> None:
        """Say what APIs that the tree leads to are to be asked for."""
        self._selection = selection

    async def behind(
        self, href: str, collection: str, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the pages of what one link leads to, whatever it is, below a collection.

        Raises:
            SourceError: the servers answer no more.
            CredentialsError: credentials are missing or refused.
        """
        link = Document(
            {"type": "Catalog", "id": "", "links": [{"rel": "item", "href": href}]}, 0, self.url, {}
        )
        pages = tree_pages(
            self._reader,
            link,
            PageRequest(self.url),
            page_size,
            self._meet,
            on_notice,
            collection,
            self._selection,
        )
        async with aclosing(pages):
            async for page in pages:
                yield page

    async def item(self, href: str) -> Json:
        """Return the item that `href` leads to.

        Raises:
            TransferError: it could not be read; GONE if it is not there, ITEM if it is no item.
        """
        return await static_item(self._reader, href)

    def _meet(self, collection_id: str, url: str) -> None:
        self._urls.setdefault(collection_id, url)

    async def _met(self) -> AsyncGenerator[_Place]:
        """Walk the catalogs, and only those, level by level; yield each collection once."""
        root = self._root or await read_root(self._reader, self.url)
        level, walked, known = [root], {root.url}, set[str]()
        for _ in range(DEEPEST):
            for document in level:
                async for place in self._met_in_api(document, known):
                    yield place
                body = document.body
                name = body.get("id") if isinstance(body, dict) else None
                is_new = isinstance(name, str) and name not in known
                if isinstance(body, dict) and is_new and kind_of(body) is Kind.COLLECTION:
                    known.add(str(name))
                    self._meet(str(name), document.url)
                    yield _Place(document.url, located(without_links(body, "item", "child"), document.url))
            level = [document for document in level if not is_live(document)]
            urls = [url for url in _children(level) if url not in walked]
            walked.update(urls)
            level = await _read_catalogs(self._reader, list(dict.fromkeys(urls)))

    async def _met_in_api(self, document: Document, known: set[str]) -> AsyncGenerator[_Place]:
        """Yield the collections of an API that a link leads to, each once; its own is one like any other."""
        if not is_live(document) or kind_of(document.body) is Kind.COLLECTION:
            return
        try:
            source = await live_source(document, self._reader)
            listed = await source.collections()
        except (SourceError, UsageError):
            return  # the walk tells why
        for one in listed:
            url = f"{api_place(source.url).root}/collections/{quote(str(one.get('id')), safe='')}"
            if isinstance(name := one.get("id"), str) and name not in known:
                known.add(name)
                self._meet(name, url)
                yield _Place(url, located(without_links(one, "item", "child"), url))

    def _unknown(self, name: str, names: list[str]) -> str:
        if self._is_collection and names == [self._id]:
            return (
                f"The source is the collection {self._id} itself: leave -C {name} out, or name its catalog."
            )
        near = difflib.get_close_matches(name, names, n=3)
        shown = near or sorted(names)[:_MOST_NAMED]
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(shown) or 'none'}."
        return f"{self.url} has no collection {name}: {hint}"


def _children(level: list[Document]) -> list[str]:
    """Return where the `child` links of these catalogs lead, in their order."""
    urls = []
    for document in level:
        hrefs = tree_hrefs(document.body, items=False) if isinstance(document.body, dict) else []
        found = (absolute(document.url, href) for href in hrefs)
        urls += [url for url in found if isinstance(url, str)]
    return urls


async def _read_catalogs(reader: JsonReader, urls: list[str]) -> list[Document]:
    """Read these catalogs side by side, and keep of them what looking for collections needs.

    Raises:
        SourceError: together they take too much memory.
    """
    found: dict[str, Document] = {}
    waiting = iter(urls)
    weight = 0

    async def read_each() -> None:
        nonlocal weight
        for url in waiting:
            document = await outcome_of(reader, url)
            if isinstance(document, Document) and isinstance(document.body, dict):
                kept = without_links(document.body, "item")
                weight += weight_of_document(kept)
                if weight > _HEAVIEST_LEVEL:
                    raise SourceError(
                        "The documents of the collections are too large together to look for one among them: "
                        "name the URL of the collection as SOURCE."
                    )
                found[url] = document._replace(body=kept)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(urls))):
                group.create_task(read_each())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
    return [found[url] for url in urls if url in found]
