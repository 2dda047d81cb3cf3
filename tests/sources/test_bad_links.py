"""A bad link is one failure: it must not end a walk of a million items."""

import pytest
from tests.net.memory import Answer, MemoryTransport
from tests.virtual_clock import VirtualClock

from stacpull.models import FailureKind
from stacpull.net.client import Client
from stacpull.net.gate import GateSettings
from stacpull.net.json_reader import JsonReader
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.net.transport import TransferError
from stacpull.sources.stac_api import ApiSource

SOURCE = "https://api.example/v1"
OWN = f"{SOURCE}/collections/c/items/i"
OTHER = "https://elsewhere.example/items/i"
PAGE = Answer(body=b"<!doctype html><html><body>Sign in</body></html>", headers={"Content-Type": "text/html"})
NO_JSON = Answer(body=b"II*\x00\x08\x00", headers={"Content-Type": "image/tiff"})
HALF = Answer(body=b'{"type": "Feature", "id": ', headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("href", "answer"),
    [
        pytest.param(OTHER, PAGE, id="a web page elsewhere"),
        pytest.param(OTHER, NO_JSON, id="an image elsewhere"),
        pytest.param(OTHER, HALF, id="half a document elsewhere"),
        pytest.param(OWN, NO_JSON, id="an image of the API's own"),
        pytest.param(OWN, HALF, id="half a document of the API's own"),
    ],
)
def test_a_link_to_invalid_json_is_one_failure(href: str, answer: Answer) -> None:
    clock = VirtualClock()
    client = Client({"https": MemoryTransport({href: [answer]}, clock)}, GateSettings(clock, 4))
    reader = JsonReader(client, Retries(RetryPolicy(retries=1), clock), source=SOURCE)
    with pytest.raises(TransferError) as caught:
        clock.run(ApiSource(SOURCE, reader).item(href))
    failure = caught.value.failure
    assert (failure.kind, failure.retryable) == (FailureKind.ITEM, False)
    assert failure.host in href
    assert failure.host in failure.message
