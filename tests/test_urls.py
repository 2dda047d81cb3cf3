import pytest

from stacpull.errors import SourceError
from stacpull.urls import join_web, set_parameter


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/p", "https://h/p?limit=5"),
        ("https://h/p?a=%2C", "https://h/p?a=%2C&limit=5"),
        ("https://h/p?limit=1&a=1", "https://h/p?limit=5&a=1"),
        ("https://h/p?limit=1&a=1&limit=2", "https://h/p?limit=5&a=1"),
        ("https://h/p?%6Cimit=1", "https://h/p?limit=5"),
        ("https://h/p?limits=1", "https://h/p?limits=1&limit=5"),
    ],
)
def test_setting_a_parameter_keeps_its_position(url: str, expected: str) -> None:
    assert set_parameter(url, "limit", "5") == expected


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "s3://bucket/x", "https://:80/x", "http://[bad", "http://[abc]/x", "http://h:x/"],
)
def test_join_refuses_hrefs_that_are_not_web_addresses(href: str) -> None:
    with pytest.raises(SourceError, match="link that is n"):
        join_web("https://h/items", href)
