"""The public functions that describe a source: its collections, and their label classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing

from stacpull.arguments import instance
from stacpull.config.options import Options
from stacpull.engine.network import open_network, options_and_address
from stacpull.errors import ForgottenCursorError, UsageError
from stacpull.filters.labels import class_list, item_labels
from stacpull.json_values import object_or_empty
from stacpull.models import Json, PublicValue
from stacpull.selection import Selection
from stacpull.sources.opening import open_source
from stacpull.sources.source import PageSize, Restarts, Source, class_documents


class ClassInfo(PublicValue, frozen=True):
    """One list of label classes. `counts` is the number of items with each class, if they were counted."""

    name: str
    classes: tuple[str, ...]
    counts: Mapping[str, int] | None = None


async def collections(source: str, *, options: Options | None = None) -> list[Json]:
    options, address = options_and_address(source, instance("options", Options, options))
    async with open_network(address, options) as network:
        return await (await open_source(address.url, network.reader)).collections()


async def classes(
    source: str, collection: str, *, count: bool = False, options: Options | None = None
) -> list[ClassInfo]:
    """Return the label classes of a collection; with `count`, also the number of items with each.

    Counting reads all items of the collection.
    """
    options, address = options_and_address(source, instance("options", Options, options))
    async with open_network(address, options) as network:
        opened = await open_source(address.url, network.reader)
        documents = await class_documents(opened, collection)
        lists = class_list(documents.items, documents.collection)
        counts = await _counted(opened, collection, options) if count else None
    if not lists and not counts:
        raise UsageError(f"{collection} states no label classes: try --count.")
    if counts is None:
        return [ClassInfo(name, names) for name, names in lists.items()]
    infos = [
        ClassInfo(name, names, {n: counts.get(n, 0) for n in names})
        for name, names in lists.items()
        if any(n in counts for n in names)
    ]
    if unlisted := tuple(name for name in counts if not any(name in names for names in lists.values())):
        infos.append(ClassInfo("labels not in any list", unlisted, {n: counts[n] for n in unlisted}))
    return infos


async def _counted(source: Source, collection: str, options: Options) -> Counter[str]:
    """Return the number of items of a collection with each label."""
    total: Counter[str] = Counter()
    size = PageSize.requested(options.page_size)
    for start in await source.starts(Selection(collections=(collection,))):
        restarts, counts = Restarts(from_start=True), None
        while counts is None:  # if the source forgets its cursor, count again from the start
            counts, items = Counter[str](), 0
            try:
                async with aclosing(source.pages(start, page_size=size, on_notice=lambda _: None)) as pages:
                    async for page in pages:
                        items += len(page.items)
                        for item in page.items:
                            counts.update(set(item_labels(object_or_empty(item.get("properties")))))
            except ForgottenCursorError:
                counts = None
                if not restarts.may_restart(items):
                    raise
        total += counts
    return total
