"""One href of many items is fetched once, and its file is in every place."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import Options, sync

ITEMS = [str(number) for number in range(12)]


class Sharing(SmallApi):
    """Every item has the same asset, `/assets/c/0`; `stated` is what items state about it."""

    def __init__(self, body: bytes, stated: dict[str, Any] | None = None, asset: Any = None) -> None:
        headers = {"ETag": '"1"', "Content-Type": "application/pdf"}
        super().__init__({"c": ITEMS}, asset=asset or Answer(body=body, headers=headers))
        self.stated = stated or {}

    def _item(self, collection: str, name: str) -> dict[str, object]:
        asset = {"href": self.url(f"/assets/{collection}/0"), **self.stated.get(name, {})}
        return {**super()._item(collection, name), "assets": {"data": asset}}

    def requested(self) -> list[str]:
        return [one.method for one in self.requests if "/assets/" in one.target]


def mirrored(dest: Path, body: bytes, *, stated: dict[str, Any] | None = None, **options: Any) -> int:
    with Sharing(body, stated) as api:
        report = sync.mirror(api.url("/collections/c"), dest, options=Options(**options))
    assert (report.assets_done, report.items_done) == (12, 12)
    files = sorted((dest / "c").glob("*/data*"))
    assert [path.read_bytes() for path in files if path.suffix != ".json"] == [body] * 12
    checked = sync.verify(dest)
    assert (checked.damaged, checked.unproven) == (0, 12 if options.get("checksum") == "none" else 0)
    assert sync.status(dest).assets_unproven == 0
    return len(api.requested())


def inodes(dest: Path) -> set[int]:
    return {path.stat().st_ino for path in (dest / "c").glob("*/data*")}


@pytest.mark.parametrize("size", [700, 3_000_000], ids=["in memory", "in a part"])
@pytest.mark.parametrize(("checksum", "concurrency"), [("sha256", 12), ("crc64nvme", 1), ("none", 12)])
def test_a_shared_href_is_fetched_once(tmp_path: Path, size: int, checksum: str, concurrency: int) -> None:
    assert mirrored(tmp_path, b"p" * size, checksum=checksum, concurrency=concurrency) == 1
    if size > 1 << 20:
        assert len(inodes(tmp_path)) == 1


def test_a_long_file_that_is_published_is_not_fetched_again(tmp_path: Path) -> None:
    """The third item links to the file of the first in its place, and no longer to its part."""
    waited = iter([Answer(503, headers={"Retry-After": "2"})])  # the first file is published meanwhile
    body = Answer(body=b"p" * 3_000_000, headers={"ETag": '"1"'})

    def served(request: Any) -> Answer:
        return next(waited, body) if request.url.endswith("/1") else body

    with Sharing(b"", asset=served) as api:
        shared = api._item
        api._item = lambda c, name: SmallApi._item(api, c, name) if name == "1" else shared(c, name)
        report = sync.mirror(api.url("/collections/c"), tmp_path, options=Options(concurrency=1))
        assert (report.assets_done, len(api.requested())) == (12, 3)
    assert len(inodes(tmp_path)) == 2


def test_an_asset_with_a_different_checksum_is_fetched_separately(tmp_path: Path) -> None:
    sizes = {name: {"file:size": 700} for name in ITEMS}
    checksum = {"3": {"file:checksum": "1220" + hashlib.sha256(b"p" * 700).hexdigest()}}
    assert mirrored(tmp_path, b"p" * 700, stated={**sizes, **checksum}, concurrency=1) == 2


@pytest.mark.parametrize("there", [b"q" * 700, b"p" * 3])
def test_a_file_of_the_user_is_never_shared(tmp_path: Path, there: bytes) -> None:
    (tmp_path / "c/0").mkdir(parents=True)
    (tmp_path / "c/0/data.pdf").write_bytes(there)
    with Sharing(b"p" * 700, {key: {"type": "application/pdf"} for key in ITEMS}) as api:
        report = sync.mirror(api.url("/collections/c"), tmp_path, options=Options(concurrency=1))
    assert (report.assets_done, report.assets_failed) == (11, 1)
    assert (tmp_path / "c/0/data.pdf").read_bytes() == there
    others = [path for path in (tmp_path / "c").glob("*/data.pdf") if path.parent.name != "0"]
    assert [path.read_bytes() for path in others] == [b"p" * 700] * 11


def test_an_href_behind_many_items_is_fetched_once_with_adopt_too(tmp_path: Path) -> None:
    (tmp_path / "c/3").mkdir(parents=True)
    (tmp_path / "c/3/data.pdf").write_bytes(b"data")
    with Sharing(b"data", {key: {"type": "application/pdf"} for key in ITEMS}) as api:
        report = sync.mirror(api.url("/collections/c"), tmp_path, options=Options(adopt=True))
    assert (report.assets_done, report.assets_failed) == (12, 0)
    assert api.requested().count("GET") == 1
    assert [path.read_bytes() for path in tmp_path.glob("c/*/data.pdf")] == [b"data"] * 12
