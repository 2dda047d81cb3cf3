"""SOURCE as URLs and as paths of every kind, and the credentials in it."""

from pathlib import Path

import pytest

from stacpull.errors import UsageError
from stacpull.redact import Secret
from stacpull.sources.source_url import ApiUrl, parse_api_url, source_url, split_credentials


@pytest.mark.parametrize(
    "url", ["https://x.test/c.json?a=%2F#f", "s3://b/c d.json", "http://x.test", "stdin:0123"]
)
def test_urls_are_unchanged(url: str) -> None:
    assert source_url(url) == url
    scheme, _, rest = url.partition(":")
    assert source_url(f"{scheme.upper()}:{rest}") == url


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("/data/a b/c#1%20?.json", "/data/a b/c#1%20?.json"),
        ("/data/../x/c.json", "/x/c.json"),
        ("file:///data/a%20b.json", "/data/a b.json"),
        ("file://localhost/data/c.json", "/data/c.json"),
        ("FILE:/data/c.json", "/data/c.json"),
    ],
)
def test_paths_become_file_urls(source: str, path: str) -> None:
    assert source_url(source) == Path(path).as_uri()


def test_relative_paths_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source_url("cat:a/c.json") == (tmp_path / "cat:a" / "c.json").as_uri()
    assert source_url(".") == tmp_path.as_uri()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty"),
        ("-", "mirror, plan and headers"),
        ("ftp://x/c", "unsupported URL scheme ftp"),
        ("https://h/c?key=${KEY}", "which only a shell replaces"),
    ],
)
def test_unsupported_sources_are_reported(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        source_url(source)


ITEMS = "https://h/v1/collections/x/items"


def secrets(**values: str) -> dict[str, Secret]:
    return {name: Secret(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://h/v1", ("https://h/v1", {}, {})),
        ("https://h/v1?key=abc", ("https://h/v1", secrets(key="abc"), {})),
        ("https://h/v1?key=a%2Bb+c", ("https://h/v1", secrets(key="a+b c"), {})),
        (f"{ITEMS}?limit=5&api_key=abc&x=%2C", (f"{ITEMS}?limit=5&x=%2C", secrets(api_key="abc"), {})),
        (f"{ITEMS}?token=next%3Aa&key=abc", (f"{ITEMS}?token=next%3Aa", secrets(key="abc"), {})),
        (
            "https://h/search?bbox=1,2,3,4&token=next:a&key=abc",
            ("https://h/search?bbox=1,2,3,4&token=next:a", secrets(key="abc"), {}),
        ),
        ("https://h/search?token=abc", ("https://h/search", secrets(token="abc"), {})),
        ("https://h/c.json?sv=1&sig=abc", ("https://h/c.json", secrets(sv="1", sig="abc"), {})),
        (
            "https://user:w%40rd@h:8/v1?a=1#part",
            ("https://h:8/v1?a=1", {}, secrets(Authorization="Basic dXNlcjp3QHJk")),
        ),
        ("https://user@h/v1", ("https://h/v1", {}, secrets(Authorization="Basic dXNlcjo="))),
        ("catalog.json", ("catalog.json", {}, {})),
        ("s3://bucket/catalog.json", ("s3://bucket/catalog.json", {}, {})),
    ],
)
def test_credentials_are_separated_from_the_source_url(given: str, expected: object) -> None:
    assert split_credentials(given) == expected


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://h", ApiUrl("https://h")),
        ("https://h/", ApiUrl("https://h")),
        ("https://h/collections", ApiUrl("https://h")),
        ("https://h/v1/collections/x", ApiUrl("https://h/v1", "x")),
        ("https://h/v1/collections/x/?limit=1", ApiUrl("https://h/v1", "x")),
        ("https://h/v1/collections/a%2Fb/items?limit=1", ApiUrl("https://h/v1", "a/b", page="items")),
        ("https://h/collections/items", ApiUrl("https://h", "items")),
        ("https://h/collections/items/items", ApiUrl("https://h", "items", page="items")),
        ("https://h/collections/x/items/y", ApiUrl("https://h/collections/x/items/y")),
    ],
)
def test_parts_of_a_url(url: str, api: ApiUrl) -> None:
    assert parse_api_url(url) == api
