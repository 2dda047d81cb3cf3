from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stacpull.config.options import Options
from stacpull.config.resolve import header_fields, key_variable, query_parameter
from stacpull.config.toml import Setting
from stacpull.errors import CredentialsError, UsageError
from stacpull.redact import Secret

ENVIRONMENT = {"TOKEN": "planted-token", "EMPTY": "", "ODD": "a\r\nX-Injected: 1"}


def fields(*texts: str) -> list[tuple[str, str, tuple[str, ...]]]:
    found = header_fields(Setting(texts, "--header"), ENVIRONMENT)
    return [(field.name, field.value.reveal(), field.sources) for field in found]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("X-Key: abc", ("X-Key", "abc", ("header X-Key",))),
        ("X-Key:a:b", ("X-Key", "a:b", ("header X-Key",))),
        ("Authorization: Bearer ${TOKEN}", ("Authorization", "Bearer planted-token", ("TOKEN",))),
        ("Empty:", ("Empty", "", ("header Empty",))),
    ],
)
def test_a_header_field(text: str, field: tuple[str, str, tuple[str, ...]]) -> None:
    assert fields(text) == [field]


def test_a_field_that_is_given_twice_is_refused() -> None:
    """Otherwise one of its values would be lost."""
    with pytest.raises(UsageError, match="--header: x-a is given twice; separate its values with commas"):
        fields("X-A: 1", "X-B: 2", "x-a: 3")


def test_values_that_are_not_from_a_file_or_variable_are_marked_as_such(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# mine\n\nX-A: 1\nAuthorization: ${TOKEN}\n")
    given = Setting((f"@{file}", "X-B: 2", "X-C: ${TOKEN}"), "--header")
    found = [(field.name, field.value.is_literal) for field in header_fields(given, ENVIRONMENT)]
    assert found == [("X-A", False), ("Authorization", False), ("X-B", True), ("X-C", False)]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        *(
            (text, UsageError, r"--header: write a header field as .*\.$")
            for text in ("no colon", ": v", "a\nb: x")
        ),
        (
            "Content-Length: 5",
            UsageError,
            "--header must not be the header field Content-Length, which controls",
        ),
        ("X: ${MISSING}", CredentialsError, "The header X needs the environment variable MISSING"),
        ("X: ${EMPTY}", CredentialsError, "The header X needs the environment variable EMPTY"),
        ("X: ${ODD}", UsageError, r"line break.*\.$"),
        ("X: \udcff", UsageError, "invalid UTF-8 in the value of X"),
    ],
)
def test_a_header_field_that_cannot_be_sent(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fields(text)


def test_a_line_break_in_a_header_field_of_python_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match=r"headers has a line break.* in the value of X") as caught:
        Options(headers={"X": "planted\nHost: evil"})
    assert "planted" not in str(caught.value)


def test_an_invalid_line_of_a_file_is_reported_without_its_text(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("X-A: 1\nplanted-token\n")
    with pytest.raises(UsageError, match="headers, line 2: ") as caught:
        fields(f"@{file}")
    assert "planted-token" not in str(caught.value)


def test_query_parameters_are_filled_in_from_variables() -> None:
    given = {"key": Setting("${TOKEN}", "f, line 1, key"), "v": Setting("1", "f, line 2, v")}
    found = [query_parameter(name, setting, ENVIRONMENT) for name, setting in given.items()]
    assert [(p.name, p.value, p.sources) for p in found] == [
        ("key", Secret("planted-token"), ("TOKEN",)),
        ("v", Secret("1"), ("query parameter v",)),
    ]


@pytest.mark.parametrize(
    ("source", "is_hub"),
    [
        ("https://api.radiant.earth/mlhub/v1", True),
        ("https://api.radiant.earth/", True),
        ("http://127.0.0.1:8801/mlhub/v1/collections/x", True),
        ("http://localhost:8801/mlhub/v1", True),
        ("http://hub:8801/mlhub/v1", False),
        ("http://[::1]:8801/mlhub/v1", True),
        ("http://192.168.7.1:8801/mlhub/v1", True),
        ("http://0x7f000001:8801/mlhub/v1", True),
        ("https://evil.example/mlhub/v1", False),
        ("https://api.radiant.earth.evil.example/mlhub/v1", False),
        ("https://example.org/stac", False),
        ("https://example.org/?to=/mlhub/v1", False),
        *(
            (f"https://{host}/mlhub/v1", False)
            for host in (
                "8.8.8.8", "0x08080808", "134744072", "010.8.8.8", "8.526344", "%38.8.8.8",
                "[64:ff9b::808:808]", "\uff18.8.8.8", "[::ffff:808:808]", "169.254.169.254", "0xa9fea9fe",
            )
        ),
    ],
)  # fmt: skip
def test_the_services_that_get_the_key_of_mlhub(source: str, is_hub: bool) -> None:
    assert key_variable(urlsplit(source)) == ("MLHUB_API_KEY" if is_hub else None)
