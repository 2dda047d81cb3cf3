"""Layouts recognised by the paths of files: every layout is recognised by its own samples."""

from __future__ import annotations

import pytest

from stacpull.models import ItemId
from stacpull.planning.kinds import suffix_of
from stacpull.planning.layout import Layout, complete
from stacpull.planning.recognition import Sample, recognised


def samples(layout: str) -> list[Sample]:
    """Return samples: two assets of four items in two collections, with source items of label items."""
    parsed = Layout.parse(layout)
    made = []
    for number in range(4):
        label = ItemId("labels", f"l{number}")
        for item, parent in ((label, None), (ItemId("sources", f"s{number}"), label)):
            document = {
                "properties": {
                    "datetime": f"201{number}-0{number + 1}-1{number}T00:00:00Z",
                    "grid": f"T{number}",
                }
            }
            for key in ("B01", "B02"):
                origin = f"https://h.example/{item.item}/x{key}.tif"
                found = parsed.for_item(item, document, parent).path(key, suffix_of(origin, None))
                template, filename = found.name_template or "{filename}", f"{item.item}-{key}.tif"
                name = found.name or complete(template, filename, found.directory)
                path = f"{found.directory}/{name}" if found.directory else name
                made.append(Sample(item, document, parent, key, origin, None, path))
    return made


@pytest.mark.parametrize(
    "layout",
    [
        "{collection}/{item}/{key}{ext}",
        "bigearthnet/{parent}/{filename}",
        "{year}/{month}/{day}/{item}_{key}{ext}",
        "{grid}/{item}/{key}",
        "flat/{item}_{key}{ext}",
        "a{{b/{collection}/{filename}",
        "{filename}",
    ],
)
def test_a_layout_is_recognised_by_its_own_tree(layout: str) -> None:
    assert recognised(samples(layout)) == layout


@pytest.mark.parametrize(
    "layout",
    ["{collection}-{item}/{key}{ext}", "{year}{month}/{item}_{key}{ext}", "{item|removeprefix:l}/{key}"],
)
def test_unknown_layouts_are_not_recognised(layout: str) -> None:
    assert recognised(samples(layout)) is None


def test_no_samples_and_different_depths_are_not_recognised() -> None:
    mixed = samples("{collection}/{item}/{key}{ext}")[:1] + samples("{item}/{key}{ext}")[:1]
    assert (recognised([]), recognised(mixed)) == (None, None)
