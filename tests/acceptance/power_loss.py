"""A small mirror that loses power at any moment: its possible contents are opened as after a reboot.

One run is traced with all its bytes (`crash_trace`), whatever it finds (`initial_states`). From the trace the
model of a disk (`crash_disk`) makes states that a power loss may leave; around every sync there are the
extreme ones and random ones. Each is held against the manifest, then gone on with under another boot id, and
held against the manifest again.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import attrs
from tests.acceptance.command import LABELS
from tests.acceptance.crash_disk import DAMAGES, Choice, Damage, Disk, any_damage
from tests.acceptance.crash_trace import Event, events_of, events_of_tree, recording
from tests.acceptance.initial_states import Scene
from tests.acceptance.inspected_mirror import Before, InspectedMirror, before
from tests.acceptance.small_mirror import SmallMirror
from tests.store_in_thread import store_on_thread

import stacpull
from stacpull import Options, Secret, Selection, sync
from stacpull.engine import publisher
from stacpull.store import local_store
from stacpull.store.local_store import LocalStore


@dataclass(frozen=True)
class Loss:
    """Power is lost before event `at` ends; unsynced data is lost according to `names` and `bytes`."""

    at: int
    names: str
    bytes: str
    seed: int


@dataclass(frozen=True)
class Aftermath:
    loss: Loss
    complaints: list[str] = field(default_factory=list)


_NAMES: dict[str, Choice] = {
    "all there": lambda _draw: True,
    "none there": lambda _draw: False,
    "any": lambda draw: draw.random() < 0.5,
}
_BYTES: dict[str, Damage] = {damage.__name__: damage for damage in (*DAMAGES, any_damage)}


@dataclass(frozen=True)
class Recording:
    """What one run did. The first events make what it found (`before`), all of that safe on the disk."""

    scene: Scene
    events: list[Event]
    found: int = 0
    before: Before = field(default_factory=Before)


def record(scene: Scene, killed: str | None = None) -> Recording:
    """What a run does; `killed` at a call (`renameat2:when=7`), the next one as well."""
    with tempfile.TemporaryDirectory(prefix="stacpull-power-") as temporary:
        dest, log = Path(temporary, "mirror"), Path(temporary, "log")
        scene.prepare(dest)
        lay_there = before(dest) if scene.beginning.keeps else Before()
        events = events_of_tree(dest) if scene.beginning.keeps else []
        found = len(events)
        if killed is not None:
            name, _, when = killed.partition(":")
            scene.run(dest, under=[*recording(log), "-e", f"inject={name}:signal=KILL:{when}"])
            events += events_of(log, dest, after=len(events))
        ran = scene.run(dest, under=recording(log))
        if ran.code != 0:
            raise RuntimeError(f"the undisturbed run failed: {ran.err}")
        return Recording(scene, [*events, *events_of(log, dest, after=len(events))], found, lay_there)


def losses(disk: Disk, random_ones: int, seed: int = 7, *, after: int = 0) -> Iterator[Loss]:
    """Losses around every sync: the extreme ones right before it ends, random ones anywhere before it.

    None before the event `after`.
    """
    draw = random.Random(seed)
    last = after
    for point in [*(one.at for one in disk.syncs if one.at >= after), disk.length]:
        for names in ("all there", "none there"):
            for damage in DAMAGES:
                yield Loss(point, names, damage.__name__, draw.randrange(1 << 30))
        for _ in range(random_ones):
            yield Loss(draw.randint(last, point), "any", "any_damage", draw.randrange(1 << 30))
        last = point


def suffer(recorded: Recording, disk: Disk, loss: Loss) -> Aftermath:
    scene = recorded.scene
    with tempfile.TemporaryDirectory(prefix="stacpull-power-") as temporary:
        dest = Path(temporary, "mirror")
        inodes = disk.lose_power(
            loss.at, dest, _NAMES[loss.names], _BYTES[loss.bytes], random.Random(loss.seed)
        )
        complaints = list(InspectedMirror(dest, scene.mirror.expected, recorded.before).complaints())
        try:
            with _rebooted(scene.mirror, inodes):
                _resume(scene, dest)
        except (stacpull.StacpullError, AssertionError) as error:
            return Aftermath(loss, [*complaints, f"it did not go on: {error}"])
        if wrong := scene.mirror.damage(dest):
            complaints.append(f"after going on: {wrong}")
        shutil.rmtree(dest)
    return Aftermath(loss, complaints)


def _resume(scene: Scene, dest: Path) -> None:
    """Do again what the run was to do; with the library, in this process."""
    options = Options(
        query={"key": Secret(scene.mirror.replica.key)}, layout="bigearthnet/{parent}/{filename}"
    )
    requested = scene.beginning.options
    if "--repair" in requested:
        repaired = sync.verify(dest, repair=True, options=options)
        assert repaired.exit_code == 0, repaired
        return
    report = sync.mirror(
        scene.mirror.replica.base_url,
        dest,
        selection=Selection(collections=(LABELS, "large_files_v1"), exclude_assets=("B10",)),
        options=attrs.evolve(options, **{name: f"--{name}" in requested for name in ("adopt", "revalidate")}),
    )
    assert (report.state, report.assets_failed) == ("complete", 0), report


@contextmanager
def _rebooted(mirror: SmallMirror, inodes: dict[int, int]) -> Iterator[None]:
    """As after a reboot. Files have the inodes that they had on the disk that they stand for."""
    identity = LocalStore.find

    def as_it_was(destination: LocalStore, path: str) -> tuple[int, int] | None:
        found = identity(destination, path)
        return None if found is None else (inodes.get(found[0], found[0]), found[1])

    with ExitStack() as stack:
        stack.enter_context(store_on_thread())
        stack.enter_context(mock.patch.dict(os.environ, mirror.env, clear=True))
        stack.enter_context(mock.patch.object(publisher, "boot_id", return_value="another boot"))
        stack.enter_context(mock.patch.object(LocalStore, "find", as_it_was))
        if mirror.single:
            stack.enter_context(mock.patch.object(local_store, "GROUP_SYNC", set()))
        yield
