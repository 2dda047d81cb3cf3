"""Checks of a selection: of its syntax, and of the names in it.

Names are checked against an API before anything is created, otherwise against the first items.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import aclosing, suppress

from stacpull.arguments import read_bbox
from stacpull.boxes import to_2d
from stacpull.config.options import Options
from stacpull.engine.fetchers import clip_fetching
from stacpull.engine.network import WalkSetup
from stacpull.errors import CredentialsError, SourceError, UsageError, did_you_mean
from stacpull.filters.item_filters import BooleanFilter, PropertyName
from stacpull.filters.labels import check_labels, class_lists, item_labels
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.json_values import object_or_empty
from stacpull.models import Json, Page
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import linked_hrefs
from stacpull.planning.item_plan import NO_COLLECTION, size_and_checksum
from stacpull.planning.layout import Layout
from stacpull.selection import Selection
from stacpull.sources.source import MIN_ITEMS, PageSize, Source, WalkStart

_LABEL_ITEMS = "select the collection of the label items."


def check_selection(selection: Selection, options: Options) -> None:
    if selection.seed and selection.sample is None:  # an older ledger may have such a run to resume
        raise UsageError("--seed needs --sample.")
    SelectionFilter.from_selection(selection)
    clip_fetching(selection.clip)
    Layout.parse(options.layout)


async def walk_starts(source: Source, selection: Selection) -> list[WalkStart]:
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
    items = []
    with suppress(SourceError):  # the walk reports errors
        items = await first_items(source, starts[0])
    for text in await _label_warnings(source, selection, items, starts):
        setup.network.warn(text)
    if len(starts) == 1:
        for text in await _unknown_names(setup, items, starts[0].request.url):
            raise UsageError(text)
    return setup


async def check_first_page(setup: WalkSetup, page: Page, starts: Sequence[WalkStart]) -> list[str]:
    """Check properties and `assets` against the first page, and what `checked_setup` checks of an API."""
    selection = setup.selection
    items = page.items
    warnings = []
    if setup.source.api_root is None:
        warnings += await _unknown_names(setup, items, page.request.url)
        warnings += await _label_warnings(setup.source, selection, items, starts)
    assets = [asset for item in items for asset in object_or_empty(item.get("assets")).items()]
    has_links = _linked_href(selection, items, page.request.url) is not None
    is_one_collection = len({start.collection for start in starts}) == 1
    warnings += _property_warnings(selection, items)
    stated = [(key, asset) for key, asset in assets if "file:checksum" in object_or_empty(asset)]
    if unknown := {key for key, asset in stated if size_and_checksum(asset)[1] is None}:
        names = ", ".join(sorted(unknown))[:100]
        warnings.append(f"Checksums of an unknown kind, such as of {names}, cannot be verified.")
    if is_one_collection and not (selection.expand_prefix or has_links):
        keys = dict(assets)
        for option, globs in {"asset": selection.assets, "exclude-asset": selection.exclude_assets}.items():
            unmatched = [glob for glob in globs if not fnmatch.filter(keys, glob)]
            is_said = option == "asset" and len(unmatched) == len(globs)  # another warning: none matches
            if keys and unmatched and not is_said:
                warnings.append(f"--{option} {unmatched[0]}: no item on the first page has such an asset.")
    return warnings


def _property_warnings(selection: Selection, items: Sequence[Json]) -> Iterator[str]:
    properties = [object_or_empty(item.get("properties")) for item in items]
    named = [("where", condition.partition("=")[0].strip()) for condition in selection.where]
    if selection.sortby is not None:
        named.insert(0, ("sortby", selection.sortby.removeprefix("-")))
    for option, name in named:
        values = map(PropertyName(name).value, items, properties)
        if items and all(value is None for value in values):
            hint = did_you_mean(name, {known for own in properties for known in own})
            yield f"--{option} {name}: no item on the first page has this property{hint}"
    for name in BooleanFilter.fields:
        if items and getattr(selection, name) is False and not any(name in own for own in properties):
            effect = f"so --no-{name.replace('_', '-')} keeps all"
            yield f"No item on the first page has {name}, {effect}: {_LABEL_ITEMS}"


async def _unknown_names(setup: WalkSetup, items: Sequence[Json], url: str) -> list[str]:
    layout = Layout.parse(setup.options.layout)
    warnings = list(layout.unknown_properties(items))
    linked = _linked_href(setup.selection, items, url)
    if not warnings or linked is None:
        return warnings
    try:
        document = await setup.source.item(linked)
        return list(layout.unknown_properties([*items, document.members]))
    except (SourceError, CredentialsError, TransferError):
        return []  # the properties of linked items are unknown


def _linked_href(selection: Selection, items: Sequence[Json], url: str) -> str | None:
    relations = followed_relations(selection)
    return next((href for item in items for href in linked_hrefs(item, url, relations)), None)


def followed_relations(selection: Selection) -> set[str]:
    relations = set(map(str.lower, selection.follow))
    if selection.source_links:
        relations.add("source")
    return relations


async def _label_warnings(
    source: Source, selection: Selection, items: Sequence[Json], starts: Sequence[WalkStart]
) -> list[str]:
    if not (selection.labels or selection.exclude_labels):
        return []
    others = [item for item in items if item.get("collection") not in (None, starts[0].collection)]
    if others:
        try:
            return check_labels(selection, class_lists(items, None))
        except UsageError as error:
            return [f"{error} Other collections may have it, so the run continues."]
    classes = dict[str, tuple[str, ...]]()
    for start in starts:
        first: Sequence[Json] = ()
        if start.collection == starts[0].collection:
            first = items
        elif source.api_root is not None:
            with suppress(SourceError):
                first = await first_items(source, start)
        lists = class_lists(first, None)
        if not lists and start.collection != NO_COLLECTION:
            lists = class_lists((), await source.collection(start.collection))
        for title, labels in lists.items():
            classes[title] = (*classes.get(title, ()), *labels)
        try:
            texts = check_labels(selection, classes)
        except UsageError:
            if start is starts[-1]:
                raise
            continue  # a later collection may have the label
        if selection.all_collections or not texts:
            return texts
    labels_of = [item_labels(object_or_empty(i.get("properties")), selection.label_property) for i in items]
    if texts and not any(labels_of):
        what = f"the property {selection.label_property}" if selection.label_property else "labels"
        return [f"No item on the first page has {what}: {_LABEL_ITEMS}"]
    return texts


async def first_items(source: Source, start: WalkStart) -> list[Json]:
    start = start._replace(filtered_pages=None)  # without the requests that compare it with another walk
    if start.collection != NO_COLLECTION:
        (start,) = await source.starts(Selection(collections=(start.collection,)))  # without its filters
    walk = source.pages(start, page_size=PageSize(MIN_ITEMS), on_notice=lambda _: None)
    async with aclosing(walk) as pages:
        page = await anext(pages, None)
    return [] if page is None else page.items
