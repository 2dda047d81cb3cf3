"""The trust that a rebuild puts in a file without a ledger."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from stacpull.catalog.stored import StoredAsset
from stacpull.ledger.rebuilding import OldAsset
from stacpull.models import Checksum
from stacpull.store.inspection import DirectoryFiles, FileState
from stacpull.upkeep.evidence import assess, examine
from stacpull.upkeep.mirror_check import FileTrust

SHA, OTHER = hashlib.sha256(b"x").digest(), hashlib.sha256(b"y").digest()
MD5 = Checksum("md5", b"m" * 16)


def asset(size: int | None = None, checksum: Checksum | None = None) -> StoredAsset:
    return StoredAsset("a", "c/i/a.tif", None, size, checksum, None)


def old(size: int | None, sha256: bytes | None) -> OldAsset:
    return OldAsset(1, "a", "c/i", "a.tif", size, sha256, None, None, None)


@pytest.mark.parametrize(
    ("stated", "look", "digest", "before", "verdict"),
    [
        (asset(), FileState(1, SHA), None, None, None),
        (asset(1), FileState(1, SHA), None, None, FileTrust.BY_SIZE),
        (asset(2), FileState(1, SHA), None, None, "short"),
        (asset(1), FileState(2, SHA), None, None, "altered"),
        (asset(1, MD5), FileState(1, SHA), MD5.digest, None, FileTrust.BY_CHECKSUM),
        (asset(1, MD5), FileState(1, SHA), b"n" * 16, None, "altered"),
        (asset(), FileState(1, SHA), None, old(1, SHA), FileTrust.BY_CHECKSUM),
        (asset(), FileState(1, SHA), None, old(1, OTHER), "altered"),
        (asset(), FileState(1, SHA), None, old(2, OTHER), "short"),
        (asset(), FileState(1, SHA), None, old(1, None), FileTrust.BY_SIZE),
        (asset(), FileState(1, SHA), None, old(2, None), "short"),
        (asset(1, MD5), FileState(1, SHA), MD5.digest, old(1, OTHER), FileTrust.BY_CHECKSUM),
        (asset(), FileState(0, SHA), None, None, "short"),
        (asset(0), FileState(0, SHA), None, None, FileTrust.BY_SIZE),
        (asset(), FileState(0, SHA), None, old(0, SHA), FileTrust.BY_CHECKSUM),
        (asset(), FileState(), None, old(1, SHA), "missing"),
        (asset(), FileState(obstacle="a link"), None, None, "obstructed"),
        (asset(), FileState(obstacle="it cannot be read", readable=False), None, None, "unreadable"),
    ],
)
def test_evidence_decides_about_a_file_without_a_ledger(
    stated: StoredAsset, look: FileState, digest: bytes | None, before: OldAsset | None, verdict: object
) -> None:
    assert assess(stated, look, digest, before) == verdict


def test_files_are_hashed_with_the_stated_algorithms(tmp_path: Path) -> None:
    body = b"content"
    md5 = hashlib.md5(body).hexdigest()  # noqa: S324 - what an item states
    document = {
        "type": "Feature",
        "id": "i",
        "collection": "c",
        "assets": {
            "md5": {"href": "./a.tif", "file:checksum": "d50110" + md5},
            "sha": {"href": "./a.tif", "file:checksum": "1220" + hashlib.sha256(body).hexdigest()},
            "none": {"href": "./a.tif"},
            "gone": {"href": "./b.tif", "file:checksum": "d50110" + md5},
            "linked": {"href": "../l/a.tif"},
        },
    }
    (tmp_path / "c/i").mkdir(parents=True)
    (tmp_path / "c/i/a.tif").write_bytes(body)
    (tmp_path / "c/l").symlink_to("i")
    data = orjson.dumps(document)
    (tmp_path / "c/i/i.json").write_bytes(data)
    with closing(DirectoryFiles(tmp_path)) as files:
        found = examine(files, "c/i/i.json", lambda: False)
        line = examine(files, "c/items.ndjson", lambda: False, data)
        broken = [examine(files, "c/items.ndjson", lambda: False, text) for text in (b"{", b"[]", b"{}")]
    assert found is not None
    assert line is not None
    assert broken == [None, None, None]
    sha256 = hashlib.sha256(body).digest()
    assert found.digests == (bytes.fromhex(md5), sha256, None, None, None)
    assert [state.digest for state in found.states] == [sha256, sha256, sha256, None, None]
    assert found.states[4].obstacle == "a link at c/l"
    assert (found.sha256, line.sha256) == (hashlib.sha256(data).digest(),) * 2


def test_hashing_can_be_stopped(tmp_path: Path) -> None:
    """The file is read once for its SHA-256, then for the stated digest."""
    with (tmp_path / "a.tif").open("wb") as file:
        file.truncate(3 << 20)
    stated = "d50110" + hashlib.md5(bytes(3 << 20)).hexdigest()  # noqa: S324 - what an item states
    document = {
        "type": "Feature",
        "id": "i",
        "collection": "c",
        "assets": {"md5": {"href": "./a.tif", "file:checksum": stated}},
    }

    def digest(stopped_at: int | None) -> tuple[bytes | None, int]:
        requested = 0

        def is_stopped() -> bool:
            nonlocal requested
            requested += 1
            return requested == stopped_at

        with closing(DirectoryFiles(tmp_path)) as files:
            line = examine(files, "items.ndjson", is_stopped, orjson.dumps(document))
        assert line is not None
        return line.digests[0], requested

    whole, often = digest(None)
    assert whole == bytes.fromhex(stated[6:])
    assert digest(often - 1) == (None, often - 1)
