import pytest

from stacpull.hosts import host_of, origin_of
from stacpull.net.client import HostCredentials
from stacpull.net.transport import Request
from stacpull.redact import Secret
from stacpull.urls import same_site
from stacpull_logins.logins import HostPattern

KEY = Secret("planted key/1")
BEARER = Secret("Bearer planted-token")
MLHUB = HostCredentials("https://api.example/mlhub/v1", {}, {"key": KEY})
HEADER = HostCredentials("https://api.example/", {"Authorization": BEARER}, {})

SAME = [
    ("https://api.example", "https://api.example:443/x", True),
    ("https://api.example", "https://API.example./x", True),
    ("https://api.example", "https://u:p@api.example/x", True),
    ("https://api.example", "http://api.example/x", False),
    ("https://api.example", "http://api.example:443/x", False),
    ("https://api.example", "https://api.example:8443/x", False),
    ("https://api.example", "https://evil.example/api.example", False),
    ("https://api.example", "https://api.example.evil.example/", False),
    ("https://api.example", "https://api.example@evil.example/", False),
    ("https://api.example", "s3://api.example/key", False),
    ("http://api.example", "https://api.example/x", True),
    ("http://api.example", "http://api.example:80/x", True),
    ("http://api.example", "http://api.example:8000/x", False),
    ("https://api.example", "https://api.example:/x", True),
    ("http://127.0.0.1:8000", "http://127.0.0.1:8001/x", False),
    ("http://127.0.0.1:8000", "https://127.0.0.1:8000/x", True),
    ("http://[::1]:8000", "http://[::1]:8000/x", True),
    ("s3://bucket/x", "s3://bucket/x", False),
    ("https://b\u00fccher.example", "https://b\u00fccher.example/x", False),
    ("https://h.example", "https://h.example\u2044x/", False),
]


@pytest.mark.parametrize(("url", "other", "same"), SAME)
def test_credentials_cover_their_own_site_only(url: str, other: str, same: bool) -> None:
    assert same_site(url, other) is same
    assert HostCredentials(url, {}, {"key": KEY}).covers(other) is same


ODD_PORTS = ["+8099", "-8099", " 8099", "8099 ", "80_99", "\u0668\u0660", "0x1fa3", "8099.0", "65536",
             "008099", ":", "8099:80", "\t8099", "80%39"]  # fmt: skip


@pytest.mark.parametrize("port", ODD_PORTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_that_is_not_a_number_matches_no_host(scheme: str, port: str) -> None:
    """Otherwise the check would use one port and the connection another."""
    url = f"{scheme}://source.example:{port}/x"
    own = HostCredentials(f"{scheme}://source.example/", {"Authorization": Secret("Bearer planted")}, {})
    assert origin_of(url).host == host_of(url) == ""
    assert own.attach(Request(url)).headers == {}
    assert not same_site(f"{scheme}://source.example/", url)
    assert not same_site(url, url)
    pattern = HostPattern.read(f"{scheme}://source.example")
    below = HostPattern.read(f"{scheme}://*.source.example")
    assert not pattern.covers(*origin_of(url))
    assert not below.covers(*origin_of(url.replace("source.", "a.source.")))
    with pytest.raises(ValueError, match="must be like"):
        HostPattern.read(f"{scheme}://source.example:{port or 'x'}")


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://api.example/items", "https://api.example/items?key=planted%20key%2F1"),
        ("https://api.example/items?limit=2", "https://api.example/items?limit=2&key=planted%20key%2F1"),
        ("https://api.example/i?key=&a=%2F#f", "https://api.example/i?key=planted%20key%2F1&a=%2F#f"),
        (
            "https://api.example/i?key=x&key=x&token=next:1&key=x&%6bey=y",
            "https://api.example/i?key=planted%20key%2F1&token=next:1",
        ),
        ("https://other.example/items?key=theirs", "https://other.example/items?key=theirs"),
        ("http://api.example/items", "http://api.example/items"),
    ],
)
def test_the_key_is_sent_once_and_only_to_its_own_host(url: str, sent: str) -> None:
    assert MLHUB.attach(Request(url)).url == sent


def test_header_fields_replace_those_of_the_request() -> None:
    request = Request(
        "https://api.example/x",
        "POST",
        {"authorization": "mine", "Range": "bytes=1-"},
        b"{}",
        purpose="document",
    )
    attached = HEADER.attach(request)
    assert attached.headers == {"Range": "bytes=1-", "Authorization": "Bearer planted-token"}
    assert (attached.method, attached.body, attached.purpose) == ("POST", b"{}", "document")
    assert request.headers["authorization"] == "mine"


@pytest.mark.parametrize(
    ("url", "stripped"),
    [
        ("https://o.example/x?a=1", "https://o.example/x?a=1"),
        ("https://o.example/x?key=planted%20key%2F1&a=%2F", "https://o.example/x?a=%2F"),
        ("https://o.example/x?other=planted+key/1", "https://o.example/x"),
        ("https://o.example/x?u=https://a?key=planted%20key%2f1&b=2", "https://o.example/x?b=2"),
        ("https://o.example/planted%20key%2F1/x", "https://o.example/***/x"),
        ("https://o.example/%70lanted%20ke%79/1/x?a=1", "https://o.example/***"),
        ("https://plante%64 key%2F1@o.example/x%2Fy", "https://***/x%2Fy"),
    ],
)
def test_an_echoed_secret_is_removed(url: str, stripped: str) -> None:
    assert MLHUB.secrets.masked_url(url) == stripped
