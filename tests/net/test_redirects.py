import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.clock import SystemClock
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind
from stacpull.net.client import Client, next_hop
from stacpull.net.gate import GateSettings
from stacpull.net.transport import Request
from stacpull.urls import wire_url

HTTPS = "https://api.example/a/b?x=1"
HTTP = "http://api.example/a/b"
REDIRECT, SCHEME = FailureKind.REDIRECT, FailureKind.SCHEME

FOLLOWED = [
    (HTTPS, "https://b.example/x%2Fy%27?sig=a%2Bb%3d", False, "https://b.example/x%2Fy%27?sig=a%2Bb%3d"),
    (HTTPS, "HTTPS://Blob.Example/X", False, "https://Blob.Example/X"),
    (HTTPS, "s3://radiant-mlhub/bigearthnet/a b#1.tif", False, "s3://radiant-mlhub/bigearthnet/a b#1.tif"),
    (HTTPS, "/other?y=%2F", False, "https://api.example/other?y=%2F"),
    (HTTPS, "c", False, "https://api.example/a/c"),
    (HTTPS, "//cdn.example/x", False, "https://cdn.example/x"),
    (HTTPS, "  https://blob.example/x ", False, "https://blob.example/x"),
    (HTTP, "https://api.example/a/b", False, "https://api.example/a/b"),
    (HTTP, "http://other.example/", False, "http://other.example/"),
    (HTTPS, "http://other.example/", True, "http://other.example/"),
    ("s3://bucket/key", "https://endpoint.example/bucket/key", False, "https://endpoint.example/bucket/key"),
]

REFUSED = [
    (HTTPS, "http://other.example/", REDIRECT, "encrypted"),
    ("s3://bucket/key", "http://endpoint.example/key", REDIRECT, "encrypted"),
    (HTTPS, "ipfs://bucket/key", SCHEME, "ipfs"),
    (HTTPS, "gs://bucket/key", SCHEME, "a URL with gs:, which is not followed"),
    ("s3://bucket/key", "az://container/key", SCHEME, "az:"),
    (HTTPS, "abfs://c@account.dfs.core.windows.net/key", SCHEME, "not followed"),
    (HTTPS, "file:///etc/passwd", SCHEME, "not followed"),
    ("s3://bucket/key", "other", SCHEME, "not followed"),
]


@pytest.mark.parametrize(("current", "location", "downgrade", "target"), FOLLOWED)
def test_allowed_redirects_are_followed(current: str, location: str, downgrade: bool, target: str) -> None:
    assert next_hop(current, location, [], allow_downgrade=downgrade) == target


@pytest.mark.parametrize(("current", "location", "kind", "words"), REFUSED)
def test_other_redirects_are_refused(current, location, kind, words):
    failure = next_hop(current, location, [], allow_downgrade=False)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.retryable) == (kind, False)
    assert words in failure.message
    assert failure.host == host_of(current)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)))
def test_an_absolute_location_is_unchanged(rest: str) -> None:
    location = f"https://other.example/{rest}"
    assert next_hop(HTTPS, location, [], allow_downgrade=False) == location


@given(st.text())
def test_a_wire_url_is_valid_in_a_request_line(path: str) -> None:
    url = wire_url(f"https://h/{path}".encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"))
    assert url.isascii()
    assert all(33 <= ord(character) <= 126 for character in url)
    assert wire_url(url) == url


def test_the_scheme_of_source_may_be_in_capital_letters() -> None:
    client = Client({}, GateSettings(SystemClock(), 1), source="HTTP://one.example/")
    request = client.redirected_request(Request("https://two.example/a"), 302, "http://two.example/b")
    assert request.url == "http://two.example/b"


@pytest.mark.parametrize(("path", "sent"), [("caf\udce9/é", "caf%E9/%C3%A9"), ("é", "é")])
def test_only_bytes_that_are_not_utf8_are_encoded(path: str, sent: str) -> None:
    client = Client({}, GateSettings(SystemClock(), 1), source=HTTPS)
    for location in (f"https://api.example/{path}", f"/{path}"):
        assert client.redirected_request(Request(HTTPS), 302, location).url == f"https://api.example/{sent}"


def test_a_post_that_becomes_a_get_loses_the_fields_of_its_body() -> None:
    client = Client({}, GateSettings(SystemClock(), 1), source=HTTPS)
    post = Request(HTTPS, "POST", {"Content-Type": "application/json", "Accept": "text/html"}, b"{}")
    request = client.redirected_request(post, 303, "/b")
    assert (request.method, request.body, request.headers) == ("GET", None, {"Accept": "text/html"})
