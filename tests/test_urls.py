import pytest

from stacpull.errors import SourceError
from stacpull.urls import Parameter, add_parameters, join_web, parameter, parameters, set_parameter


def test_parameters_keep_their_original_encoding() -> None:
    assert parameters("https://h/p?token=next%3Aa+b&x&&y=") == [
        Parameter("token", "next:a b", "token=next%3Aa+b"),
        Parameter("x", "", "x"),
        Parameter("y", "", "y="),
    ]


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


def test_a_value_is_encoded_when_set() -> None:
    url = set_parameter("https://h/p", "q", "a&b=c d/é")
    assert url == "https://h/p?q=a%26b%3Dc%20d%2F%C3%A9"
    assert parameter(url, "q") == "a&b=c d/é"


def test_added_parameters_are_appended_unchanged() -> None:
    added = parameters("https://h/x?bbox=1,2,3,4")
    assert add_parameters("https://h/p?a=1", added) == "https://h/p?a=1&bbox=1,2,3,4"


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("items?token=a", "https://h/v1/c/items?token=a"),
        ("?token=a", "https://h/v1/c/items?token=a"),
        ("/x", "https://h/x"),
        ("//other/x", "https://other/x"),
        (" http://other:8/x#part ", "http://other:8/x"),
        ("https://user:word@h/x?y@z", "https://h/x?y@z"),
    ],
)
def test_hrefs_are_joined_to_a_base(href: str, expected: str) -> None:
    assert join_web("https://h/v1/c/items?limit=1", href) == expected


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "s3://bucket/x", "https://:80/x", "http://[bad", "http://[abc]/x", "http://h:x/"],
)
def test_join_refuses_hrefs_that_are_not_web_addresses(href: str) -> None:
    with pytest.raises(SourceError, match="link that is n"):
        join_web("https://h/items", href)
