"""Nine hundred hostile names through real mirrors: as ids, keys, collections, properties, file names."""

import os
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pystac
import pytest
from tests.acceptance.trees import files_in
from tests.net.memory import Answer
from tests.planning.hostile import NAMES
from tests.security.sources import feature, mirrored

from stacpull import failures
from stacpull.net.transport import Request

SAYABLE = [name for name in NAMES if name and "\ud800" not in name]
"""JSON in UTF-8 can contain them, but not lone surrogates; an object without an id is not an item."""


def contents(number: int) -> bytes:
    return f"asset {number}".encode()


def answer(request: Request) -> Answer:
    """`/to/<name>?N` redirects to `/at/<name>?N`, which gives the contents under yet another name."""
    path, _, number = request.url.partition("?")
    if not number.isdecimal():
        return Answer(404, b"{}")
    if path.startswith("/to/"):
        host = f"http://{request.headers['host']}" if int(number) % 2 else ""
        return Answer(302, headers={"Location": f"{host}/at/{path[4:]}?{number}"})
    evil = "attachment; filename=\"../../../evil\"; filename*=UTF-8''..%2F..%2Fevil"
    return Answer(body=contents(int(number)), headers={"Content-Disposition": evil})


def by_collection(number: int, name: str) -> dict[str, Any]:
    """Every name as item id and asset key, one in three as collection."""
    return feature(name, {name: f"/at/x?{number}"}, collection=SAYABLE[number - number % 3])


def by_filename(number: int, name: str) -> dict[str, Any]:
    """Every name as property, key, and file name after a redirect: as it is, encoded, encoded twice."""
    plain = quote(name, safe="/" if number % 3 else "")
    last = quote(plain, safe="") if number % 5 == 0 else plain
    properties = {"datetime": None, "p": name}
    return feature(f"i{number}", {name: f"/to/{last}?{number}"}, properties=properties, title=name)


def everything(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*")}


@pytest.mark.parametrize(
    ("make", "layout"),
    [(by_collection, None), (by_filename, "{p}/{key}/{filename}"), (by_filename, "x/{filename}")],
    ids=["collections, items and keys", "properties, keys and file names", "file names that meet"],
)
def test_hostile_names_stay_inside_dest_and_lose_nothing(tmp_path, monkeypatch, make, layout):
    assert len(SAYABLE) >= 500
    around = tmp_path / "around"
    around.mkdir()
    (around / "precious").write_bytes(b"precious")
    monkeypatch.chdir(around)
    monkeypatch.setenv("HOME", str(around))
    dest = around / "deep" / "mirror"

    items = [make(number, name) for number, name in enumerate(SAYABLE)]
    report = mirrored(dest, items, others=answer, **({"layout": layout} if layout else {}))

    assert report.state == "complete"
    outside = {path for path in everything(around) if not path.startswith("deep/mirror")}
    assert outside == {"precious", "deep"}
    assert (around / "precious").read_bytes() == b"precious"
    assert not any(path.is_symlink() for path in dest.rglob("*"))
    assert all(len(os.fsencode(part)) <= 255 for path in everything(dest) for part in path.split("/"))

    bodies = [path.read_bytes() for path in files_in(dest).values()]
    found = Counter(body for body in bodies if body.startswith(b"asset "))
    failed = [(failure.item, failure.key, failure.kind) for failure in failures(dest)]
    assert report.assets_done + report.assets_failed == len(SAYABLE)
    assert len(failed) == report.assets_failed
    assert all(count == 1 for count in found.values())
    assert len(found) == report.assets_done
    assert report.assets_done >= 500
    if layout != "x/{filename}":
        assert failed == []
    assert {kind for _, _, kind in failed} <= {"name", "exists", "duplicate", "clash", "collision"}
    if make is not by_collection:
        return
    catalog = pystac.Catalog.from_file(str(dest / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    assert sorted(item.id for item in items) == sorted(SAYABLE)
    for item in items:
        for asset in item.get_assets().values():
            place = Path(asset.get_absolute_href() or "").resolve()
            assert place.is_relative_to(dest.resolve())
