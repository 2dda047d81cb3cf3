"""Listings of S3 prefixes: from the replica, which verifies signatures, and from servers that misbehave."""

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.net.wire_server import ReceivedRequest
from tests.transfer.origin import Reply, access, client, given, origin

from stacpull.config.options import S3Options
from stacpull.models import FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import TransferError
from stacpull.planning.prefixes import ListedObject
from stacpull.transfer import s3
from stacpull.transfer.s3 import list_prefix, listed_page
from stacpull_replicas import MemoryStore, S3Replica

ODD = [
    "a b.tif",
    "a+b.tif",
    "100%25.tif",
    "it's (1)/$value",
    "日本/día.tif",
    "q?a=b#c;d&e<f>.tif",
    "line\nbreak",
]
STORE = {
    "odd": {f"p/{name}": name.encode() for name in ODD},
    "many": {f"n/{number:04d}": b"x" * (number % 3) for number in range(2100)},
    "marked": {"d/": b"", "d/e/": b"", "d/e/f": b"1", "d/g/": b"a file all the same", "dd/h": b""},
}


@asynccontextmanager
async def on_replica(*, anonymous: bool = False) -> AsyncIterator[tuple[Client, S3Replica]]:
    async with (
        S3Replica(store=MemoryStore(STORE), access=access(anonymous=anonymous), record=True) as replica,
        client(given(replica.s3_url), S3Options(no_sign_request=anonymous)) as opened,
    ):
        yield opened, replica


@pytest.mark.parametrize("anonymous", [False, True])
async def test_names_of_any_kind_are_listed_unchanged(anonymous: bool) -> None:
    async with on_replica(anonymous=anonymous) as (opened, _):
        found = await list_prefix(opened, "s3://odd/p/")
        assert set(found) == {ListedObject(name, len(name.encode())) for name in ODD}


async def test_a_long_listing_is_read_page_by_page() -> None:
    async with on_replica() as (opened, replica):
        found = await list_prefix(opened, "s3://many/n/")
        assert [one.name for one in found] == [f"{number:04d}" for number in range(2100)]
        assert sum(one.size for one in found) == 2100
        assert [record.status for record in replica.requests] == [200, 200, 200]


def document(*keys: str, token: str = "", sized: str = "<Size>1</Size>") -> bytes:
    contents = "".join(f"<Contents><Key>{key}</Key>{sized}</Contents>" for key in keys)
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
    return f"<ListBucketResult>{contents}{more if token else ''}</ListBucketResult>".encode()


MISBEHAVING = [
    ([document("p/a", "q/b")], "not under it"),
    ([document("p/a", sized="")], "not a listing"),
    ([document("p/a", sized="<Size>-1</Size>")], "not a listing"),
    ([b"<html>hello</html>"], "not a listing"),
    ([document()], "nothing is there"),
    ([document(token=str(number)) for number in range(60)], "its listing has more than 50 pages"),
    ([document(f"p/{number}", token=str(number)) for number in range(60)], "more than 50 pages"),
]


@pytest.mark.parametrize(("bodies", "words"), MISBEHAVING)
async def test_invalid_listings_are_failures(bodies, words, monkeypatch):
    monkeypatch.setattr(s3, "_MAX_PAGES", 50)
    replies = iter([*bodies, bodies[-1]])

    def answer(_request: ReceivedRequest) -> Reply:
        return Reply(body=next(replies))

    async with origin(answer) as server, client(given(server.url)) as opened:
        with pytest.raises(TransferError, match=words) as caught:
            await list_prefix(opened, "s3://data/p/")
        assert caught.value.failure.kind is FailureKind.PREFIX


PAGES = [
    (document("p/a&amp;b"), ([ListedObject("p/a&b", 1)], "")),
    (document("p/a+b%20c"), ([ListedObject("p/a+b%20c", 1)], "")),  # not marked as encoded
    (document("p/a", token="x&amp;y"), ([ListedObject("p/a", 1)], "x&y")),
    (b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", None),
    (
        b"""<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name>
        <Contents><Owner><ID>1</ID></Owner><Key> p/\xc3\xa1 </Key><Size>3</Size></Contents>
        <CommonPrefixes><Key>p/x</Key></CommonPrefixes></ListBucketResult>""",
        ([ListedObject(" p/á ", 3)], ""),
    ),
    (document("p/a", sized=f"<Size>{'9' * 5000}</Size>"), None),
    (document("p/a")[:-3], None),
    (b'<?xml version="1.0" encoding="no-such"?><ListBucketResult/>', None),
    (b"<a>" * 100_000 + b"</a>" * 100_000, None),
    (b"", None),
]


@pytest.mark.parametrize(("body", "page"), PAGES)
def test_a_page_is_read(body: bytes, page: object) -> None:
    assert listed_page(body) == page


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE ListBucketResult [<!ENTITY a "ha">%s]>
<ListBucketResult><Contents><Key>p/&l9;</Key><Size>1</Size></Contents></ListBucketResult>""" % b"".join(
    b'<!ENTITY l%d "%s">' % (level, (b"&l%d;" % (level - 1) if level else b"&a;") * 10) for level in range(10)
)
OUTSIDE = b"""<!DOCTYPE ListBucketResult [<!ENTITY e SYSTEM "file:///etc/passwd">]>
<ListBucketResult><Contents><Key>p/&e;</Key><Size>1</Size></Contents></ListBucketResult>"""


@pytest.mark.parametrize(
    "body", [LAUGHS, OUTSIDE, b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:1/'><ListBucketResult/>"]
)
def test_a_document_type_is_refused_before_it_is_read(body: bytes) -> None:
    tracemalloc.start()
    try:
        assert listed_page(body) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
