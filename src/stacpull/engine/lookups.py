"""Checks of a selection, and what a walk asks its source besides pages: `item_assets`, objects of prefixes.

Names in a selection are checked against an API before anything is created, otherwise against the first items.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import aclosing, suppress
from fnmatch import fnmatchcase
from functools import partial

from stacpull.arguments import read_bbox
from stacpull.boxes import to_2d
from stacpull.caches import BoundedCache
from stacpull.config.options import Options
from stacpull.engine.fetchers import clip_fetching
from stacpull.engine.network import WalkSetup
from stacpull.errors import CredentialsError, SourceError, StacpullError, UsageError, did_you_mean
from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.item_filters import PropertyName
from stacpull.filters.labels import check_labels, class_lists, item_labels
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.json_values import object_or_empty
from stacpull.models import Failure, Json, Page
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import asset_hrefs, asset_kind, linked_hrefs, self_href
from stacpull.planning.item_plan import NO_COLLECTION, ListedItem, with_template
from stacpull.planning.layout import Layout
from stacpull.planning.prefixes import Listing, as_prefix
from stacpull.selection import Selection
from stacpull.sources.source import MIN_ITEMS, PageSize, Source, WalkStart
from stacpull.threads import for_each
from stacpull.urls import is_local, scheme_rules


def check_selection(selection: Selection, options: Options) -> None:
    """Raise `UsageError` if the layout, a filter or the area of `--clip` is not valid."""
    if selection.seed and selection.sample is None:  # an older ledger may have such a run to resume
        raise UsageError("--seed needs --sample.")
    SelectionFilter.from_selection(selection)
    clip_fetching(selection.clip)
    Layout.parse(options.layout)


async def walk_starts(source: Source, selection: Selection) -> list[WalkStart]:
    """Return the starts of a walk, or raise `UsageError` if `source` cannot keep to the order of `sortby`."""
    if selection.sortby is not None and not source.sorts:
        raise source.sort_error()
    return await source.starts(selection)


async def checked_setup(setup: WalkSetup) -> WalkSetup:
    """Check boxes and, if SOURCE is an API, labels and names in `--layout`; return the setup with starts."""
    source = setup.source
    selection = setup.selection
    for option, area in {"bbox": selection.bbox, "clip": selection.clip}.items():
        with suppress(ValueError):  # no area, or GeoJSON
            box = to_2d(read_bbox(area or ()))
            if 0 < box.west - box.east < 180:  # noqa: PLR2004 - degrees: it covers most of the globe
                text = "crosses the antimeridian, because W is greater than E. If it should not, swap them."
                setup.network.warn(f"--{option} {text}")
    starts = await walk_starts(source, selection)
    has_names = selection.labels or selection.exclude_labels or Layout.parse(setup.options.layout).properties
    setup = setup._replace(starts=starts)
    if not has_names or not starts or source.api_root is None:
        return setup
    items = list[Json]()
    with suppress(SourceError):  # the walk reports errors
        items = await first_items(source, starts[0])
    for text in await _label_warnings(source, selection, items, starts):
        setup.network.warn(text)
    if len(starts) == 1 and (texts := await _unknown_names(setup, items, starts[0].request.url)):
        raise UsageError(texts[0])
    return setup


async def check_first_page(setup: WalkSetup, page: Page, starts: Sequence[WalkStart]) -> list[str]:
    """Check `sortby` and `assets` against the first page, and what `checked_setup` checks of an API."""
    selection = setup.selection
    items = page.items
    warnings = list[str]()
    if setup.source.api_root is None:
        warnings += await _unknown_names(setup, items, page.request.url)
        warnings += await _label_warnings(setup.source, selection, items, starts)
    name = (selection.sortby or "").removeprefix("-")
    if name and items:
        value = PropertyName(name).value
        if all(value(item, object_or_empty(item.get("properties"))) is None for item in items):
            names = {known for item in items for known in object_or_empty(item.get("properties"))}
            hint = did_you_mean(name, names)
            warnings.append(f"--sortby {name}: no item on the first page has this property{hint}")
    has_links = _linked_href(selection, items, page.request.url) is not None
    if not (selection.expand_prefix or has_links) and len({start.collection for start in starts}) == 1:
        keys = {key for item in items for key in object_or_empty(item.get("assets"))}
        unmatched = [glob for glob in selection.assets if not any(fnmatchcase(key, glob) for key in keys)]
        if keys and 0 < len(unmatched) < len(selection.assets):  # another warning says that none matches
            warnings.append(f"--asset {unmatched[0]}: no item on the first page has such an asset.")
    return warnings


async def _unknown_names(setup: WalkSetup, items: Sequence[Json], url: str) -> list[str]:
    layout = Layout.parse(setup.options.layout)
    warnings = list(layout.unknown_properties(items))
    linked = _linked_href(setup.selection, items, url)
    if not warnings or linked is None:
        return warnings
    try:
        return list(layout.unknown_properties([*items, (await setup.source.item(linked)).members]))
    except (SourceError, CredentialsError, TransferError):
        return []  # the properties of linked items are unknown


def _linked_href(selection: Selection, items: Sequence[Json], url: str) -> str | None:
    relations = followed_relations(selection)
    return next((href for item in items for href in linked_hrefs(item, url, relations)), None)


def followed_relations(selection: Selection) -> set[str]:
    """Return the relations, in lower case, of links to items that are mirrored too."""
    return {*map(str.lower, selection.follow), *(["source"] if selection.source_links else [])}


async def _label_warnings(
    source: Source, selection: Selection, items: Sequence[Json], starts: Sequence[WalkStart]
) -> list[str]:
    if not (selection.labels or selection.exclude_labels):
        return []
    if any(item.get("collection") not in (None, starts[0].collection) for item in items):
        try:
            return check_labels(selection, class_lists(items, None))
        except UsageError as error:
            return [f"{error} Other collections may have it, so the run continues."]
    classes = dict[str, tuple[str, ...]]()
    for start in starts:
        first = items if start.collection == starts[0].collection else ()
        if start is not starts[0] and source.api_root is not None:
            with suppress(SourceError):
                first = await first_items(source, start)
        lists = class_lists(first, None)
        if not lists and start.collection != NO_COLLECTION:
            lists = class_lists((), await source.collection(start.collection))
        classes |= {title: (*classes.get(title, ()), *labels) for title, labels in lists.items()}
        with suppress(UsageError):  # a later collection may have the label
            texts = check_labels(selection, classes)
            if selection.all_collections or not texts:
                return texts
    texts = check_labels(selection, classes)
    labels = (item_labels(object_or_empty(it.get("properties")), selection.label_property) for it in items)
    hint = "No item on the first page has labels: select the collection of the label items."
    return [hint] if texts and not any(labels) else texts


async def first_items(source: Source, start: WalkStart) -> list[Json]:
    start = start._replace(filtered_pages=None)  # without the requests that compare it with another walk
    if start.collection != NO_COLLECTION:
        (start,) = await source.starts(Selection(collections=(start.collection,)))  # without its filters
    walk = source.pages(start, page_size=PageSize(MIN_ITEMS), on_notice=lambda _: None)
    async with aclosing(walk) as pages:
        page = await anext(pages, None)
    return [] if page is None else page.items


class Lookups:
    """Requests what plans need besides their items."""

    def __init__(self, setup: WalkSetup) -> None:
        self._setup = setup
        self._filter = AssetFilter(setup.selection)
        self._collections = BoundedCache[str, Json | StacpullError](max_entries=16)

    async def look_up(self, items: Collection[ListedItem]) -> Collection[ListedItem]:
        """Return the items with `item_assets` and `listings`, if the selection needs these."""
        if self._filter.reads_members:
            names = {item.id.collection for item in items}
            item_assets = {name: await self._item_assets(name) for name in names}
            items = [item._replace(item_assets=item_assets[item.id.collection]) for item in items]
        if self._setup.selection.expand_prefix:
            prefixes = list(map(self._prefixes, items))
            listed = await self._listed({href for of_item in prefixes for href in of_item.values()})
            items = [
                item._replace(listings={key: self._selected(key, listed[of_item[key]]) for key in of_item})
                for item, of_item in zip(items, prefixes, strict=True)
            ]
        return items

    async def _item_assets(self, collection: str) -> Json:
        is_new = collection not in self._collections
        document = await self.collection(collection)
        if not isinstance(document, StacpullError):
            return object_or_empty(document.get("item_assets"))
        if is_new and not isinstance(document, UsageError):
            text = f"Assets of {collection} without type or roles of their own are left out. {document}"
            self._setup.network.warn(text)
        return {}

    async def _listed(self, hrefs: Collection[str]) -> dict[str, Listing | Failure]:
        network = self._setup.network
        listed: dict[str, Listing | Failure] = {}

        async def list_at(href: str) -> None:
            try:
                list_prefix = scheme_rules(href).list_prefix
                objects = await network.retries.run(partial(list_prefix, network.client, as_prefix(href)))
                listed[href] = Listing(objects)
            except TransferError as error:
                listed[href] = error.give_up()

        await for_each(hrefs, list_at, limit=16)
        return listed

    def _selected(self, key: str, listing: Listing | Failure) -> Listing | Failure:
        if isinstance(listing, Failure):
            return listing
        keeps = self._filter.keeps_object
        names = [listed.name for listed in listing.objects]
        left_out = dict.fromkeys(name for name in names if not keeps(key, f"{key}/{name}"))
        kept = tuple(listed for listed in listing.objects if listed.name not in left_out)
        return Listing(kept, tuple(left_out))

    async def collection(self, name: str) -> Json | StacpullError:
        """Return the document of a collection, or the error of reading it. Recent ones are cached."""
        if name not in self._collections:
            try:
                self._collections[name] = await self._setup.source.collection(name)
            except (SourceError, CredentialsError, UsageError) as error:
                self._collections[name] = error
        return self._collections[name]

    def _prefixes(self, item: ListedItem) -> dict[str, str]:
        base = self_href(item.document, local=is_local(item.url)) or item.url
        prefixes = {}
        for key, asset in object_or_empty(item.document.get("assets")).items():
            if not isinstance(asset, dict) or not self._filter.may_hold(
                key, with_template(asset, item.item_assets.get(key))
            ):
                continue
            hrefs = asset_hrefs(asset, base, self._setup.selection.prefer)
            if isinstance(hrefs, Failure) or not scheme_rules(hrefs[0]).is_object_store:
                continue
            if asset_kind(hrefs[0], asset.get("type")) == "prefix":
                prefixes[key] = hrefs[0]
        return prefixes
