"""The state of DEST before a run that is struck or loses power, the command, and how it is resumed.

`scene` starts the replica and prepares what is found once; `Scene.prepare` leaves a copy of it at any place.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from tests.acceptance.calls import killing
from tests.acceptance.small_mirror import LARGE_KEY, SmallMirror, small_mirror
from tests.ran import Ran

from stacpull_replicas.object_store import DATASET_BUCKET, DATASET_PREFIX


@dataclass(frozen=True)
class Beginning:
    prepare: Callable[[Scene, Path], None]
    """Leaves at a path what a run finds."""
    options: tuple[str, ...] = ()
    verifies: bool = False
    """True if it is `verify` that is run, else `mirror`."""
    of_whole: bool = False
    """True if a whole mirror is made first."""
    keeps: bool = False
    """True if existing files are never removed, and correct ones never fetched again."""
    proven: bool = False
    """True if the files need no sync, since they lay there before."""
    change_source: Callable[[SmallMirror], SmallMirror] = lambda mirror: mirror
    """What happens upstream when the whole mirror is made."""


@dataclass(frozen=True)
class Scene:
    """A replica, and what a run finds."""

    mirror: SmallMirror
    beginning: Beginning
    whole: Path

    def prepare(self, dest: Path) -> None:
        self.beginning.prepare(self, dest)

    def run(self, dest: Path, under: Sequence[str] = ()) -> Ran:
        run = self.mirror.verify if self.beginning.verifies else self.mirror.run
        return run(dest, *self.beginning.options, under=under)

    def resume(self, dest: Path) -> Iterator[str]:
        """Complete it, and yield what is wrong with the result."""
        for run in (self.run, self.mirror.verify) if self.beginning.verifies else (self.run,):
            ran = run(dest)
            if ran.code != 0:
                yield f"it was not resumed: {ran.code}, {ran.out[-300:]} {ran.err[-600:]}"
        if wrong := self.mirror.damage(dest):
            yield f"after resuming: {wrong}"


@contextmanager
def scene(begin: str = "nothing", *, single: bool = False, one_thread: bool = False) -> Iterator[Scene]:
    """Start the replica for the length of the block, and prepare what runs find."""
    beginning = INITIAL_STATES[begin]
    with (
        small_mirror(single=single, one_thread=one_thread) as mirror,
        tempfile.TemporaryDirectory(prefix="stacpull-scene-") as temporary,
    ):
        whole = Path(temporary, "mirror")
        if beginning.of_whole:
            ran = mirror.run(whole)
            if ran.code != 0:
                raise RuntimeError(f"the whole mirror failed: {ran.err}")
        yield Scene(beginning.change_source(mirror), beginning, whole)


# --- what is found ------------------------------------------------------------------------------------------


def _killed_at(name: str, number: int) -> Callable[[Scene, Path], None]:
    def prepare(scene: Scene, dest: Path) -> None:
        scene.mirror.run(dest, under=killing(name, number, dest.with_name("log")))

    return prepare


def _all_the_files(scene: Scene, dest: Path) -> None:
    for name in scene.mirror.expected:
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(scene.whole / name, dest / name)


def _the_whole(scene: Scene, dest: Path) -> None:
    shutil.copytree(scene.whole, dest)


def _damaged(scene: Scene, dest: Path) -> None:
    """One file altered, the large one short, one lost; an item's JSON empty, the catalog lost."""
    _the_whole(scene, dest)
    small = sorted(name for name in scene.mirror.expected if name.endswith(".tif"))
    flipped = bytearray((dest / small[0]).read_bytes())
    flipped[0] ^= 1
    (dest / small[0]).write_bytes(flipped)
    (dest / small[1]).unlink()
    (large,) = (dest / name for name in scene.mirror.expected if name.endswith(".bin"))
    large.write_bytes(large.read_bytes()[:-1])
    min(dest.glob("bigearthnet_v1_source/*/*.json")).write_bytes(b"")
    (dest / "catalog.json").unlink()


def _other_contents(mirror: SmallMirror) -> SmallMirror:
    expected = dict(mirror.expected)
    changed = sorted(name for name in expected if name.endswith(("_B02.tif", "_B03.tif", ".bin")))
    for name in changed:
        file = expected[name]
        key = LARGE_KEY if name.endswith(".bin") else f"{DATASET_PREFIX}{file.name[:-8]}/{file.name}"
        old = mirror.replica.store.get(DATASET_BUCKET, key)
        data = b"changed " + old.read(0, old.size)
        mirror.replica.change(key, data)
        expected[name] = msgspec.structs.replace(
            file, size=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
    return replace(mirror, expected=expected)


INITIAL_STATES = {
    "nothing": Beginning(lambda _found, _dest: None),
    "begun": Beginning(_killed_at("renameat", 1)),
    "leftovers": Beginning(_killed_at("renameat2", 7)),
    "adopt": Beginning(_all_the_files, ("--adopt",), of_whole=True, keeps=True, proven=True),
    "refresh": Beginning(
        _the_whole, ("--revalidate",), of_whole=True, keeps=True, change_source=_other_contents
    ),
    "repair": Beginning(_damaged, ("--repair",), verifies=True, of_whole=True, keeps=True),
}
"""No DEST; a mirror killed before anything was planned; one killed in its renames; all the files, which are
to be adopted; a whole mirror of which three files have changed upstream; a damaged one."""
