"""Checks of a selection and a layout: their syntax, and the names in them against the source.

Only an API can be asked before the walk. For other sources, labels are checked against the first items.
"""

from __future__ import annotations

from collections.abc import Sequence

from stacpull.config.options import Options
from stacpull.engine.clips import clipping
from stacpull.errors import SourceError, UsageError
from stacpull.filters.item_filter import compile_items
from stacpull.filters.labels import check_labels, class_list
from stacpull.filters.places import area_geometry, is_apart
from stacpull.json_values import object_or_empty
from stacpull.models import Json
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import source_links
from stacpull.planning.layout import Layout
from stacpull.selection import Selection
from stacpull.sources.source import Source, class_documents
from stacpull.sources.stac_api import ApiSource


def check_syntax(selection: Selection, options: Options) -> Layout:
    layout = Layout.parse(options.layout)
    compile_items(selection)
    clipping(selection.clip)
    return layout


async def validate(source: Source, selection: Selection, layout: Layout) -> None:
    """Check, before anything is created, that the names in `selection` and `layout` exist at `source`."""
    starts = await source.starts(selection)
    is_needed = bool(selection.labels or selection.exclude_labels or layout.properties)
    if not (starts and is_needed and isinstance(source, ApiSource)):
        return
    collection = starts[0].collection
    items = await _first_items(source, collection)
    await selection_warnings(selection, items, source, collection)
    if len(starts) > 1 or not items or not layout.properties:
        return
    documents = list(items)
    linked = next((href for item in items for href in source_links(item, None)), None)
    if linked is not None and selection.source_links:
        try:
            documents.append(await source.item(linked))
        except (SourceError, TransferError):
            return  # its properties are unknown
    layout.check_properties(documents)


async def selection_warnings(
    selection: Selection, items: Sequence[Json], source: Source, collection: str
) -> list[str]:
    """Check the selected labels against the existing classes, and the area against the extent.

    The classes are those of the items, or else of the collection. If there are no items, the first ones of
    the collection are read, because a selection without matches proves nothing about the collection.
    """
    warnings = await _extent_warnings(selection, source, collection)
    if not (selection.labels or selection.exclude_labels):
        return warnings
    if not items and isinstance(source, ApiSource):
        items = await _first_items(source, collection)
    if any(item.get("collection") not in (None, collection) for item in items):
        try:
            return warnings + check_labels(selection, class_list(items, None))
        except UsageError as error:
            return [*warnings, f"{error} Collections that follow may have it, so the walk continues."]
    classes = class_list(items, None) or class_list((), await source.collection(collection))
    return warnings + check_labels(selection, classes)


async def _first_items(source: ApiSource, collection: str) -> list[Json]:
    """Return the first items of a collection, without a selection; none if they cannot be read."""
    try:
        return (await class_documents(source, collection)).items
    except SourceError:
        return []  # the walk reports errors


async def _extent_warnings(selection: Selection, source: Source, collection: str) -> list[str]:
    """Return a warning if the selected area is outside of the collection's extent."""
    option, box = "--bbox", selection.bbox
    if selection.intersects is not None:
        found = area_geometry(selection.intersects)
        option, box = "--intersects", None if found is None else found[0]
    if box is None or not collection:
        return []
    try:
        document = await source.collection(collection)
    except (SourceError, UsageError):
        return []  # the walk reports what is wrong
    boxes = object_or_empty(object_or_empty(document.get("extent")).get("spatial")).get("bbox")
    if not isinstance(boxes, list) or not is_apart(box, boxes):
        return []
    stated = ",".join(f"{number:g}" for number in boxes[0])
    order = " Longitude comes before latitude: W,S,E,N." if option == "--bbox" else ""
    return [f"{option} is outside of the extent of {collection}, which is {stated}.{order}"]
