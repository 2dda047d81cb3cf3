from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull import arguments
from stacpull.redact import Secret

AUTO_OR_WHOLE = arguments.whole(1, auto=True)


@pytest.mark.parametrize(
    ("reader", "raw", "value"),
    [
        (arguments.text, "Rice fields", "Rice fields"),
        (arguments.switch, True, True),
        (arguments.switch, "Yes", True),
        (arguments.switch, "0", False),
        (arguments.choice("any", "all"), "all", "all"),
        (arguments.whole(1), "12", 12),
        (arguments.whole(0), 0, 0),
        (AUTO_OR_WHOLE, "auto", None),
        (AUTO_OR_WHOLE, "8", 8),
        (AUTO_OR_WHOLE, 8, 8),
        (arguments.seconds, "0.5", 0.5),
        (arguments.seconds, 30, 30.0),
        (arguments.byte_rate, "1500", 1500.0),
        (arguments.byte_rate, 0, 0.0),
        (arguments.byte_rate, "50M", 50e6),
        (arguments.byte_rate, " 1.5k ", 1500.0),
        (arguments.byte_rate, "2G", 2e9),
        (arguments.web_address, "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        (arguments.box, "-9,36.5,31.6,68", (-9.0, 36.5, 31.6, 68.0)),
        (arguments.box, " 170, -20 ,-170,10", (170.0, -20.0, -170.0, 10.0)),
        (arguments.box, [1, 2, 3.5, 4], (1.0, 2.0, 3.5, 4.0)),
        (arguments.listen_address, 8080, ("127.0.0.1", 8080)),
        (arguments.listen_address, "0", ("127.0.0.1", 0)),
        (arguments.listen_address, "localhost:65535", ("127.0.0.1", 65535)),
        (arguments.listen_address, "0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104 - a text
        (arguments.listen_address, "[::1]:80", ("::1", 80)),
        (arguments.token, " 0123456789abcdef ", Secret("0123456789abcdef")),
    ],
)
def test_valid_texts_are_read(reader: arguments.ReadArgument, raw: object, value: object) -> None:
    assert reader(raw) == value


@pytest.mark.parametrize(
    ("reader", "raw", "complaint"),
    [
        (arguments.text, 3, "must be text in quotes"),
        (arguments.text, "  ", "must not be empty"),
        (arguments.switch, "maybe", "must be true or false"),
        (arguments.switch, 1, "must be true or false"),
        (arguments.choice("any", "all"), "some", "must be one of any, all"),
        (arguments.choice("any", "all"), ["any"], "must be one of any, all"),
        (arguments.whole(1), "0", "from 1 on"),
        (arguments.whole(1), "1.5", "from 1 on"),
        (arguments.whole(0), True, "from 0 on"),
        (arguments.whole(0), "\N{SUPERSCRIPT TWO}", "from 0 on"),
        (AUTO_OR_WHOLE, "many", "auto or a whole number"),
        (AUTO_OR_WHOLE, 0, "auto or a whole number"),
        (arguments.byte_rate, "-1", "bytes per second"),
        (arguments.byte_rate, "K", "bytes per second"),
        (arguments.byte_rate, "5T", "bytes per second"),
        (arguments.byte_rate, "", "bytes per second"),
        (arguments.byte_rate, True, "bytes per second"),
        (arguments.seconds, "0", "above 0"),
        (arguments.seconds, "nan", "above 0"),
        (arguments.seconds, "inf", "above 0"),
        (arguments.seconds, False, "above 0"),
        (arguments.web_address, "ftp://x", "must begin with http"),
        (arguments.box, "1,2,3", "four numbers"),
        (arguments.box, "1,2,3,x", "four numbers"),
        (arguments.box, [1, 2, None, 4], "four numbers"),
        (arguments.box, "1,2,nan,4", "four numbers"),
        (arguments.box, "-181,0,0,1", "longitude"),
        (arguments.box, "0,10,1,5", "latitudes in order"),
        (arguments.box, "0,0,1,91", "latitudes in order"),
        (arguments.listen_address, "65536", "must be a port"),
        (arguments.listen_address, -1, "must be a port"),
        (arguments.listen_address, True, "must be a port"),
        (arguments.listen_address, ":80", "must be a port"),
        (arguments.listen_address, "::1:80", "must be a port"),
        (arguments.listen_address, "name:80", "must be a port"),
        (arguments.listen_address, "", "must be a port"),
        (arguments.token, "x" * 15, "must have at least 16 characters"),
    ],
)
def test_invalid_texts_are_refused(reader: arguments.ReadArgument, raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        reader(raw)


@pytest.mark.parametrize(
    ("load", "raw", "complaint"),
    [
        (arguments.item_ids, "@/nonexistent/ids.txt", "cannot read /nonexistent/ids.txt: No such file"),
        (arguments.content, "@/nonexistent/token", "cannot read /nonexistent/token"),
        (arguments.content, "@", "needs the name of a file after @"),
        (arguments.existing_file, "/nonexistent/ca.pem", "is not a file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    load: Callable[[str], object], raw: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        load(raw)


def test_text_without_an_at_sign_is_no_file() -> None:
    assert arguments.item_ids("S2A_1") == ("S2A_1",)
    assert arguments.content("a = 1") == "a = 1"
    assert arguments.area("7,46,8,47") == "7,46,8,47"


def test_ids_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(b"\xef\xbb\xbfS2A_1\r\n\r\n  S2B_2  \nS2A_3")
    assert arguments.item_ids(f"@{file}") == ("S2A_1", "S2B_2", "S2A_3")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"\n \n", "finds nothing"), (b"# a list\n", "finds no id"), (b"\xff\xfe\0", "not UTF-8")],
)
def test_a_file_without_ids_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "ids"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        arguments.item_ids(f"@{file}")


@given(st.text())
def test_readers_raise_only_value_error(raw: str) -> None:
    readers = (
        arguments.switch,
        arguments.whole(0),
        AUTO_OR_WHOLE,
        arguments.seconds,
        arguments.byte_rate,
        arguments.box,
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
        ([], ()),
    ],
)
def test_schemes_are_read_from_text_or_a_list(raw: object, expected: tuple[str, ...]) -> None:
    assert arguments.schemes(raw) == expected


@pytest.mark.parametrize("raw", ["", "ftp", "s3,", "file", ["s3", 3], 7])
def test_values_that_are_not_lists_of_schemes(raw: object) -> None:
    with pytest.raises(ValueError, match="http, https, s3"):
        arguments.schemes(raw)


PATCH = "S2A_MSIL2A_20170613T101031_0_45"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ()),
        ("\n# nothing\n", ()),
        ("a\nb\n", ("a", "b")),
        ("a\r\n\r\n b \n", ("a", "b")),
        ("# a list\na\n  # b\nc", ("a", "c")),
        (f"{PATCH}\n{PATCH}_1\n", (PATCH, f"{PATCH}_1")),
        (f"{PATCH},S1A_1\nX,S1B_2\n", (PATCH, "X")),
        ('"a","b"\n', ("a",)),
        ("\ufeffa\nb", ("a", "b")),
        ("a\nb\na\n", ("a", "b")),
        (",x\n", ()),
        ("patch_id,split\na,train\nb,train\n", ("a", "b")),
        ("split,patch_id\ntrain,a\ntrain,b\n", ("a", "b")),
        ("split;Patch ID\ntrain;a\n", ("a",)),
        ("split\tid\ntrain\ta\ntrain\n", ("a",)),
        ("id\na\n", ("a",)),
        ('"id","text"\n"a","x, y"\n', ("a",)),
        ("name,id\nthe first,a\n", ("a",)),
        ("URN:FEATURE:DATA:1\n", ("URN:FEATURE:DATA:1",)),
    ],
)
def test_a_list_of_ids_is_read(text, ids):
    assert arguments.ids_in(text) == ids
