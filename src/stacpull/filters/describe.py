"""A selection in words, for summaries and the log."""

from __future__ import annotations

from collections.abc import Iterator

from stacpull.models import Selection

__all__ = ["describe_selection"]

_FEW = 3


def describe_selection(selection: Selection) -> str:
    """Return one readable line that says what was asked for."""
    return "; ".join(
        (*_items(selection), *_flags(selection), *_place_and_time(selection), *_assets(selection))
    )


def _items(selection: Selection) -> Iterator[str]:
    if selection.collections:
        noun = "collections" if len(selection.collections) > 1 else "collection"
        yield f"{noun} {', '.join(selection.collections)}"
    else:
        yield "all collections" if selection.all_collections else "all items"
    if selection.labels:
        yield f"with {selection.label_mode} of the labels {_quoted(selection.labels)}"
    if selection.exclude_labels:
        yield f"without the labels {_quoted(selection.exclude_labels)}"
    if selection.label_property is not None:
        yield f"labels read from {selection.label_property!r}"
    if selection.nomenclature is not None:
        yield f"nomenclature {selection.nomenclature}"


def _flags(selection: Selection) -> Iterator[str]:
    for wanted, name in (
        (selection.cloud_and_shadow, "cloud or shadow"),
        (selection.seasonal_snow, "seasonal snow"),
    ):
        if wanted is not None:
            yield f"{'with' if wanted else 'without'} {name}"


def _place_and_time(selection: Selection) -> Iterator[str]:
    if selection.bbox is not None:
        yield f"bbox {','.join(f'{number:.12g}' for number in selection.bbox)}"
    if selection.datetime is not None:
        yield f"datetime {selection.datetime}"
    if selection.ids:
        few = len(selection.ids) <= _FEW
        yield f"ids {', '.join(selection.ids)}" if few else f"{len(selection.ids):,} ids"
    if selection.max_items is not None:
        yield f"at most {selection.max_items:,} items"


def _assets(selection: Selection) -> Iterator[str]:
    for name, values in (
        ("assets", selection.assets),
        ("without assets", selection.exclude_assets),
        ("roles", selection.roles),
        ("media types", selection.media_types),
    ):
        if values:
            yield f"{name} {_quoted(values)}"
    if not selection.source_links:
        yield "without source items"


def _quoted(values: tuple[str, ...]) -> str:
    return ", ".join(repr(value) for value in values)
