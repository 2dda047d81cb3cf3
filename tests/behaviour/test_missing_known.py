"""`--missing known`: a nightly job fails only for what is newly gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import stacpull
from tests.changed_copy import item_with
from tests.serving import serving_files

pytestmark = pytest.mark.behaviour


def mirrored(url: str, dest: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    ran = stacpull("mirror", f"{url}/items.json", dest, "--json", *arguments)
    return ran.code, ran.report


def test_only_what_is_newly_gone_is_an_error(tmp_path: Path) -> None:
    site, dest = tmp_path / "site", tmp_path / "m"
    site.mkdir()
    (site / "a.bin").write_text("12345")
    first = json.loads(item_with({"a": {"href": "a.bin"}, "lost": {"href": "lost.bin"}}))
    second = json.loads(item_with({"b": {"href": "b.bin"}})) | {"id": "second"}

    def publish(*items: Any) -> None:
        (site / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))

    with serving_files(site) as url:
        publish(first)
        code, report = mirrored(url, dest, "--missing", "known")
        assert (code, report["assets_missing"], report["assets_missing_new"]) == (1, 1, 1)
        code, report = mirrored(url, dest, "--missing", "known")
        assert (code, report["assets_missing"], report["assets_accepted"]) == (0, 1, 1)
        assert mirrored(url, dest)[0] == 1
        publish(first, second)
        code, report = mirrored(url, dest, "--missing", "known")
        assert (code, report["assets_missing"], report["assets_missing_new"]) == (1, 2, 1)
        assert mirrored(url, dest, "--missing", "ok")[0] == 0
        assert stacpull("retry", dest).code == 0

    last = json.loads((dest / ".stacpull" / "log.ndjson").read_text().splitlines()[-1])
    assert last["event"] == "RunEnded"
    assert last["time"].endswith("Z")
    assert last["counts"]["assets_missing"] == 2
