"""`--checksum`: what is recorded of each asset, and what `verify` makes of it, through whole mirrors."""

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anycrc
import attrs
import pytest
from tests.events import stopping_at, warnings
from tests.net.memory import Answer
from tests.security.sources import Source, feature

from stacpull import Damage, Options, sync
from stacpull.events import Event, RunStarted
from stacpull.net.transport import Request

BODIES = {"/empty": b"", "/small": b"a band of a patch", "/long": random.Random(1).randbytes(3_000_000)}
DIGESTS = {
    "sha256": lambda body: hashlib.sha256(body).digest(),
    "crc64nvme": lambda body: anycrc.Model("CRC64-NVME").calc(body).to_bytes(8, "big"),
    "none": lambda _: None,
}


def served(request: Request) -> Answer:
    path = "/" + request.url.rpartition("/")[2]
    return Answer(body=BODIES[path], headers={"ETag": f'"{path}"', "Accept-Ranges": "bytes"})


@contextmanager
def on_mirror(dest: Path, checksum: str) -> Iterator[tuple[Source, Options]]:
    """Mirror an item with all bodies; the source is there in the block."""
    with Source(others=served) as source:
        source.features = [feature("i0", {path[1:]: source.url(f"/0{path}") for path in BODIES})]
        options = Options(checksum=checksum, retries=1)
        report = sync.mirror(source.api, dest, options=options)
        assert (report.state, report.assets_done) == ("complete", 3)
        yield source, options


def digests(dest: Path) -> dict[str, bytes | None]:
    with closing(sqlite3.connect(dest / ".stacpull/ledger.sqlite")) as db:
        return {
            f"{item}/{key}": digest
            for item, key, digest in db.execute(
                "SELECT i.name, a.key, a.digest FROM assets a JOIN items i ON i.id = a.item"
            )
        }


def expected(checksum: str, items: int = 1) -> dict[str, bytes | None]:
    return {
        f"i{item}{path}": DIGESTS[checksum](body) for item in range(items) for path, body in BODIES.items()
    }


@pytest.mark.parametrize("checksum", DIGESTS)
def test_the_selected_digest_is_recorded(tmp_path, checksum):
    with on_mirror(tmp_path, checksum):
        assert digests(tmp_path) == expected(checksum)
    assert ("file:checksum" in (tmp_path / "c/i0/i0.json").read_text()) == (checksum == "sha256")
    found = sync.verify(tmp_path)
    assert (found.damaged, found.unproven) == (0, 0 if checksum != "none" else 3)


@pytest.mark.parametrize("unknown", ["d50120" + 32 * "00", "ffff20" + 32 * "00"])
def test_a_stated_checksum_of_an_unknown_kind_is_reported_and_no_failure(tmp_path, unknown):
    events = list[Event]()
    with Source(others=served) as source:
        source.features = [feature("i", {"a": source.url("/0/small")})]
        source.features[0]["assets"]["a"]["file:checksum"] = unknown
        report = sync.mirror(source.api, tmp_path, on_event=events.append)
    assert (report.assets_done, report.exit_code) == (1, 0)
    assert "Checksums of an unknown kind, such as of a, cannot be verified." in warnings(events)


@pytest.mark.parametrize(("checksum", "key"), [("sha256", "long"), ("crc64nvme", "small")])
def test_a_flipped_bit_is_found_named_and_repaired(tmp_path: Path, checksum: str, key: str) -> None:
    body, seen = BODIES[f"/{key}"], list[object]()
    with on_mirror(tmp_path, checksum) as (_, options):
        (path,) = (path for path in (tmp_path / "c/i0").iterdir() if path.stem == key)
        path.write_bytes(bytes([body[0] ^ 1]) + body[1:])
        found = sync.verify(tmp_path, on_event=seen.append)
        assert (found.altered, found.damaged) == (1, 1)
        (damage,) = [event for event in seen if isinstance(event, Damage)]
        assert damage.expected == f"{len(body)} bytes, {checksum} {DIGESTS[checksum](body).hex()}"
        assert damage.found.startswith(f"{len(body)} bytes, {checksum} ")
        repaired = sync.verify(tmp_path, repair=True, options=options)
        assert (repaired.altered, repaired.remaining) == (1, 0)
    assert path.read_bytes() == body
    assert digests(tmp_path) == expected(checksum)


def test_a_mirror_may_hold_both_kinds(tmp_path: Path) -> None:
    with on_mirror(tmp_path, "sha256") as (source, options):
        source.features.append(feature("i1", {path[1:]: source.url(f"/1{path}") for path in BODIES}))
        report = sync.mirror(source.api, tmp_path, options=attrs.evolve(options, checksum="crc64nvme"))
        assert (report.assets_done, report.assets_skipped) == (6, 3)
    old = {name: digest for name, digest in expected("sha256").items() if name.startswith("i0")}
    assert digests(tmp_path) == expected("crc64nvme", 2) | old
    assert sync.verify(tmp_path).damaged == 0


def test_resume_keeps_the_checksum_of_the_run(tmp_path: Path) -> None:
    with Source(others=served) as source:
        source.features = [feature(f"i{item}", {"a": source.url(f"/{item}/small")}) for item in range(300)]
        options = Options(checksum="none")
        report = sync.mirror(source.api, tmp_path, options=options, **stopping_at(RunStarted))
        assert report.state == "interrupted"
        assert sync.resume(tmp_path).state == "complete"
    assert set(digests(tmp_path).values()) == {None}
