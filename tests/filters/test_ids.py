from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.errors import UsageError
from stacpull.filters.item_filter import compile_items
from stacpull.selection import Selection

PATCH = "S2A_MSIL2A_20170613T101031_0_45"


@pytest.mark.parametrize(
    ("item_id", "wanted", "matches"),
    [
        (PATCH, (PATCH,), True),
        (f"bigearthnet_v1_labels_{PATCH}", (PATCH,), True),
        (f"bigearthnet_v1_labels_{PATCH}", (f" {PATCH} ",), True),
        (f"bigearthnet_v1_labels_{PATCH}", ("other", f"bigearthnet_v1_labels_{PATCH}"), True),
        ("bigearthnet_v1_labels_S2A_MSIL2A_20170613T101031_10_45", (PATCH,), False),
        ("xS2A_MSIL2A_20170613T101031_0_45", (PATCH,), False),
        (PATCH, (f"bigearthnet_v1_labels_{PATCH}",), False),
        ("patch_5_45", ("_45",), False),
        ("URN:FEATURE:DATA:V1", ("V1",), True),
        ("2025/04/02/S2A", ("S2A",), True),
        ("a-b", ("b",), True),
        ("a.b", ("b",), True),
        ("a b", ("b",), False),
        ("a", ("A",), False),
        (7, ("7",), False),
        (None, ("a",), False),
        ("", ("a",), False),
    ],
)
def test_items_match_by_id_or_by_its_ending(item_id, wanted, matches):
    reason = compile_items(Selection(ids=wanted)).judge({"id": item_id})
    assert reason == (None if matches else "ids")


@pytest.mark.parametrize("wanted", [("",), ("a", "  ")])
def test_an_empty_id_is_refused(wanted):
    with pytest.raises(UsageError, match="ids"):
        compile_items(Selection(ids=wanted))


TEXT = st.text(alphabet="ab_-/.:", max_size=8)


@given(item_id=TEXT, wanted=st.lists(TEXT.filter(bool), min_size=1, max_size=6))
def test_endings_agree_with_a_naive_model(item_id, wanted):
    naive = item_id in wanted or any(
        item_id.endswith(ending) and item_id[: -len(ending)][-1:] in tuple("_-/.:") for ending in wanted
    )
    reason = compile_items(Selection(ids=tuple(wanted))).judge({"id": item_id})
    assert (reason is None) == naive


@pytest.mark.parametrize(
    ("wanted", "seen", "note"),
    [
        (("a", "b"), ("a", "x_b"), None),
        (("a", "b"), ("a",), "No item matches 1 of the 2 ids in --ids: b."),
        (("a",), ("b",), "No item matches the id in --ids: a."),
        (tuple("abcde"), (), "No item matches 5 of the 5 ids in --ids: a, b, c, …."),
        (
            ("ids.txt",),
            ("a",),
            "No item matches the id in --ids: ids.txt. To read ids from a file, use --ids @ids.txt.",
        ),
        (("b", "a_b"), ("a_b",), None),
    ],
)
def test_unmatched_ids_are_reported_after_a_complete_walk(wanted, seen, note):
    selected = compile_items(Selection(ids=wanted, cloud_and_shadow=True))
    for name in seen:
        selected.judge({"id": name})
    assert selected.notes({}, whole=True) == ([] if note is None else [note])
    assert selected.notes({}) == []
