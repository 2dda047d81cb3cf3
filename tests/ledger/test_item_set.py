from __future__ import annotations

import tracemalloc
from contextlib import closing

from stacpull.ledger.runs import ItemSet
from stacpull.models import ItemId


def test_an_item_is_in_the_set_once() -> None:
    with closing(ItemSet()) as items:
        assert items.add(ItemId("c", "a"))
        assert not items.add(ItemId("c", "a"))
        assert items.add(ItemId("d", "a"))


def test_intersection_finds_the_items_in_the_set() -> None:
    ids = [ItemId("c", f"item-{number}") for number in range(3000)]
    with closing(ItemSet()) as items:
        for one in ids[::3]:
            items.add(one)
        assert items.intersection(ids) == set(ids[::3])
        assert items.intersection([]) == set()


def test_many_items_take_no_memory_of_python() -> None:
    with closing(ItemSet()) as items:
        items.add(ItemId("c", "first"))
        tracemalloc.start()
        for number in range(20_000):
            items.add(ItemId("c", f"an-item-with-a-name-{number}"))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert taken < 100_000
