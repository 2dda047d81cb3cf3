"""Some of the losses of `scripts/lose-power`; and that the model finds what it is there to find."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.calls import STRACE
from tests.acceptance.crash_disk import Disk, all_there, none_there, some, torn, zeros
from tests.acceptance.crash_trace import Event, Kind
from tests.acceptance.initial_states import scene
from tests.acceptance.power_loss import Loss, Recording, losses, record, suffer

pytestmark = pytest.mark.behaviour

needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


@pytest.fixture(scope="module", params=[False, True], ids=["in groups", "file by file"])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recording]:
    with scene(single=request.param) as found:
        yield record(found)


def after_some(recorded: Recording, count: int) -> list[tuple[str, list[str]]]:
    """What is wrong after some of the losses."""
    disk = Disk(recorded.events)
    ways = list(losses(disk, random_ones=1, after=recorded.found))
    after = [suffer(recorded, disk, loss) for loss in random.Random(7).sample(ways, count)]
    return [(str(one.loss), one.complaints) for one in after if one.complaints]


@needs_strace
def test_nothing_is_recorded_as_done_without_its_bytes_and_the_run_resumes(recorded):
    assert after_some(recorded, 10) == []


@needs_strace
@pytest.mark.parametrize("begin", ["adopt", "refresh", "repair"])
def test_a_power_loss_over_an_existing_mirror_loses_nothing(begin):
    with scene(begin) as found:
        assert after_some(record(found), 4) == []


@needs_strace
def test_the_model_detects_a_mirror_that_does_not_sync(recorded):
    """The same run without the syncs of its data: the model must detect it."""
    spared = [e for e in recorded.events if e.kind is not Kind.SYNC_ALL and _is_of_the_ledger(e)]
    disk = Disk(spared)
    ways = [Loss(disk.length, "all there", damage, 1) for damage in ("none_there", "zeros")]
    assert all(suffer(recorded, disk, loss).complaints for loss in ways)


def _is_of_the_ledger(event: Event) -> bool:
    return event.kind is not Kind.SYNC or event.path.startswith(".stacpull/ledger")


# --- the model ----------------------------------------------------------------------------------------------

MADE = [
    Event(Kind.MAKE_DIRECTORY, "d", 0),
    Event(Kind.MAKE, "d/part", 1),
    Event(Kind.WRITE, "d/part", 2, data=b"a" * 512),
    Event(Kind.WRITE, "d/part", 3, data=b"b" * 512),
]


def left(events: list[Event], *, names: bool, damage, at: Path) -> dict[str, bytes]:
    disk = Disk(events)
    disk.lose_power(disk.length, at, lambda _: names, damage, random.Random(1))
    return {path.relative_to(at).as_posix(): path.read_bytes() for path in at.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("more", "names", "damage", "expected"),
    [
        ([], True, all_there, {"d/part": b"a" * 512 + b"b" * 512}),
        ([], True, none_there, {"d/part": b""}),
        ([], True, zeros, {"d/part": bytes(1024)}),
        ([], False, all_there, {}),
        ([Event(Kind.SYNC_ALL, "", 4)], False, none_there, {"d/part": b"a" * 512 + b"b" * 512}),
        ([Event(Kind.SYNC_ALL, "", 3)], False, none_there, {"d/part": b"a" * 512}),  # the last came too late
        ([Event(Kind.SYNC, "d/part", 4)], False, none_there, {}),  # its name is not synced
        ([Event(Kind.SYNC, "d/part", 4)], True, none_there, {"d/part": b"a" * 512 + b"b" * 512}),
        ([Event(Kind.RENAME, "d/part", 4, to="final")], True, none_there, {"final": b""}),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.RENAME, "d/part", 5, to="final")], False, none_there,
         {"d/part": b"a" * 512 + b"b" * 512}),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.RENAME, "d/part", 5, to="final"), Event(Kind.SYNC, "", 6)],
         False, none_there, dict.fromkeys(("d/part", "final"), b"a" * 512 + b"b" * 512)),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.REMOVE, "d/part", 5)], True, none_there, {}),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.LINK, "d/part", 5, to="d/more")], True, none_there,
         dict.fromkeys(("d/part", "d/more"), b"a" * 512 + b"b" * 512)),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.LINK, "d/part", 5, to="d/more")], False, none_there,
         {"d/part": b"a" * 512 + b"b" * 512}),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.RESIZE, "d/part", 5, number=3)], True, all_there,
         {"d/part": b"aaa"}),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.EMPTY, "d/part", 5)], True, all_there, {"d/part": b""}),
        ([Event(Kind.SYNC_ALL, "", 4), Event(Kind.WRITE, "d/part", 5, data=b"c", number=1)], True, all_there,
         {"d/part": b"ac" + b"a" * 510 + b"b" * 512}),
    ],
)  # fmt: skip
def test_files_left_by_a_power_loss(tmp_path, more, names, damage, expected):
    assert left([*MADE, *more], names=names, damage=damage, at=tmp_path / "left") == expected


@pytest.mark.parametrize("damage", [torn, some])
def test_torn_files_contain_only_written_sectors(tmp_path, damage):
    found = {left(MADE, names=True, damage=damage, at=tmp_path / "left")["d/part"]}
    assert found <= {b"", b"a" * 512, b"a" * 512 + b"b" * 512, bytes(512) + b"b" * 512}
