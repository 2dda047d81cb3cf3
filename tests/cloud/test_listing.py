"""A listing that fails in between yields every object once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import obstore
import pytest

from stacpull_cloud.objects import Objects


@pytest.mark.parametrize("location", ["radosgw", "moto", "azurite"], indirect=True)
def test_a_listing_that_fails_in_between_is_continued(location, monkeypatch):
    objects, whole, begun = Objects(location), obstore.list, []
    for number in range(5):
        objects.put(f"d/{number}", b"x", {}, create=True)

    def failing(*given: Any, **options: Any) -> Iterator[Any]:
        begun.append(options)
        pages = iter(whole(*given, **{**options, "chunk_size": 2}))
        yield next(pages)
        if len(begun) == 1:
            raise obstore.exceptions.GenericError("HTTP error")
        yield from pages

    monkeypatch.setattr(obstore, "list", failing)
    found = [one.path for page in objects.pages("d") for one in page]
    assert (found, len(begun)) == ([f"d/{number}" for number in range(5)], 2)
