from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.config import values


@pytest.mark.parametrize(
    ("reader", "raw", "value"),
    [
        (values.text, "Rice fields", "Rice fields"),
        (values.switch, True, True),
        (values.switch, "Yes", True),
        (values.switch, "0", False),
        (values.choice("any", "all"), "all", "all"),
        (values.whole(1), "12", 12),
        (values.whole(0), 0, 0),
        (values.auto_or_whole, "auto", None),
        (values.auto_or_whole, "8", 8),
        (values.auto_or_whole, 8, 8),
        (values.seconds, "0.5", 0.5),
        (values.seconds, 30, 30.0),
        (values.byte_rate, "1500", 1500.0),
        (values.byte_rate, 0, 0.0),
        (values.byte_rate, "50M", 50e6),
        (values.byte_rate, " 1.5k ", 1500.0),
        (values.byte_rate, "2G", 2e9),
        (values.web_address, "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        (values.spatial_extent, "-9,36.5,31.6,68", (-9.0, 36.5, 31.6, 68.0)),
        (values.spatial_extent, " 170, -20 ,-170,10", (170.0, -20.0, -170.0, 10.0)),
        (values.spatial_extent, [1, 2, 3.5, 4], (1.0, 2.0, 3.5, 4.0)),
        (values.item_ids, "S2A_1", ("S2A_1",)),
    ],
)
def test_what_is_read(reader: values.Reader, raw: object, value: object) -> None:
    assert reader(raw) == value


@pytest.mark.parametrize(
    ("reader", "raw", "complaint"),
    [
        (values.text, 3, "must be text in quotes"),
        (values.text, "  ", "must not be empty"),
        (values.switch, "maybe", "must be true or false"),
        (values.switch, 1, "must be true or false"),
        (values.choice("any", "all"), "some", "must be one of any, all"),
        (values.choice("any", "all"), ["any"], "must be one of any, all"),
        (values.whole(1), "0", "from 1 on"),
        (values.whole(1), "1.5", "from 1 on"),
        (values.whole(0), True, "from 0 on"),
        (values.whole(0), "\N{SUPERSCRIPT TWO}", "from 0 on"),
        (values.auto_or_whole, "many", "auto or a whole number"),
        (values.auto_or_whole, 0, "auto or a whole number"),
        (values.byte_rate, "-1", "bytes a second"),
        (values.byte_rate, "K", "bytes a second"),
        (values.byte_rate, "5T", "bytes a second"),
        (values.byte_rate, "", "bytes a second"),
        (values.byte_rate, True, "bytes a second"),
        (values.seconds, "0", "above 0"),
        (values.seconds, "nan", "above 0"),
        (values.seconds, "inf", "above 0"),
        (values.seconds, False, "above 0"),
        (values.web_address, "ftp://x", "must begin with http"),
        (values.spatial_extent, "1,2,3", "four numbers"),
        (values.spatial_extent, "1,2,3,x", "four numbers"),
        (values.spatial_extent, [1, 2, None, 4], "four numbers"),
        (values.spatial_extent, "1,2,nan,4", "four numbers"),
        (values.spatial_extent, "-181,0,0,1", "longitude"),
        (values.spatial_extent, "0,10,1,5", "latitudes in order"),
        (values.spatial_extent, "0,0,1,91", "latitudes in order"),
        (values.item_ids, "@/nonexistent/ids.txt", "cannot read /nonexistent/ids.txt: No such file"),
        (values.existing_file, "/nonexistent/ca.pem", "names no file"),
    ],
)
def test_what_is_refused(reader: values.Reader, raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        reader(raw)


def test_ids_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(b"\xef\xbb\xbfS2A_1\r\n\r\n  S2B_2  \nS2A_3")
    assert values.item_ids(f"@{file}") == ("S2A_1", "S2B_2", "S2A_3")


@pytest.mark.parametrize(("content", "complaint"), [(b"\n \n", "finds no id"), (b"\xff\xfe\0", "not UTF-8")])
def test_a_file_without_ids(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "ids"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        values.item_ids(f"@{file}")


@given(st.text())
def test_no_text_makes_a_reader_raise_anything_but_its_one_error(raw: str) -> None:
    readers = (
        values.switch,
        values.whole(0),
        values.auto_or_whole,
        values.seconds,
        values.byte_rate,
        values.spatial_extent,
    )
    for reader in readers:
        try:
            value = reader(raw)
        except ValueError as problem:
            assert str(problem).startswith(("must ", "has "))  # noqa: PT017 - either end is right
        else:
            assert value is None or isinstance(value, bool | int | float | tuple)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("s3,https", ("s3", "https")),
        (" S3 ,http", ("s3", "http")),
        (["https"], ("https",)),
        ("s3,s3", ("s3",)),
    ],
)
def test_schemes(raw: object, expected: tuple[str, ...]) -> None:
    assert values.schemes(raw) == expected


@pytest.mark.parametrize("raw", ["", "ftp", "s3,", "file", ["s3", 3], 7, []])
def test_what_is_no_list_of_schemes(raw: object) -> None:
    with pytest.raises(ValueError, match="http, https, s3"):
        values.schemes(raw)
