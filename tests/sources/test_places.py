"""SOURCE as URLs and as paths of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacpull.errors import UsageError
from stacpull.sources.source_url import source_url


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


def test_relative_paths_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_url("cat:a/c.json") == (tmp_path / "cat:a" / "c.json").as_uri()
    assert source_url(".") == tmp_path.as_uri()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty"),
        ("-", "mirror, plan and headers"),
        ("ftp://x/c", "unsupported URL scheme ftp"),
    ],
)
def test_unsupported_sources_are_reported(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        source_url(source)
