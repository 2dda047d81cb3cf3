"""`--checksum`: what is recorded of each asset, and what `verify` makes of it, through whole mirrors."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anycrc
import attrs
import pytest
from tests.net.memory import Answer
from tests.security.sources import Source, feature

from stacpull import Damage, MirrorReport, Options, mirror, resume, sync, verify
from stacpull.net.transport import Request

pytestmark = pytest.mark.usefixtures("threaded_store")

BODIES = {
    "/empty": b"",
    "/small": b"a band of a patch",
    "/long": random.Random(1).randbytes(3_000_000),
}
DIGESTS = {
    "sha256": lambda body: hashlib.sha256(body).digest(),
    "crc64nvme": lambda body: anycrc.Model("CRC64-NVME").calc(body).to_bytes(8, "big"),
    "none": lambda _: None,
}


def served(request: Request) -> Answer:
    path = "/" + request.url.rpartition("/")[2]
    return Answer(body=BODIES[path], headers={"ETag": f'"{path}"', "Accept-Ranges": "bytes"})


Act = Callable[[Source, Options], Awaitable[None]]


def on_mirror(
    dest: Path, checksum: str, act: Act | None = None, *, items: int = 1, same: bool = False, **options: Any
) -> MirrorReport:
    """Mirror so many items with all bodies each, then act while the source is there.

    With `same`, the assets of all items have the same hrefs.
    """

    async def course() -> MirrorReport:
        async with Source(others=served) as source:
            source.features = [
                feature(
                    f"i{item}", {path[1:]: source.url(path if same else f"/{item}{path}") for path in BODIES}
                )
                for item in range(items)
            ]
            given = Options(checksum=checksum, retries=1, **options)
            report = await mirror(source.api, dest, options=given)
            if act is not None:
                await act(source, given)
            return report

    return asyncio.run(course())


def digests(dest: Path) -> dict[str, bytes | None]:
    """The digests in the ledger, by item and key."""
    with closing(sqlite3.connect(dest / ".stacpull/ledger.sqlite")) as db:
        return {
            f"{item}/{key}": digest
            for item, key, digest in db.execute(
                "SELECT i.name, a.key, a.sha256 FROM assets a JOIN items i ON i.id = a.item"
            )
        }


def expected(checksum: str, items: int = 1) -> dict[str, bytes | None]:
    return {
        f"i{item}{path}": DIGESTS[checksum](body) for item in range(items) for path, body in BODIES.items()
    }


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def asset(dest: Path, key: str, item: str = "i0") -> Path:
    return next(path for path in (dest / "c" / item).iterdir() if path.stem == key)


@pytest.mark.parametrize(
    ("checksum", "options"),
    [
        *((checksum, {}) for checksum in DIGESTS),
    ],
    ids=str,
)
def test_the_selected_digest_is_recorded(tmp_path: Path, checksum: str, options: dict[str, Any]) -> None:
    report = on_mirror(tmp_path / "m", checksum, **options)
    assert (report.state, report.assets_done) == ("complete", 3)
    assert digests(tmp_path / "m") == expected(checksum, 1)
    found = sync.verify(tmp_path / "m")
    assert (found.damaged, found.unproven) == (0, 0 if checksum != "none" else 3)


@pytest.mark.parametrize("checksum", ["sha256", "crc64nvme"])
@pytest.mark.parametrize("key", ["small", "long"])
def test_a_flipped_bit_is_found_named_and_repaired(tmp_path: Path, checksum: str, key: str) -> None:
    dest, body = tmp_path / "m", BODIES[f"/{key}"]

    async def act(_source: Source, options: Options) -> None:
        flip(asset(dest, key))
        seen: list[object] = []
        found = await verify(dest, on_event=seen.append)
        assert (found.altered, found.damaged) == (1, 1)
        (damage,) = [event for event in seen if isinstance(event, Damage)]
        assert damage.expected == f"{len(body)} bytes, {checksum} {DIGESTS[checksum](body).hex()}"
        assert damage.found.startswith(f"{len(body)} bytes, {checksum} ")
        repaired = await verify(dest, repair=True, options=options)
        assert (repaired.altered, repaired.remaining) == (1, 0)

    on_mirror(dest, checksum, act)
    assert asset(dest, key).read_bytes() == body
    assert digests(dest) == expected(checksum)


def test_a_mirror_may_hold_both_kinds(tmp_path: Path) -> None:
    dest = tmp_path / "m"

    async def act(source: Source, options: Options) -> None:
        source.features.append(feature("i1", {path[1:]: source.url(f"/1{path}") for path in BODIES}))
        other = attrs.evolve(options, checksum="crc64nvme")
        report = await mirror(source.api, dest, options=other)
        assert (report.assets_done, report.assets_skipped) == (6, 3)

    on_mirror(dest, "sha256", act)
    old = {name: digest for name, digest in expected("sha256").items() if name.startswith("i0")}
    assert digests(dest) == expected("crc64nvme", 2) | old
    assert sync.verify(dest).damaged == 0


def test_a_long_file_of_one_href_is_recorded_for_each_item(tmp_path: Path) -> None:
    on_mirror(tmp_path / "m", "crc64nvme", items=3, same=True)
    assert digests(tmp_path / "m") == expected("crc64nvme", 3)


def test_resume_keeps_the_checksum_of_the_run(tmp_path: Path) -> None:
    """Like `--adopt` and `--revalidate`."""

    async def course() -> None:
        stop = asyncio.Event()

        def stopping(request: Request) -> Answer:
            stop.set()
            return served(request)

        async with Source(others=stopping) as source:
            source.features = [
                feature(f"i{item}", {"a": source.url(f"/{item}/small")}) for item in range(300)
            ]
            report = await mirror(source.api, tmp_path, options=Options(checksum="none"), stop=stop)
            assert report.state == "interrupted"
            assert (await resume(tmp_path)).state == "complete"

    asyncio.run(course())
    assert set(digests(tmp_path).values()) == {None}
