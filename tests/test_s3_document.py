"""Documents of S3, whole and damaged."""

from __future__ import annotations

import tracemalloc

import pytest

from stacpull import s3_document
from stacpull.s3_document import S3Document, read_document

LISTING = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name><Prefix> p/</Prefix>
<IsTruncated> True </IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>
<Contents><Key> p/a b</Key><Size> 1 </Size><Owner><ID>x</ID><Key>not this</Key></Owner></Contents>
<Contents><Key>p/c</Key><Key>twice</Key><Size>2</Size></Contents>
<CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes></ListBucketResult>"""
ERROR = b"<Error><Code>ExpiredToken</Code><Message>It &lt;has&gt; expired</Message><Region>r</Region></Error>"
EXPIRED = {"Code": "ExpiredToken", "Message": "It <has> expired", "Region": "r"}


def test_a_list_has_fields_and_records() -> None:
    found = read_document(LISTING)
    assert found == S3Document(
        "ListBucketResult",
        {"Prefix": " p/", "IsTruncated": "True", "NextContinuationToken": "a&b"},
        {
            "Contents": [{"Key": " p/a b", "Size": "1"}, {"Key": "p/c", "Size": "2"}],
            "CommonPrefixes": [{"Prefix": "p/d/"}],
        },
        is_whole=True,
    )
    assert found.is_truncated
    assert found.name(found.records["CommonPrefixes"][0], "Prefix") == "p/d/"


@pytest.mark.parametrize(
    ("encoding", "name"), [(b"", "a+b%20c"), (b"<EncodingType>url</EncodingType>", "a b c")]
)
def test_keys_are_decoded_if_the_service_says_so(encoding: bytes, name: str) -> None:
    document = b"<L>" + encoding + b"<Contents><Key>a+b%20c</Key></Contents></L>"
    found = read_document(document)
    assert [found.name(one) for one in found.records["Contents"]] == [name]


@pytest.mark.parametrize(
    ("document", "root", "fields"),
    [
        (ERROR, "Error", EXPIRED),
        (ERROR[:-9], "Error", {name: EXPIRED[name] for name in ("Code", "Message")}),
        (ERROR + b"more", "Error", EXPIRED),
        (b"", "", {}),
        (b"<html><body>no</html>", "html", {}),
        (b'{"Code": "json"}', "", {}),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><Error><Code>&b;</Code></Error>', "", {}),
        (b'<?xml version="1.0" encoding="none"?><Error/>', "", {}),
        (b"\xff\xfe<Error/>", "", {}),
    ],
    ids=[
        "whole",
        "cut off",
        "followed by more",
        "empty",
        "html",
        "json",
        "declaration",
        "encoding",
        "binary",
    ],
)
def test_what_precedes_damage_is_kept(document: bytes, root: str, fields: dict[str, str]) -> None:
    found = read_document(document)
    assert (found.root, found.fields, found.is_whole) == (root, fields, document == ERROR)


def test_many_records_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_document, "_MOST_RECORDS", 10)
    for count, is_whole in ((10, True), (11, False)):
        document = b"<L>" + b"<Contents><Key>a</Key></Contents>" * count + b"</L>"
        assert read_document(document).is_whole is is_whole


def test_unknown_elements_take_no_memory() -> None:
    document = b"<L>" + b"<a>x</a><b><c>y</c></b>" * 100_000 + b"</L>"
    tracemalloc.start()
    found = read_document(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.fields == {}
    assert peak < 40_000_000
