"""A hub full of faults, and the command `stacpull` on it: in this process, so that hundreds of runs fit."""

import asyncio
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.acceptance.command import BIGEARTHNET, LABELS
from tests.acceptance.trees import damage, expected_files, files_in
from tests.ran import Ran

import stacpull
from stacpull.cli.main import execute
from stacpull.clock import SystemClock
from stacpull.reports import FailureRecord
from stacpull_replicas import Dataset, ExpectedFile, MlhubReplica, PlannedFaults, parse_faults
from stacpull_replicas.object_store import DATASET_BUCKET, large_key

ASSETS = ("labels", "B01", "B02", "B03")
"""Those of a patch that are mirrored: four of thirteen small files."""
HURRY = 50
SIZE = 2 << 20
PATIENT = ("--stall-timeout", "3000")
"""A minute, on the clock of the runs: a busy machine is not a stall."""
CUT = 1_200_000
"""Where transfers of large files break off, in the scenarios that break them off."""


class Cast(enum.Enum):
    LARGE = "large_files_v1"
    """Two files of 2 MiB: the first comes from the blob host, the second from S3, both by redirects."""
    PATCHES = LABELS
    """Patches of BigEarthNet: a labels item and a source item each, with `ASSETS`, from both hosts."""


class HurriedClock(SystemClock):
    """Fifty seconds of waiting pass in one; `sleeps` are the waits that ended. The date is the real one."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.hurry = HURRY

    def monotonic(self) -> float:
        return time.monotonic() * self.hurry

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.hurry)
        self.sleeps.append(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        super().call_later(seconds / self.hurry, callback)
        self.sleeps.append(seconds)


NO_SEARCH = '[[fault]]\nserver = "api"\npath = "*/search"\nwhat = "status"\ncode = 404\n'
"""Faults with which source items are read one by one."""


def hub_of(cast: Cast, faults: str, **more: Any) -> MlhubReplica:
    """The hub of a scene. With this seed the first large file is on the blob host, the second on S3."""
    sizes = {"items": 1, "large_items": 2, "large_size": SIZE} if cast is Cast.LARGE else {"items": 3}
    return MlhubReplica(
        **{"seed": 1, **sizes, **more}, faults=PlannedFaults(parse_faults(faults)), record=True
    )


@cache
def files_of(dataset: Dataset) -> dict[str, ExpectedFile]:
    """`ASSETS` of all patches, by path. Their digests are made once for all tests of the same patches."""
    every = expected_files(dataset, range(dataset.items))
    return {name: file for name, file in every.items() if file.asset in ASSETS}


@dataclass(frozen=True)
class Scene:
    hub: MlhubReplica
    cast: Cast
    dest: Path
    clock: HurriedClock
    read_output: Callable[[], Any]

    def run(self, *arguments: str) -> Ran:
        self.read_output()
        code = execute([*arguments, "--json"])
        return Ran(code, *self.read_output())

    def mirror(self, *options: str) -> Ran:
        where = [self.hub.base_url, str(self.dest), "-C", self.cast.value]
        if self.cast is Cast.PATCHES:
            where += ["--config", str(BIGEARTHNET), *(word for key in ASSETS for word in ("--asset", key))]
        return self.run("mirror", *where, "--no-progress", *options)

    def again(self, command: str, *options: str) -> Ran:
        return self.run(command, str(self.dest), "--no-progress", *options)

    def let_strike(self, faults: str) -> None:
        """Put other faults in place of those so far; none: the server is well again."""
        self.hub._planned = PlannedFaults(parse_faults(faults))

    def failures(self) -> list[FailureRecord]:
        return list(stacpull.failures(self.dest))

    def statuses(self, server: str, kind: str | None = None) -> list[int]:
        return [r.status for r in self.hub.requests if r.server == server and kind in {None, r.kind}]

    def sent(self, server: str) -> int:
        return sum(record.sent for record in self.hub.requests if record.server == server)

    def expected(self) -> dict[str, bytes]:
        store = self.hub.store
        contents = {n: store.get(DATASET_BUCKET, large_key(n)) for n in range(2)}
        return {
            f"large_files_v1/large_files_v1_{number:04d}/data": content.read(0, content.size)
            for number, content in contents.items()
            if content is not None
        }

    def assets(self) -> dict[str, bytes]:
        found = files_in(self.dest) if self.dest.exists() else {}
        return {name: path.read_bytes() for name, path in found.items() if not name.endswith("json")}

    def parts(self) -> list[Path]:
        return sorted((self.dest / ".stacpull" / "parts").iterdir())

    def assert_whole(self) -> None:
        """Hold the mirror against what it should be, byte for byte, and nothing beside it."""
        if self.cast is Cast.LARGE:
            assert self.assets() == self.expected()
            assert self.parts() == []
        else:
            assert not damage(self.dest, files_of(self.hub.dataset))


def on_objects(what: str, *more: str) -> str:
    return "\n".join(["", "[[fault]]", 'kind = "object"', 'per = "path"', f'what = "{what}"', *more])


INVERTED = bytes(255 - value for value in range(256))
