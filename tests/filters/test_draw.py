from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.engine.walk import Sample
from stacpull.errors import UsageError
from stacpull.filters.ids import rank_of
from stacpull.filters.item_filter import compile_items
from stacpull.models import ItemId
from stacpull.selection import Selection

IDS = st.lists(st.text("abc0123_", min_size=1, max_size=6), unique=True, max_size=40)


@cache
def shards(count):
    return [compile_items(Selection(shard=(number, count))) for number in range(1, count + 1)]


def shard_of(item_id, count):
    judged = [shard.judge({"id": item_id}) for shard in shards(count)]
    return [number for number, reason in enumerate(judged, 1) if reason is None]


@given(item_id=st.text(max_size=20), count=st.integers(1, 9))
def test_every_item_is_in_one_shard(item_id, count):
    assert len(shard_of(item_id, count)) == 1


def test_shards_have_similar_sizes_and_never_change():
    sizes = dict.fromkeys(range(1, 5), 0)
    for number in range(2000):
        sizes[shard_of(f"S2A_MSIL2A_{number}", 4)[0]] += 1
    assert all(400 < size < 600 for size in sizes.values())
    assert [shard_of(name, 4) for name in ("a", "b", "c", "S2A_0_45")] == [[3], [3], [2], [3]]


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1,), (-1, -1)])
def test_an_invalid_shard_is_rejected(shard):
    with pytest.raises(UsageError, match="shard must be"):
        compile_items(Selection(shard=shard))


def drawn(ids, size, seed):
    """Return the ids of the sample, in two batches at least."""
    sample = Sample(size, seed)
    for name in ids:
        sample.offer((ItemId("c", name), {"id": name}, "https://x/items"))
    return [item["id"] for batch in sample.batches(max(1, size // 2)) for _, item, _ in batch]


@given(ids=IDS, size=st.integers(1, 10), seed=st.integers(0, 3), data=st.data())
def test_a_sample_has_the_lowest_ranks_in_any_order(ids, size, seed, data):
    naive = sorted(ids, key=lambda name: rank_of(seed, name))[:size]
    shuffled = data.draw(st.permutations(ids))
    assert drawn(ids, size, seed) == naive
    assert drawn([*shuffled, *ids], size, seed) == naive


def test_seeds_draw_differently():
    ids = [f"item-{number}" for number in range(5000)]
    assert drawn(ids, 10, 0) != drawn(ids, 10, 1)


def test_the_newest_document_of_an_item_counts():
    sample = Sample(2, 0)
    for year in (2020, 2022, 2021):
        document = {"id": "a", "properties": {"updated": f"{year}-01-01T00:00:00Z"}}
        sample.offer((ItemId("c", "a"), document, "https://x/items"))
    ((_, drawn, _),) = next(sample.batches(10))
    assert drawn["properties"]["updated"].startswith("2022")


def test_a_sample_and_max_items_contradict_each_other():
    with pytest.raises(UsageError, match="--sample and --max-items contradict each other: give one of them"):
        Selection(sample=1, max_items=1)
