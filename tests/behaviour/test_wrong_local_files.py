"""Files on this disk that are not what their item says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.items import feature

from stacpull.sync import failures, mirror

PAGES = 60  # more than the refused requests after which a host is abandoned


def test_failures_of_local_files_name_this_disk_and_no_login(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "m"
    source.mkdir()
    (source / "one.bin").write_bytes(b"1")
    (source / "page.tif").write_bytes(b"<!doctype html><title>Log in</title>")
    sized = feature("sized", {"a": "./one.bin"})
    sized["assets"]["a"]["file:size"] = 5
    pages = [feature(f"page{number}", {"a": "./page.tif"}) for number in range(PAGES)]
    (source / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in (sized, *pages)))
    report = mirror(source / "items.ndjson", dest)
    assert (report.assets_failed, report.assets_pending) == (1 + PAGES, 0)
    assert {failure.message for failure in failures(dest)} == {
        "this disk sent 1 byte, but the item states 5 (file:size).",
        "this disk answered with a web page instead of a .tif file.",
    }
