"""Some of the losses of `scripts/lose-power`; and that the model finds what it is there to find."""

import random
from collections.abc import Iterator

import pytest
from tests.acceptance.calls import STRACE
from tests.acceptance.crash_disk import Disk
from tests.acceptance.crash_trace import Kind
from tests.acceptance.initial_states import scene
from tests.acceptance.power_loss import Loss, Recording, losses, record, suffer

needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


@pytest.fixture(scope="module", params=[False, True], ids=["in groups", "file by file"])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recording]:
    with scene(single=request.param) as found:
        yield record(found)


def after_some(recorded: Recording, count: int) -> list[tuple[str, list[str]]]:
    disk = Disk(recorded.events)
    ways = list(losses(disk, random_ones=1, after=recorded.found))
    after = [suffer(recorded, disk, loss) for loss in random.Random(7).sample(ways, count)]
    return [(str(one.loss), one.complaints) for one in after if one.complaints]


@needs_strace
def test_nothing_is_recorded_as_done_without_its_bytes_and_the_run_resumes(recorded: Recording) -> None:
    assert after_some(recorded, 6) == []


@needs_strace
@pytest.mark.parametrize("begin", ["adopt", "refresh", "repair"])
def test_a_power_loss_over_an_existing_mirror_loses_nothing(begin: str) -> None:
    with scene(begin) as found:
        assert after_some(record(found), 3) == []


@needs_strace
def test_the_model_detects_a_mirror_that_does_not_sync(recorded: Recording) -> None:
    of_files = [e for e in recorded.events if e.kind is not Kind.SYNC_ALL]
    spared = [e for e in of_files if e.kind is not Kind.SYNC or e.path.startswith(".stacpull/ledger")]
    disk = Disk(spared)
    ways = [Loss(disk.length, "all there", damage, 1) for damage in ("none_there", "zeros")]
    assert all(suffer(recorded, disk, loss).complaints for loss in ways)
