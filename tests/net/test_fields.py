import pytest

from stacpull.models import Validator
from stacpull.net.fields import (
    HeaderFields,
    ObjectVersion,
    add_field,
    range_headers,
    requested_range,
    stated_version,
    validator_from,
)

RAW = [(b"Content-Length", b"12 "), (b"ETag", b'"v1"'), (b"X-Name", b"\xc3\xa9\xff"), (b"\xc3\x89\xff", b"")]


def _fields(raw: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in raw:
        add_field(fields, name, value)
    return fields


def test_fields_are_a_mapping_of_text_in_which_case_does_not_matter() -> None:
    headers = HeaderFields(_fields(RAW))
    for name in ("etag", "ETag", "ETAG"):
        assert headers[name] == headers.get(name) == '"v1"'
        assert name in headers
    assert headers.get("Location") is None
    assert headers.get("Location", "") == ""
    assert "Location" not in headers
    with pytest.raises(KeyError, match="location"):
        headers["Location"]
    assert dict(headers) == {"content-length": "12", "etag": '"v1"', "x-name": "é\udcff", "É\udcff": ""}
    assert len(headers) == 4
    assert "v1" not in repr(headers)


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        ([b"a"], b"a"),
        ([b"a", b"b"], b"a, b"),
        ([b'"v1"', b'"v1" '], b'"v1"'),
        ([b"a", b"b", b"a"], b"a, b, a"),
    ],
)
def test_repeated_fields_are_joined(values: list[bytes], joined: bytes) -> None:
    repeated = [(b"Field", value) for value in values]
    assert _fields([*repeated, (b"Other", b"x")]) == {b"field": joined, b"other": b"x"}


MONDAY, TUESDAY = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"
V = Validator('"v1"', MONDAY)
WEAK = Validator('W/"v1"', MONDAY)


@pytest.mark.parametrize(
    ("known", "found", "comparison"),
    [
        (ObjectVersion(V), ObjectVersion(Validator('"v1"')), "same"),
        (ObjectVersion(V), ObjectVersion(Validator('"v1"', TUESDAY)), "same"),
        (ObjectVersion(V), ObjectVersion(Validator('"v2"', MONDAY)), "other"),
        (ObjectVersion(V), ObjectVersion(Validator(None, MONDAY)), "unknown"),
        (ObjectVersion(V), ObjectVersion(Validator(None, TUESDAY)), "other"),
        (ObjectVersion(WEAK), ObjectVersion(WEAK), "same"),
        (ObjectVersion(WEAK), ObjectVersion(Validator('W/"v1"', TUESDAY)), "other"),
        (ObjectVersion(WEAK), ObjectVersion(Validator('W/"v1"')), "same"),
        (ObjectVersion(V), ObjectVersion(), "unknown"),
        (ObjectVersion(), ObjectVersion(V), "unknown"),
        (ObjectVersion(V, 5), ObjectVersion(V, 6), "other"),
        (ObjectVersion(V, 5), ObjectVersion(V), "same"),
        (ObjectVersion(Validator(), 5), ObjectVersion(Validator(), 5), "unknown"),
        (ObjectVersion(Validator(), 5), ObjectVersion(Validator(), 6), "other"),
    ],
)
def test_two_versions_are_compared(known: ObjectVersion, found: ObjectVersion, comparison: str) -> None:
    assert known.compared_with(found) == comparison
    assert known.is_same_as(found) is (
        comparison == "same" or (comparison == "unknown" and known.validator == Validator())
    )


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"ETag": '"v1"', "Content-Length": "7"}, ObjectVersion(Validator('"v1"'), 7)),
        (
            206,
            {"Last-Modified": MONDAY, "Content-Range": "bytes 1-2/7"},
            ObjectVersion(Validator(None, MONDAY), 7),
        ),
        (206, {"Content-Length": "2", "ETag": "", "Last-Modified": ""}, ObjectVersion()),
        (416, {"Content-Range": "bytes */7"}, ObjectVersion(Validator(), 7)),
    ],
)
def test_a_response_states_a_version(status: int, headers: dict[str, str], expected: ObjectVersion) -> None:
    assert stated_version(status, headers) == expected


@pytest.mark.parametrize(
    "validator", [Validator('"v1"'), Validator(None, MONDAY), Validator("0x8D9"), Validator()]
)
def test_a_stored_validator_is_read_back(validator: Validator) -> None:
    assert validator_from(validator.etag_or_date or "") == validator


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        (V, {"Range": "bytes=7-", "If-Range": '"v1"'}),
        (Validator("0x8D968C5F3B94E1C"), {"Range": "bytes=7-", "If-Range": "0x8D968C5F3B94E1C"}),
        (Validator('W/"v1"', V.last_modified), {"Range": "bytes=7-", "If-Range": V.last_modified}),
        (Validator(), {"Range": "bytes=7-"}),
    ],
)
def test_conditions_of_range_requests(validator: Validator, expected: dict[str, str]) -> None:
    assert range_headers(7, validator) == expected


@pytest.mark.parametrize(
    ("field", "requested"),
    [
        ("bytes=3-99", "de"),
        ("bytes=4-", "e"),
        ("bytes=3-2", ""),
        *((f, None) for f in ("", "bytes=-", "bytes=-0", "lines=1-2", "bytes=0-1,3-4", f"bytes={10**18}-")),
    ],
)
def test_a_range_is_requested_in_each_form(field: str, requested: str | None) -> None:
    span = requested_range(field)
    assert requested == (None if span is None else "abcde"[span])
