"""The table on the terminal."""

from __future__ import annotations

import pytest

from stacpull_raster.text_table import TextTable


def printed(*lines: tuple[str, ...], titles: tuple[str, ...] = ("name", "size", "end")) -> list[str]:
    message: list[str] = []
    table = TextTable(titles, message.append)
    for line in lines:
        table.add(line)
    table.close()
    return message


def test_columns_are_as_wide_as_their_cells() -> None:
    assert printed(("a", "1234567", "x"), ("longer", "1", "y")) == [
        "name    size     end",
        "a       1234567  x",
        "longer  1        y",
    ]


def test_a_shorter_line_shows_its_whole_last_cell() -> None:
    message = printed(("a", "1", "x"), ("b", "gone: it is not there any more"))
    assert message == ["name  size  end", "a     1     x", "b     gone: it is not there any more"]


def test_nothing_is_printed_for_no_lines() -> None:
    assert printed() == []


def test_a_very_wide_cell_does_not_push_the_others_away() -> None:
    message = printed(("n" * 100, "1", "x"), ("b", "1", "y"))
    assert message[2] == "b".ljust(60) + "  1     y"


@pytest.mark.parametrize("count", [199, 200, 201, 1000])
def test_every_line_is_printed_once_in_order(count: int) -> None:
    message = printed(*((f"row{number}", "1", "x") for number in range(count)))
    assert [line.split()[0] for line in message] == ["name", *(f"row{number}" for number in range(count))]


def test_lines_are_printed_before_the_table_ends() -> None:
    message: list[str] = []
    table = TextTable(("a", "b"), message.append)
    for _ in range(300):
        table.add(("1", "2"))
    assert len(message) == 301
