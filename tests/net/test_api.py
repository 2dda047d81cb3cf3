from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from tests.net.memory import Answer, MemoryTransport, Script
from tests.virtual_clock import VirtualClock

from stacpull.errors import CredentialsError, SourceError
from stacpull.models import FailureKind, PageRequest
from stacpull.net.client import Client
from stacpull.net.gate import MAX_REFUSALS, GateSettings
from stacpull.net.json_reader import Document, JsonReader
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.net.transport import TransferError, is_framed

SOURCE = "https://api.example/stac"
URL = f"{SOURCE}/items"
PAGE = Answer(body=b'{"features": []}')


class Desk:
    """A `JsonReader` on a server in memory."""

    def __init__(self, routes: Mapping[str, Script], **options: Any) -> None:
        self.clock = VirtualClock()
        self.transport = MemoryTransport(routes, self.clock)
        self.client = Client({"https": self.transport}, GateSettings(self.clock, 4))
        defaults: dict[str, Any] = {"source": SOURCE}
        self.reader = JsonReader(self.client, Retries(RetryPolicy(), self.clock), **(defaults | options))

    def read(self, request: PageRequest | str = URL) -> Document:
        requested = PageRequest(request) if isinstance(request, str) else request
        return self.clock.run(self.reader.read(requested))


def test_a_page_is_read_with_its_size_and_fields() -> None:
    desk = Desk(
        {
            URL: [
                Answer(body=b'\xef\xbb\xbf{"type": "FeatureCollection"}', coded=True, headers={"ETag": '"1"'})
            ]
        }
    )
    document = desk.read(PageRequest(f"{URL}?limit=10", headers={"prefer": "x"}))
    assert document.body == {"type": "FeatureCollection"}
    assert document.size == len(b'\xef\xbb\xbf{"type": "FeatureCollection"}')
    assert document.url == f"{URL}?limit=10"
    requested = desk.transport.requests[0]
    assert requested.purpose == "document"
    assert requested.headers == {"accept": "application/geo+json, application/json", "prefer": "x"}


def test_a_search_is_sent_by_post() -> None:
    desk = Desk({URL: [PAGE]})
    desk.read(PageRequest(URL, "POST", {"limit": 2, "token": "next:1"}))
    requested = desk.transport.requests[0]
    assert requested.method == "POST"
    assert requested.body is not None
    assert orjson.loads(requested.body) == {"limit": 2, "token": "next:1"}
    assert requested.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("body", [b"{broken", b"", b"[" * 100_000], ids=["cut", "empty", "too deep"])
def test_invalid_json_is_requested_again_once(body: bytes) -> None:
    desk = Desk({URL: [Answer(200, body), Answer(body=b"{}")]})
    assert desk.read().body == {}
    assert len(desk.transport.requests) == 2
    desk = Desk({URL: [Answer(200, body)]})
    problem = "nested too deeply" if body[:1] == b"[" else "not JSON"
    with pytest.raises(SourceError, match=f"is {problem}") as caught:
        desk.read()
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(desk.transport.requests) == 2


HTML = {"Content-Type": "text/html; charset=utf-8"}


def test_a_web_page_in_place_of_the_first_document_is_a_matter_of_credentials() -> None:
    """One after a page of items: tests/hostile/test_pages.py."""
    desk = Desk({URL: [Answer(200, b"<html>Back soon</html>", HTML)]}, credential_names=("MLHUB_API_KEY",))
    with pytest.raises(CredentialsError, match=r"answered with a web page instead of JSON.*MLHUB_API_KEY"):
        desk.read()
    assert len(desk.transport.requests) == 2


def test_a_refusal_without_credentials_explains_how_to_pass_them() -> None:
    with pytest.raises(CredentialsError, match=r"Pass credentials with --credentials, --header"):
        Desk({URL: [Answer(401)]}).read()


def test_a_refusal_by_another_host_is_an_ordinary_failure() -> None:
    url = "https://other.example/item.json"
    with pytest.raises(TransferError) as caught:
        Desk({url: [Answer(403)]}).read(url)
    assert caught.value.failure.kind is FailureKind.REFUSED


@pytest.mark.parametrize(
    ("headers", "known"),
    [({"Content-Length": "3"}, True), ({"Transfer-Encoding": "gzip, Chunked"}, True), ({}, False)],
)
def test_framed_responses_are_recognised(headers: dict[str, str], known: bool) -> None:
    assert is_framed(headers) is known


@pytest.mark.parametrize("members", [b'"features": [], "x": [%s]', b'"features": [%s]'])
def test_a_source_of_many_tiny_values_is_not_decoded(members: bytes) -> None:
    body = b"{%s}" % (members % (b"[]," * 12_000_000)[:-1])
    with pytest.raises(TransferError, match=r"more than \d+ values"):
        Desk({SOURCE: [Answer(body=body)]}, limit=64 << 20).read(SOURCE)


def test_refusals_of_streamed_files_count_against_their_host() -> None:
    url = "https://other.example/items.ndjson"
    desk = Desk({url: [Answer(403)]})

    async def open_stream() -> None:
        async with desk.reader.stream(url, {}):
            pass

    for _ in range(MAX_REFUSALS + 1):
        with pytest.raises(TransferError) as caught:
            desk.clock.run(open_stream())
    assert caught.value.failure.kind is FailureKind.DOWN
