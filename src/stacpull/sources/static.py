"""Static catalogs as sources: the tree below a catalog or collection, on a server, in a bucket or on disk.

The document of SOURCE is the root of the tree. Its `root` and `parent` links are not followed. Without `-C`
the whole tree is walked. With `-C` the collection is searched level by level, and its own tree is walked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from stacpull.concurrency import for_each
from stacpull.errors import SourceError, UsageError
from stacpull.models import Failure, Json, Page, PageRequest, Unread
from stacpull.net.json import weight_of_document
from stacpull.net.json_reader import Document
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import cut_url
from stacpull.selection import Selection
from stacpull.sources.documents import (
    MOST_COLLECTIONS,
    DocumentKind,
    absolute,
    kind_of,
    located,
    may_be_kept,
    no_collection,
    outcome_of,
    read_root,
    refuse_split,
    static_item,
    tree_hrefs,
    without_links,
)
from stacpull.sources.live import is_live, live_source
from stacpull.sources.page_requests import PageSize
from stacpull.sources.source import JsonReader, OnNotice, Source, WalkStart
from stacpull.sources.source_url import parse_api_url
from stacpull.sources.tree_walk import AT_ONCE, DEEPEST, TreeWalk

_HEAVIEST_LEVEL = 512 * 1024 * 1024
"""The most memory of the catalogs and collections of one level, in estimated bytes."""


class StaticSource(Source):
    """The tree below one catalog or collection.

    Args:
        url: SOURCE.
        root: The document at `url`.
        reader: Reads the other documents.
    """

    def __init__(self, url: str, root: Document, reader: JsonReader) -> None:
        body = root.members
        name = body.get("id")
        self.url = url
        self._root: Document | None = root
        """The root document until the walk begins. It is not kept, because it may have many links."""
        self._id = name if isinstance(name, str) and name else NO_COLLECTION
        self._is_collection = kind_of(body) is DocumentKind.COLLECTION
        self.reader = reader
        self._urls: dict[str, str] = {self._id: url} if self._is_collection else {}
        """The URLs of collections found so far."""
        self._searched_all = False
        """True after a search for all collections that ended normally."""
        self.selection = Selection()
        """Pushed down to APIs that the tree links to."""

    async def collections(self) -> list[Json]:
        """Return the documents of all collections in the tree, without their `item` and `child` links."""
        return [found async for found in self._found()]

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection, with its URL as `self` link.

        The root serves as the collection of items that have none above them.
        """
        if collection_id not in self._urls and collection_id != self._id and not self._searched_all:
            # a resumed walk has not seen the collections before its position
            async with aclosing(self._found()) as found:
                async for _ in found:
                    if collection_id in self._urls:
                        break
                else:
                    self._searched_all = True
        url = self._urls.get(collection_id, self.url if collection_id == self._id else None)
        if url is None:
            raise UsageError(f"{self.url} has no collection {collection_id}.")
        document = await read_root(self.reader, url)
        return located(without_links(document.members, "item", "child"), document.url)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start for the whole tree, or one for each selected collection."""
        refuse_split(selection)
        wanted = list(dict.fromkeys(selection.collections))
        self.selection = selection
        if not wanted:
            return [WalkStart(self._id, PageRequest(self.url))]
        missing = set(wanted) - self._urls.keys()
        found = []
        if missing:
            async with aclosing(self._found()) as documents:
                async for document in documents:
                    found.append(str(document["id"]))
                    missing -= {found[-1]}
                    if not missing:
                        break
        if missing := set(wanted) - self._urls.keys():
            raise UsageError(self._unknown(min(missing), found))
        return [WalkStart(name, PageRequest(self._urls[name])) for name in wanted]

    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the pages of the tree below `start`, from its position on."""
        root, self._root = self._root, None
        if root is None or start.first.url != self.url:
            root = await read_root(self.reader, start.first.url)
        pages = self._walk(page_size, on_notice).below(root, start.first, self._id)
        del root
        async with aclosing(pages):
            async for page in pages:
                yield page

    def _walk(self, page_size: PageSize, on_notice: OnNotice) -> TreeWalk:
        return TreeWalk(self.reader, self.selection, page_size, on_collection=self._add, on_notice=on_notice)

    def at_link(
        self, href: str, collection: str, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Return the pages that one link leads to: an item, a catalog or an API below a collection.

        Raises:
            SourceError: The servers no longer answer.
            CredentialsError: Credentials are missing or refused.
        """
        return self._walk(page_size, on_notice).at_link(self.url, href, collection)

    async def item(self, href: str) -> Json:
        return await static_item(self.reader, href)

    def _add(self, collection_id: str, url: str) -> None:
        if may_be_kept(collection_id, url) and len(self._urls) < MOST_COLLECTIONS:
            self._urls.setdefault(collection_id, url)

    async def _found(self) -> AsyncGenerator[Json]:
        """Read the catalogs level by level, without items. Yield each collection once, without its links."""
        root = self._root or await read_root(self.reader, self.url)
        level, walked, known = [root], {root.url}, set[str]()
        for _ in range(DEEPEST):
            for document in level:
                async for found in self._found_in_api(document, known):
                    yield found
                body = document.members
                name = body.get("id")
                is_new = isinstance(name, str) and name not in known
                if is_new and kind_of(body) is DocumentKind.COLLECTION:
                    known.add(str(name))
                    self._add(str(name), document.url)
                    yield located(without_links(body, "item", "child"), document.url)
            level = [document for document in level if not is_live(document)]
            urls = [url for url in _children(level) if url not in walked]
            walked.update(urls)
            level = await _read_catalogs(self.reader, list(dict.fromkeys(urls)))

    async def _found_in_api(self, document: Document, known: set[str]) -> AsyncGenerator[Json]:
        """Yield the new collections of the API of a document, unless it is a collection itself."""
        if not is_live(document) or kind_of(document.body) is DocumentKind.COLLECTION:
            return
        try:
            source = await live_source(document, self.reader)
            listed = await source.collections()
        except (SourceError, UsageError):
            return  # the walk reports the error
        for collection in listed:
            if isinstance(name := collection.get("id"), str) and name not in known:
                url = parse_api_url(source.url).collection_url(name)
                known.add(name)
                self._add(name, url)
                yield located(without_links(collection, "item", "child"), url)

    def _unknown(self, name: str, names: list[str]) -> str:
        if self._is_collection and names == [self._id]:
            return f"The source is the collection {self._id} itself: leave -C {name} out, or use its catalog."
        return no_collection(self.url, name, names)


def _children(level: list[Document]) -> list[str]:
    """Return the URLs of the `child` links of these catalogs, in order."""
    urls = []
    for document in level:
        hrefs = tree_hrefs(document.members, items=False)
        found = (absolute(document.url, href) for href in hrefs)
        urls += [url for url in found if isinstance(url, str)]
    return urls


async def _read_catalogs(reader: JsonReader, urls: list[str]) -> list[Document]:
    """Read these catalogs at once. Return them without their `item` links."""
    found: dict[str, Document] = {}
    weight = 0

    async def read(url: str) -> None:
        nonlocal weight
        document = await outcome_of(reader, url)
        if isinstance(document, Document) and document.members:
            kept = without_links(document.members, "item")
            weight += weight_of_document(kept)
            if weight > _HEAVIEST_LEVEL:
                raise SourceError(
                    "The documents of the collections are too large to search: "
                    "use the URL of the collection as SOURCE."
                )
            found[url] = document._replace(body=kept)

    await for_each(urls, read, AT_ONCE)
    return [found[url] for url in urls if url in found]


class LinksAgain(Source):
    """A `Source` that reads some links of a tree again.

    Args:
        source: The tree.
        links: The links to read.
    """

    def __init__(self, source: StaticSource, links: Sequence[Unread]) -> None:
        self.url = source.url
        self.finished: set[str] = set()
        """Hrefs of the links that were walked to the end, successfully or not."""
        self._source = source
        self._links = {link.href: link for link in links}
        self._signed = _Signed(source.url, source.reader)

    async def collections(self) -> list[Json]:
        return await self._source.collections()

    async def collection(self, collection_id: str) -> Json:
        return await self._source.collection(collection_id)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        self._source.selection = selection
        return [WalkStart(link.collection, PageRequest(link.href)) for link in self._links.values()]

    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        link = self._links[start.request.url]
        href = await self._signed.href(link.path) if link.path else None
        pages = self._source.at_link(
            href or link.href, link.collection, page_size=page_size, on_notice=on_notice
        )
        async with aclosing(pages):
            async for page in pages:
                yield _from_root(page, link)
        self.finished.add(link.href)

    async def item(self, href: str) -> Json:
        return await self._source.item(href)


def _from_root(page: Page, link: Unread) -> Page:
    """Return a page from below `link`, with the paths of unread documents relative to the root."""
    above = link.path or (link.href,)
    unread = [
        one._replace(path=(*above, *one.path[1:])) if one.path or link.path else one for one in page.unread
    ]
    return replace(page, unread=tuple(unread))


class _Signed:
    """Looks up the current signed hrefs of links. It keeps the documents on the path to the last link."""

    def __init__(self, root: str, reader: JsonReader) -> None:
        self._reader = reader
        self._chain: list[tuple[str, str, list[str]]] = []
        """For each document on the path: its name in the document above, its URL, and its links."""
        self._root = root

    async def href(self, path: tuple[str, ...]) -> str | None:
        """Return the URL of the link at the end of `path`; None if a document on the path is unreadable."""
        names = ("", *path[:-1])
        kept = 0
        while kept < min(len(self._chain), len(names)) and self._chain[kept][0] == names[kept]:
            kept += 1
        del self._chain[kept:]
        for name in names[kept:]:
            url = self._root if not self._chain else self._leads(name)
            document = None if url is None else await outcome_of(self._reader, url)
            if document is None or isinstance(document, Failure) or not document.members:
                return None
            self._chain.append((name, document.url, tree_hrefs(document.members)))
        return self._leads(path[-1])

    def _leads(self, name: str) -> str | None:
        """Return the URL of the link `name` in the last document of the chain."""
        _, base, hrefs = self._chain[-1]
        href = next((child for child in hrefs if cut_url(child) == name), None)
        url = absolute(base, href or name)  # `name` is a URL if the link was read again before
        return url if isinstance(url, str) else None
