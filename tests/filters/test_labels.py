from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stacpull.filters.item_filter import compile_items
from stacpull.filters.labels import BEN19, CLC43, TO_BEN19, item_labels
from stacpull.selection import Selection

OVERVIEWS = {
    "label:overviews": [
        {"property_key": "Crop1", "counts": [{"name": "Maize", "count": 59}, {"name": "Millet", "count": 0}]},
        {"property_key": "Yield", "statistics": [{"name": "mean", "value": 3.7}]},
        {"property_key": "paved", "counts": [{"name": 1, "count": 19}]},
    ]
}


def judge(properties, **selection):
    return compile_items(Selection(**selection)).judge({"id": "a", "properties": properties})


@pytest.mark.parametrize(
    ("properties", "label_property", "expected"),
    [
        ({"labels": ["Pastures", "Airports"]}, None, ["Pastures", "Airports"]),
        ({"labels": "Pastures"}, None, ["Pastures"]),
        ({"labels": [1, None, "x"]}, None, ["1", "x"]),
        ({"labels": []}, None, []),
        ({}, None, []),
        (OVERVIEWS, None, ["Maize", "1"]),
        ({**OVERVIEWS, "labels": None}, None, ["Maize", "1"]),
        ({**OVERVIEWS, "labels": ["Bean"]}, None, ["Bean"]),
        ({"labels": ["Bean"], "crop": "Maize"}, "crop", ["Maize"]),
        ({"labels": ["Bean"]}, "crop", []),
        ({"label:overviews": "broken"}, None, []),
        (
            {
                "label:overviews": [
                    None,
                    {"counts": 3},
                    {"counts": [4, {"count": 4}, {"name": "a", "count": "b"}]},
                ]
            },
            None,
            [],
        ),
    ],
)
def test_labels_are_read_from_their_properties(properties, label_property, expected):
    assert item_labels(properties, label_property) == expected


@pytest.mark.parametrize(
    ("labels", "selection", "reason"),
    [
        (["Rice fields"], {"labels": ("Coniferous forest", "Rice fields")}, None),
        (["  rice FIELDS "], {"labels": ("Rice fields",)}, None),
        (["Rice fields"], {"labels": (" RICE fields",)}, None),
        (["Rice"], {"labels": ("Rice fields",)}, "label"),
        ([], {"labels": ("Rice fields",)}, "label"),
        (["a", "b", "c"], {"labels": ("a", "b"), "label_mode": "all"}, None),
        (["a", "c"], {"labels": ("a", "b"), "label_mode": "all"}, "label"),
        (["a", "b"], {"labels": ("a",), "exclude_labels": ("B",)}, "excluded label"),
        (["c"], {"exclude_labels": ("b",)}, None),
        ([], {"exclude_labels": ("b",)}, None),
        (
            ["Land principally occupied by agriculture, with significant areas of natural vegetation"],
            {"labels": ("Land principally occupied by agriculture",)},
            "label",
        ),
        (["Rice fields"], {"labels": ("Arable land",), "nomenclature": "ben19"}, None),
        (["Arable land"], {"labels": ("arable LAND",), "nomenclature": "ben19"}, None),
        (["Rice fields"], {"labels": ("Pastures",), "nomenclature": "ben19"}, "label"),
        (["Rice fields"], {"labels": ("Arable land",), "nomenclature": "clc43"}, "label"),
        (
            ["Salines"],
            {"exclude_labels": ("Coastal wetlands",), "nomenclature": "ben19"},
            "excluded label",
        ),
        (["Airports"], {"nomenclature": "ben19"}, "no label in nomenclature"),
        ([], {"nomenclature": "ben19"}, "no label in nomenclature"),
        (["Airports", "Pastures"], {"nomenclature": "ben19"}, None),
        (["Airports"], {"nomenclature": "clc43"}, None),
    ],
)
def test_verdicts_by_labels(labels, selection, reason):
    assert judge({"labels": labels}, **selection) == reason


NAMES = st.sampled_from([*CLC43[:14], *list(BEN19)[:6], "Airports", "elsewhere"])
SPELLED = st.builds(
    lambda name, case, pad: pad + getattr(name, case)() + pad,
    NAMES,
    st.sampled_from(["upper", "lower", "title", "swapcase"]),
    st.sampled_from(["", " ", "\t"]),
)


@given(
    labels=st.lists(SPELLED, max_size=4),
    selected=st.lists(SPELLED, max_size=3),
    excluded=st.lists(SPELLED, max_size=2),
    mode=st.sampled_from(["any", "all"]),
    nomenclature=st.sampled_from([None, "clc43", "ben19"]),
)
@example(labels=[], selected=[], excluded=[], mode="all", nomenclature="ben19")
def test_labels_agree_with_a_naive_model(labels, selected, excluded, mode, nomenclature):
    def same(one, other):
        return one.strip().lower() == other.strip().lower()

    if nomenclature == "ben19":
        mapped = [new for label in labels for old, new in TO_BEN19.items() if same(old, label)]
        mapped += [new for label in labels for new in BEN19 if same(new, label)]
    else:
        mapped = labels
    hits = [any(same(label, wanted) for label in mapped) for wanted in selected]
    matches = not selected or (any(hits) if mode == "any" else all(hits))
    if any(same(label, bad) for label in mapped for bad in excluded):
        matches = False
    if nomenclature == "ben19" and not mapped:
        matches = False

    reason = judge(
        {"labels": labels},
        labels=tuple(selected),
        exclude_labels=tuple(excluded),
        label_mode=mode,
        nomenclature=nomenclature,
    )
    assert (reason is None) == matches
