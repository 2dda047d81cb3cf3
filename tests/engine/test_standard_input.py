"""Standard input as SOURCE, and SOURCE and DEST as paths relative to where the command is started."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run

from stacpull import sync

Given = Callable[[str], int]

ITEM = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "collection": "c", "geometry": None}
ITEM |= {"properties": {"datetime": "2020-01-01T00:00:00Z"}, "links": []}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Given]:
    """Put a text on standard input."""
    path = tmp_path / "given"
    path.touch()
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        yield path.write_text


@pytest.mark.parametrize("dest", ["out", "../be side/out"])
def test_dest_may_be_relative(
    given: Given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dest: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    given(json.dumps(ITEM | {"assets": {}}))
    assert sync.mirror("-", dest).state == "complete"
    assert sync.retry(dest).state == "complete"
    assert sync.verify(dest).remaining == 0
    local = {"mirror": "items.ndjson", "plan": "./items.ndjson"}
    (here / "items.ndjson").write_text(json.dumps(ITEM | {"id": "b", "assets": {"x": {"href": "./b.bin"}}}))
    (here / "b.bin").write_bytes(b"content")
    for command, source in local.items():
        ran = run([command, source, dest, "--json"], environment(), here)
        assert (ran.code, ran.report["assets_done"]) == (0, 1), ran.err
    for command in ("resume", "retry", "verify", "status"):
        assert run([command, dest], environment(), here).code == (2 if command == "resume" else 0)
    assert (here / dest / "c" / "b" / "x.bin").read_bytes() == b"content"
