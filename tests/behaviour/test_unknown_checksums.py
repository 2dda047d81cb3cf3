"""A checksum of a kind that is not known is reported, and is no failure."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.command import environment, run
from tests.items import feature


def test_checksums_that_cannot_be_verified_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    item = feature("i", dict.fromkeys(("length", "code", "text", "none"), "./a"))
    stated = {"length": f"d50120{'00' * 32}", "code": "ff7f04deadbeef", "text": "?"}  # an MD5 of 32 bytes
    for key, checksum in stated.items():
        item["assets"][key]["file:checksum"] = checksum
    (tmp_path / "items.ndjson").write_text(json.dumps(item))
    ran = run(["mirror", str(tmp_path / "items.ndjson"), str(tmp_path / "m"), "--json"], environment())
    assert (ran.code, ran.report["assets_done"]) == (0, 4), ran.err
    assert "3 checksums cannot be verified, because the kind is unknown." in ran.err
