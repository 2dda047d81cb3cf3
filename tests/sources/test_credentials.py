from __future__ import annotations

import pytest

from stacpull.errors import UsageError
from stacpull.redact import Secret
from stacpull.sources.source_url import SourceUrl, split_credentials

ITEMS = "https://h/v1/collections/x/items"


def secrets(**values: str) -> dict[str, Secret]:
    return {name: Secret(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://h/v1", SourceUrl("https://h/v1", {})),
        ("https://h/v1?key=abc", SourceUrl("https://h/v1", secrets(key="abc"))),
        ("https://h/v1?key=a%2Bb+c", SourceUrl("https://h/v1", secrets(key="a+b c"))),
        ("https://h/v1?key=a&key=b", SourceUrl("https://h/v1", secrets(key="b"))),
        ("https://h/v1?key=", SourceUrl("https://h/v1", {})),
        (f"{ITEMS}?limit=5&api_key=abc&x=%2C", SourceUrl(f"{ITEMS}?limit=5&x=%2C", secrets(api_key="abc"))),
        (f"{ITEMS}?token=next%3Aa&key=abc", SourceUrl(f"{ITEMS}?token=next%3Aa", secrets(key="abc"))),
        (f"{ITEMS}?token=bWFk", SourceUrl(f"{ITEMS}?token=bWFk", {})),
        (
            "https://h/search?bbox=1,2,3,4&token=next:a&key=abc",
            SourceUrl("https://h/search?bbox=1,2,3,4&token=next:a", secrets(key="abc")),
        ),
        ("https://h/search?token=abc", SourceUrl("https://h/search", secrets(token="abc"))),
        ("https://h/v1?token=abc", SourceUrl("https://h/v1", secrets(token="abc"))),
        ("https://h/c.json?sv=1&sig=abc", SourceUrl("https://h/c.json", secrets(sv="1", sig="abc"))),
        (
            "https://user:w%40rd@h:8/v1?a=1#part",
            SourceUrl("https://h:8/v1?a=1", {}, Secret("Basic dXNlcjp3QHJk")),
        ),
        ("https://user@h/v1", SourceUrl("https://h/v1", {}, Secret("Basic dXNlcjo="))),
        ("catalog.json", SourceUrl("catalog.json", {})),
        ("-", SourceUrl("-", {})),
        ("s3://bucket/catalog.json", SourceUrl("s3://bucket/catalog.json", {})),
    ],
)
def test_credentials_are_separated_from_the_source_url(given: str, expected: SourceUrl) -> None:
    split = split_credentials(given)
    assert split == expected
    assert split.url == expected.url


def test_repr_shows_no_secret() -> None:
    split = split_credentials("https://user:WORD@h/v1?key=KEY&limit=5")
    assert "WORD" not in repr(split)
    assert "KEY" not in repr(split)


@pytest.mark.parametrize("given", ["https://", "https://[bad/v1", "http://h:port/v1?key=SECRET"])
def test_invalid_urls_are_refused_without_their_secrets(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_credentials(given)
    assert "SECRET" not in str(caught.value)
