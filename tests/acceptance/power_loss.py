"""A small mirror that loses power at any moment: what may lie on the disk then is opened as after a reboot.

One run is traced with all its bytes (`crash_trace`). From the trace the model of a disk (`crash_disk`) makes
states that a power loss may leave; around every sync there are the extreme ones and random ones. Each is held
against the manifest, then mirrored on under another boot id, and held against the manifest again.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tests.acceptance.at_rest import AtRest
from tests.acceptance.command import LABELS
from tests.acceptance.crash_disk import DAMAGES, Choice, Damage, Disk, any_damage
from tests.acceptance.crash_trace import Event, events_of, recording
from tests.acceptance.small_mirror import SmallMirror

import stacpull
from stacpull import Options, Secret, Selection
from stacpull.engine import recovery
from stacpull.store import sync
from stacpull.store.destination import Destination


@dataclass(frozen=True)
class Loss:
    """Power goes before event `at` ends; what is not synced is lost as `names` and `bytes` say."""

    at: int
    names: str
    bytes: str
    seed: int

    def __str__(self) -> str:
        return f"before event {self.at}, names {self.names}, bytes {self.bytes}, seed {self.seed}"


@dataclass(frozen=True)
class Aftermath:
    """What became of one loss."""

    loss: Loss
    complaints: list[str] = field(default_factory=list)


_NAMES: dict[str, Choice] = {
    "all there": lambda _draw: True,
    "none there": lambda _draw: False,
    "any": lambda draw: draw.random() < 0.5,
}
_BYTES: dict[str, Damage] = {damage.__name__: damage for damage in (*DAMAGES, any_damage)}


def record(mirror: SmallMirror, killed: str | None = None) -> list[Event]:
    """What a mirror from nothing does; `killed` at a call (`renameat:when=8`), the next start as well."""
    with tempfile.TemporaryDirectory(prefix="stacpull-power-") as temporary:
        dest, log = Path(temporary, "mirror"), Path(temporary, "log")
        found: list[Event] = []
        if killed is not None:
            name, _, when = killed.partition(":")
            mirror.run(dest, under=[*recording(log), "-e", f"inject={name}:signal=KILL:{when}"])
            found += events_of(log, dest)
        ran = mirror.run(dest, under=recording(log))
        if ran.code != 0 or mirror.damage(dest):
            raise RuntimeError(f"the undisturbed run failed: {ran.err}")
        return [*found, *events_of(log, dest, after=len(found))]


def losses(disk: Disk, random_ones: int, seed: int = 7) -> Iterator[Loss]:
    """Losses around every sync: the extreme ones right before it ends, random ones anywhere before it."""
    draw = random.Random(seed)
    before = 0
    for point in [*(one.at for one in disk.syncs), disk.length]:
        for names in ("all there", "none there"):
            for damage in DAMAGES:
                yield Loss(point, names, damage.__name__, draw.randrange(1 << 30))
        for _ in range(random_ones):
            yield Loss(draw.randint(before, point), "any", "any_damage", draw.randrange(1 << 30))
        before = point


def suffer(mirror: SmallMirror, disk: Disk, loss: Loss) -> Aftermath:
    """Make what the loss leaves, look at it, mirror on, look again."""
    with tempfile.TemporaryDirectory(prefix="stacpull-power-") as temporary:
        dest = Path(temporary, "mirror")
        inodes = disk.lose_power(
            loss.at, dest, _NAMES[loss.names], _BYTES[loss.bytes], random.Random(loss.seed)
        )
        complaints = list(AtRest(dest, mirror.expected).complaints())
        try:
            report = _mirror_on(mirror, dest, inodes)
        except stacpull.StacpullError as error:
            return Aftermath(loss, [*complaints, f"it did not go on: {error}"])
        if report.state != "complete" or report.assets_failed:
            complaints.append(f"it went on to be {report.state}, {report.assets_failed} failed")
        if wrong := mirror.damage(dest):
            complaints.append(f"after going on: {wrong}")
        shutil.rmtree(dest)
    return Aftermath(loss, complaints)


def _mirror_on(mirror: SmallMirror, dest: Path, inodes: dict[int, int]) -> stacpull.MirrorReport:
    """Mirror as after a reboot. Files have the inodes that they had on the disk that they stand for."""
    identity = Destination.identity

    def as_it_was(destination: Destination, directory: str, name: str) -> tuple[int, int] | None:
        found = identity(destination, directory, name)
        return None if found is None else (inodes.get(found[0], found[0]), found[1])

    selection = Selection(collections=(LABELS, "large_files_v1"), exclude_assets=("B10",))
    options = Options(query={"key": Secret(mirror.replica.key)}, layout="bigearthnet/{parent}/{filename}")
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, mirror.env, clear=True))
        stack.enter_context(mock.patch.object(recovery, "boot_id", return_value="another boot"))
        stack.enter_context(mock.patch.object(Destination, "identity", as_it_was))
        if mirror.single:
            stack.enter_context(mock.patch.dict(sync._MAGIC, clear=True))
        return asyncio.run(
            stacpull.mirror(mirror.replica.base_url, dest, selection=selection, options=options)
        )
