"""Lists of URLs for other tools: escaped and refused entries."""

from __future__ import annotations

import csv
import io

import pytest

from stacpull.models import Checksum
from stacpull.planning.url_formats import URL_FORMATS, PlannedUrl, RefusedEntry

URL = "https://host/a"


def entry(form: str, path: str | None = "c/i/k.tif", url: str = URL, **more: object) -> str:
    return URL_FORMATS[form].entry(PlannedUrl("c", "i", "k", url, path, **more))  # type: ignore[arg-type]


def test_each_format_has_its_own_form() -> None:
    checksum = Checksum("sha256", b"\x12\x34")
    assert entry("csv", size=5, checksum=checksum, media_type="image/tiff") == (
        f"c,i,k,{URL},c/i/k.tif,5,sha256:1234,image/tiff\n"
    )
    assert entry("aria2", checksum=checksum) == f"{URL}\n  out=c/i/k.tif\n  checksum=sha-256=1234\n"
    assert entry("aria2", checksum=Checksum("blake2b", b"\x01")) == f"{URL}\n  out=c/i/k.tif\n"
    assert entry("curl") == f'url = "{URL}"\noutput = "c/i/k.tif"\n'
    assert entry("rclone") == f"{URL},c/i/k.tif\n"


@pytest.mark.parametrize("form", ["aria2", "curl", "rclone"])
@pytest.mark.parametrize(
    ("path", "url", "why"),
    [
        ("a\nout=b", URL, "control"),
        ("a\rb", URL, "control"),
        ("a\x00b", URL, "control"),
        ("a\x85b", URL, "control"),
        ("a\u2028b", URL, "control"),
        ("a", "https://host/a\nurl=b", "control"),
        ("a", "https://host/a https://other/", "control"),
        (None, URL, "redirects"),
        ("a", "s3://bucket/key", "not http"),
        ("a", "file:///etc/passwd", "not http"),
    ],
)
def test_unsafe_and_unsupported_entries_are_refused(form: str, path: str | None, url: str, why: str) -> None:
    with pytest.raises(RefusedEntry, match=why):
        entry(form, path, url)


def test_quotes_and_backslashes_are_escaped() -> None:
    assert entry("curl", 'a"\noutput'.replace("\n", ""), 'https://host/"\\') == (
        'url = "https://host/\\"\\\\"\noutput = "./a\\"output"\n'
    )
    assert next(csv.reader([entry("rclone", 'a,"b"')])) == [URL, 'a,"b"']


def test_a_name_that_is_an_option_is_a_file() -> None:
    assert 'output = "./-"' in entry("curl", "-")


def test_names_that_a_tool_would_change_are_refused() -> None:
    with pytest.raises(RefusedEntry, match="spaces"):
        entry("aria2", " a")
    for renamed in ("a\uff1ab", "\u201b", "a\u2400"):
        with pytest.raises(RefusedEntry, match="rename"):
            entry("rclone", renamed)


def test_csv_supports_every_entry() -> None:
    odd = PlannedUrl('c"\n', "i,\r\n", "k\ud800", "s3://bucket/k", None)
    rows = list(
        csv.reader(io.StringIO(URL_FORMATS["csv"].header + URL_FORMATS["csv"].entry(odd), newline=""))
    )
    assert rows[0][:5] == ["collection", "item", "key", "url", "path"]
    assert rows[1] == ['c"\n', "i,\r\n", "k\\ud800", "s3://bucket/k", "", "", "", ""]
