"""Names of complete parts: their fields can be read back, whatever servers send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.store.complete_parts import CompletePartName, complete_part_name, parse_complete_part

NUMBERS = st.integers(0, 2**62)
TEXTS = st.text(st.characters(), max_size=60)  # lone surrogates included


@given(NUMBERS, NUMBERS, NUMBERS, st.none() | TEXTS, TEXTS, st.booleans())
def test_the_fields_in_a_name_can_be_read_back(
    row: int, generation: int, size: int, etag: str | None, filename: str, unproven: bool
) -> None:
    name = complete_part_name(row, generation, size, etag, filename, unproven=unproven)
    assert len(name.encode()) <= 255
    assert "/" not in name
    assert "\0" not in name
    found = parse_complete_part(name)
    full = CompletePartName(row, generation, size, etag or None, filename, unproven)
    assert found in (full, CompletePartName(row, generation, size, None, None, unproven))
    if len(name) < 200 and ";" in name:
        assert found == full


def test_fields_that_do_not_fit_are_left_out() -> None:
    assert complete_part_name(5, 0, 7, '"e"', "a.tif") == "5.0.7;%22e%22;a.tif.whole"
    assert complete_part_name(5, 0, 7, None, "a" * 300) == "5.0.7.whole"
    assert parse_complete_part("5.0.7.whole") == CompletePartName(5, 0, 7, None, None)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "5.0.whole",
        "5.0.7.part",
        "5.0.7.json",
        "12.item.json",
        "catalog.json.tmp",
        "a.b.c.whole",
        "5.-1.7.whole",
        "5.0.7.8.whole",
        "\u0665.0.7.whole",
        "5.0.7.whole.tmp",
    ],
)
def test_other_names_are_not_complete_parts(name: str) -> None:
    assert parse_complete_part(name) is None


def test_an_escape_that_is_not_valid_text_is_read_as_far_as_possible() -> None:
    assert parse_complete_part("5.0.7;%FF;%FF.whole") == CompletePartName(5, 0, 7, "\ufffd", "\ufffd")
