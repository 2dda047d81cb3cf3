"""The public functions that describe a source: its collections, and their label classes."""

from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing, suppress

from stacpull.arguments import or_default
from stacpull.config.options import Options
from stacpull.engine.network import Network, open_network, resolve_source
from stacpull.engine.selection_checks import first_items
from stacpull.errors import UsageError
from stacpull.events import Listener, Stage
from stacpull.filters.labels import class_lists, fold_label, item_labels
from stacpull.json_values import object_or_empty
from stacpull.models import Json, PublicValue
from stacpull.planning.item_plan import id_of
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.sources.source import LoopDetector, Pages, PageSize


class ClassInfo(PublicValue, frozen=True):
    """One list of label classes. `counts` is the number of items with each class, if any was counted."""

    name: str
    classes: tuple[str, ...]
    counts: Mapping[str, int] | None = None


async def collections(
    source: str, *, options: Options | None = None, on_event: Listener | None = None
) -> list[Json]:
    """Return the documents of the collections of `source`. Arguments and errors are those of `mirror`."""
    options, resolved = resolve_source(source, or_default("options", Options, options))
    async with open_network(resolved, options, on_event=on_event) as network:
        return await (await open_source(resolved.url, network.reader)).collections()


async def classes(
    source: str,
    collection: str,
    *,
    count: bool = False,
    label_property: str | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
) -> list[ClassInfo]:
    """Return the label classes of a collection, all lists or that of `label_property`.

    `count` reads all items, to count those with each class. Other arguments and errors: as for `mirror`.
    """
    options, resolved = resolve_source(source, or_default("options", Options, options))
    counts = Counter[str]()
    async with open_network(resolved, options, on_event=on_event) as network:
        opened = await open_source(resolved.url, network.reader)
        (start,) = await opened.starts(Selection(collections=(collection,)))
        items = await first_items(opened, start)
        lists = class_lists(items, None)
        with suppress(UsageError):  # a file of items may have no link to the collection
            lists = class_lists(items, await opened.collection(collection))
        lists = {name: names for name, names in lists.items() if label_property in (None, name)}
        spelled = {fold_label(label): label for labels in lists.values() for label in labels}
        if count:
            size = PageSize.requested(options.page_size)
            pages = opened.pages(start, page_size=size, on_notice=network.emit)
            counts = await _label_counts(network, pages, collection, label_property, spelled)
    if not lists and not counts:
        hint = ", as most image collections do (--count would look for labels in every item)"
        raise UsageError(f"{collection} lists no label classes{': its items have none' if count else hint}.")
    infos = []
    for name, names in lists.items():
        of_list = None
        if count and (name == label_property or any(label in counts for label in names)):
            of_list = {label: counts[label] for label in names}
        infos.append(ClassInfo(name, names, of_list))
    listed = {label for labels in lists.values() for label in labels}
    unlisted = {label: number for label, number in counts.items() if label not in listed}
    if unlisted:
        infos.append(ClassInfo("labels not in any list", tuple(unlisted), unlisted))
    return infos


async def _label_counts(
    network: Network, pages: Pages, collection: str, label_property: str | None, spelled: dict[str, str]
) -> Counter[str]:
    """Count the items with each label. A label that is not in `spelled` is spelled as in the first item."""
    counts = Counter[str]()
    loops = LoopDetector()
    seen = set[int]()  # hashes, because there may be millions
    async with aclosing(pages):
        async for page in pages:
            items = {hash(id_of(item, collection)): item for item in page.items}
            new_items = [item for key, item in items.items() if key not in seen]
            seen |= items.keys()
            for item in new_items:
                labels = item_labels(object_or_empty(item.get("properties")), label_property)
                counts.update({spelled.setdefault(fold_label(name), name.strip()) for name in labels})
            network.emit(Stage("counting items", len(seen)))
            for entry in page.unreadable[-1:]:
                network.warn(f"An entry of SOURCE cannot be read: {entry.name}: {entry.failure.message}")
            if (reason := loops.count_page(page, len(new_items))) is not None:
                if page.announced is None or len(seen) < page.announced:
                    network.warn(reason)
                break
    return counts
