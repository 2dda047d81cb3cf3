"""`no_proxy`: which hosts bypass the proxy."""

import pytest

from stacpull.proxies import is_bypassed, proxy_of

CASES = [
    ("example.org", "example.org", 443, True),
    ("example.org", "www.example.org", 443, True),
    ("example.org", "notexample.org", 443, False),
    ("example.org", "example.org.evil", 443, False),
    (".example.org", "www.example.org", 443, True),
    (".example.org", "example.org", 443, True),
    ("*.example.org", "www.example.org", 443, True),
    ("EXAMPLE.org", "Example.ORG.", 443, True),
    ("a.org, example.org", "example.org", 443, True),
    ("a.org example.org", "example.org", 443, True),
    ("*", "anything", 80, True),
    ("example.org.", "example.org", 443, True),
    ("", "example.org", 80, False),
    (" , .", "example.org", 80, False),
    ("example.org:8080", "example.org", 8080, True),
    ("example.org:8080", "example.org", 80, False),
    ("127.0.0.1", "127.0.0.1", 8801, True),
    ("10.0.0.0/8", "10.1.2.3", 80, True),
    ("10.0.0.0/8", "11.1.2.3", 80, False),
    ("10.0.0.0/8", "10.example.org", 80, False),
    ("0.0.1", "127.0.0.1", 80, False),
    ("::1", "[::1]", 80, True),
    ("[::1]", "::1", 80, True),
    ("[::1]:8801", "::1", 8801, True),
    ("[::1]:8801", "::1", 8802, False),
    ("fd00::/8", "[fd12::1]", 80, True),
    ("fd00::/8", "10.0.0.1", 80, False),
    ("10.0.0.0/99", "10.0.0.1", 80, False),
]


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize(("text", "host", "port", "expected"), CASES)
def test_hosts_that_bypass_the_proxy(monkeypatch, variable, text, host, port, expected):
    monkeypatch.setenv(variable, text)
    assert is_bypassed(host, port) is expected


def test_lower_case_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "*")
    assert not is_bypassed("example.org", 80)


def test_white_space_around_a_proxy_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", " http://other.example:1 ")
    assert str(proxy_of("http://example.org")) == "http://other.example:1 (from http_proxy)"


def test_a_client_of_a_cgi_script_sets_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert str(proxy_of("http://example.org")) == "http://proxy.example:3128 (from HTTP_PROXY)"
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert proxy_of("http://example.org") is None
