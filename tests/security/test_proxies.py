"""Proxies of the environment: used, bypassed, named when they fail; their passwords are sent nowhere else."""

import base64
from pathlib import Path
from typing import Any

import pytest
from tests.net.names import Names
from tests.security.authority import Authority
from tests.security.proxy import Proxy
from tests.security.sources import Source, data, feature

import stacpull
from stacpull import Options, Secret, StacpullError
from stacpull.sync import failures, mirror

PASSWORD = "planted-proxy-password"
USER = f"me:{PASSWORD}"
KEY = "planted-key-of-the-source"
SPELLINGS = [PASSWORD, base64.b64encode(USER.encode()).decode()]


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def assert_secret_nowhere(dest: Path, *texts: str) -> None:
    written = [path.read_bytes() for path in dest.rglob("*") if path.is_file()]
    for spelling in [*SPELLINGS, KEY]:
        assert not any(spelling.encode() in data for data in written)
        assert not any(spelling in text for text in texts)


def options(**more: Any) -> Options:
    return Options(retries=0, query={"key": Secret(KEY)}, **more)


def test_https_goes_through_a_tunnel_that_shows_the_proxy_nothing(dest, authority, monkeypatch, capfd):
    tls = authority.server("far.example")
    with Source(others=data, tls=tls, name="far.example") as source, Proxy(source.port, user=USER) as proxy:
        source.features = [feature("i", {"a": source.url("/a/secret/path")})]
        monkeypatch.setenv("HTTPS_PROXY", f"http://{USER}@127.0.0.1:{proxy.port}")
        report = mirror(source.api, dest, options=options(ca_bundle=authority.bundle))
    assert (report.state, report.assets_done) == ("complete", 1)
    assert proxy.heads
    assert all(head.startswith("CONNECT far.example:") for head in proxy.heads)
    assert not any("secret/path" in head or KEY in head for head in proxy.heads)
    assert KEY.encode() not in b"".join(proxy.passed)
    assert any(KEY in request.target for request in source.requests)  # inside the tunnel it is sent
    reported = [f"{request.target}{request.headers}" for request in source.requests]
    assert not any(spelling in text for spelling in SPELLINGS for text in reported)
    assert "proxy-authorization" not in "".join(reported)
    assert_secret_nowhere(dest, *capfd.readouterr())


def test_a_proxy_that_presents_another_certificate_is_refused(dest, authority, monkeypatch):
    """The tunnel ends at a host with a certificate for another name."""
    with (
        Source(tls=authority.server("evil.example"), name="far.example") as source,
        Proxy(source.port) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(StacpullError, match=r"certificate of far.example:[0-9]+ is not trusted"):
            mirror(source.api, dest, options=options(ca_bundle=authority.bundle))
        assert source.requests == []


def test_http_uses_the_proxy_and_no_proxy_bypasses_it(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Source(others=data, name="far.example") as source, Proxy(source.port, user=USER) as proxy:
        near = f"http://127.0.0.1:{source.port}/near"
        source.features = [feature("i", {"far": source.url("/far"), "near": near})]
        monkeypatch.setenv("HTTP_PROXY", f"http://{USER}@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,.internal")
        report = mirror(source.api, dest, options=options(allow_private_hosts=True))
    assert report.assets_done == 2
    requested = [head.split(" ")[1] for head in proxy.heads]
    assert all(url.startswith("http://far.example:") for url in requested)
    assert any("/far?key=" in url for url in requested)
    assert not any("/near" in url for url in requested)
    assert any(request.target.startswith("/near") for request in source.requests)
    assert not any("proxy-authorization" in request.headers for request in source.requests)
    assert_secret_nowhere(dest)


REFUSED = "Connection refused. The request for far.example went through the proxy http://127.0.0.1:1 (from "
UNKNOWN = "The name no-such-proxy.invalid:3128 could not be looked up. The request for far.example went"
UNUSABLE = {
    "nobody there": (f"http://{USER}@127.0.0.1:1", REFUSED),
    "no such name": (f"http://{USER}@no-such-proxy.invalid:3128", UNKNOWN),
    "another kind": (f"socks5://{USER}@127.0.0.1:1", "is not a valid URL of an http proxy"),
    "no URL": (f"http://{USER}@127.0.0.1:+1", "is not a valid URL of an http proxy"),
    "a wrong password": (f"http://wrong:{PASSWORD}@127.0.0.1:{{port}}", " answered 407 to the request for"),
    "without a scheme": (f"{USER}@127.0.0.1:{{port}}", None),
}


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("kind", UNUSABLE)
async def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    dest: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, capfd: Any, kind: str, scheme: str
) -> None:
    proxy_url, expected = UNUSABLE[kind]
    Names(**{"far.example": [[]], "no-such-proxy.invalid": [[]]})
    tls = authority.server("far.example") if scheme == "https" else None
    async with Source(tls=tls, name="far.example") as source, Proxy(source.port, user=USER) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy_url.replace("{port}", str(proxy.port)))
        running = stacpull.mirror(
            f"{scheme}://far.example/collections/c", dest, options=options(ca_bundle=authority.bundle)
        )
        if expected is None:
            assert (await running).state == "complete"
        else:
            with pytest.raises(StacpullError) as caught:
                await running
            assert expected in str(caught.value)
            assert f"{scheme.upper()}_PROXY" in str(caught.value)
            assert_secret_nowhere(dest, str(caught.value), *capfd.readouterr())


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "169.254.169.254.", "localhost", "10.1", "[::1]"],
)
def test_no_request_for_an_internal_address_goes_to_a_proxy(dest, monkeypatch, host):
    with Source(others=data, name="far.example") as source, Proxy(source.port) as proxy:
        source.features = [feature("i", {"a": f"http://{host}/latest/meta-data/"})]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        report = mirror(source.api, dest, options=options())
    assert report.assets_failed == 1
    assert [failed.kind for failed in failures(dest)] == ["address"]
    assert proxy.heads
    assert all("far.example" in head for head in proxy.heads)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy"])
def test_the_proxy_for_everything(dest: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """It is used, and refused by name if it is of another kind; one for the scheme goes before it."""
    with Source(others=data, name="far.example") as source, Proxy(source.port) as proxy:
        source.features = [feature("i", {"far": source.url("/far")})]
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        assert mirror(source.api, dest, options=options()).assets_done == 1
        heads = len(proxy.heads)
        monkeypatch.setenv(variable, f"socks5://{USER}@127.0.0.1:{proxy.port}")
        with pytest.raises(StacpullError, match=f"{variable} is not a valid URL of an http proxy") as caught:
            mirror(source.api, dest, options=options())
        assert len(proxy.heads) == heads
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        mirror(source.api, dest, options=options())
        assert len(proxy.heads) > heads
    assert_secret_nowhere(dest, str(caught.value))
