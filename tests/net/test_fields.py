from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.net.fields import HeaderFields, content_length, joined_fields, validator_of
from stacpull.net.transport import is_framed

RAW = [b"Content-Length", b"12 ", b"ETag", b'"v1"', b"X-Name", b"\xc3\xa9\xff", b"Empty", b""]


@pytest.mark.parametrize("name", ["etag", "ETag", "ETAG"])
def test_names_are_case_insensitive(name: str) -> None:
    headers = HeaderFields(joined_fields(RAW))
    assert headers[name] == headers.get(name) == '"v1"'
    assert name in headers


def test_absent_fields_are_missing_as_in_a_mapping() -> None:
    headers = HeaderFields(joined_fields(RAW))
    assert headers.get("Location") is None
    assert headers.get("Location", "") == ""
    assert "Location" not in headers
    assert 5 not in headers
    with pytest.raises(KeyError, match="Location"):
        headers["Location"]


def test_is_a_mapping_of_text() -> None:
    headers = HeaderFields(joined_fields(RAW))
    assert dict(headers) == {"content-length": "12", "etag": '"v1"', "x-name": "é\udcff", "empty": ""}
    assert len(headers) == 4
    assert "v1" not in repr(headers)


def test_works_with_the_readers_of_fields() -> None:
    headers = HeaderFields(joined_fields(RAW))
    assert content_length(headers) == 12
    assert is_framed(headers)
    assert validator_of(headers).etag == '"v1"'


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        ([b"a"], b"a"),
        ([b"a", b"b"], b"a, b"),
        ([b'"v1"', b'"v1" '], b'"v1"'),
        ([b"a", b"b", b"a"], b"a, b"),
    ],
)
def test_repeated_fields_are_joined(values: list[bytes], joined: bytes) -> None:
    raw = [part for value in values for part in (b"Field", value)]
    assert joined_fields([*raw, b"Other", b"x"]) == {b"field": joined, b"other": b"x"}


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=10))
def test_any_bytes_can_be_decoded(pairs: list[tuple[bytes, bytes]]) -> None:
    fields = joined_fields([part for pair in pairs for part in pair])
    headers = HeaderFields(fields)
    assert len(headers) == len({name.lower() for name, _ in pairs})
    assert all(isinstance(headers.get("etag", ""), str) and isinstance(name, str) for name in headers)
