"""Names of complete parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.store.staging import CompletePartName, complete_part_name, parse_complete_part

NUMBERS = st.integers(0, 10**18 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


@given(NUMBERS, NUMBERS, NUMBERS, st.none() | TEXTS, TEXTS, st.booleans())
def test_the_fields_in_a_name_can_be_read_back(rowid, generation, size, etag, filename, unproven):
    name = complete_part_name(CompletePartName(rowid, generation, size, etag, filename, unproven))
    assert len(name.encode()) <= 255
    assert "/" not in name
    assert "\0" not in name
    found = parse_complete_part(name)
    full = CompletePartName(rowid, generation, size, etag or None, filename, unproven)
    assert found in (full, CompletePartName(rowid, generation, size, None, None, unproven))
    if len(name) < 200 and ";" in name:
        assert found == full


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("5.0.7;%22e%22;a.tif.whole", CompletePartName(5, 0, 7, '"e"', "a.tif")),
        ("5.0.7.whole", CompletePartName(5, 0, 7, None, None)),
        ("5.0.7;%FF;%FF.whole", CompletePartName(5, 0, 7, "\ufffd", "\ufffd")),
        ("5.0.whole", None),
        ("5.0.7.part", None),
        ("12.item.json", None),
        ("5.-1.7.whole", None),
        ("5.0.7.8.whole", None),
        ("\u0665.0.7.whole", None),
        ("5.0.7.whole.tmp", None),
        (complete_part_name(CompletePartName(5, 0, 7, "\ud800", "a")), CompletePartName(5, 0, 7, "?", "a")),
    ],
)
def test_names_are_parsed(name: str, found: CompletePartName | None) -> None:
    assert parse_complete_part(name) == found
