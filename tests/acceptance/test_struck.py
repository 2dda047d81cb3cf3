"""Some of the points of `scripts/strike-every-call`: at each kind of system call, a kill and a failure."""

from collections.abc import Iterator

import pytest
from tests.acceptance.calls import STRACE, Call, failing, spread
from tests.acceptance.initial_states import Scene, scene
from tests.acceptance.small_mirror import SmallMirror, small_mirror
from tests.acceptance.struck import WHAT, StrikeResult, calls_of, strike_all
from tests.acceptance.trees import Damage

FAILING = {"EIO": {"syncfs", "renameat2", "openat", "pwrite64"}, "ENOSPC": {"write", "mkdirat", "pwrite64"}}
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")

BEST_EFFORT = ("log.ndjson", "ledger.sqlite", "-shm", "-wal")
"""What may fail and stop nothing: the log, and what SQLite does again at the next start (checkpoints)."""


@pytest.fixture(scope="module")
def nothing() -> Iterator[Scene]:
    with scene() as found:
        yield found


@pytest.fixture(scope="module")
def calls(nothing: Scene) -> list[Call]:
    return calls_of(nothing)


def wrong(found: list[StrikeResult]) -> list[tuple[str, list[str]]]:
    return [(str(one.call), one.complaints) for one in found if one.complaints]


@needs_strace
def test_a_run_killed_before_a_system_call_can_be_resumed(nothing: Scene, calls: list[Call]) -> None:
    crucial = [call for call in calls if call.name in {"renameat2", "syncfs", "write", "pwrite64", "mkdirat"}]
    found = strike_all(nothing, spread(crucial, 5), WHAT["KILL"])
    assert sum(one.reached for one in found) >= 4  # threads may race another way
    assert wrong(found) == []


@needs_strace
@pytest.mark.parametrize("what", ["EIO", "ENOSPC"])
def test_a_failed_system_call_is_exit_5_and_the_run_can_be_resumed(nothing, calls, what):
    names = FAILING[what]
    chosen = spread([call for call in calls if call.name in names], len(names))
    found = strike_all(nothing, chosen, WHAT[what])
    assert any(one.reached for one in found)
    assert wrong(found) == []
    stopped_nothing = [one.call.path for one in found if one.reached and one.code == 0]
    assert all(path.endswith(BEST_EFFORT) for path in stopped_nothing)
    if "syncfs" in names:
        assert {one.code for one in found if one.reached and one.call.name == "syncfs"} == {5}


@needs_strace
def test_a_ledger_sync_that_fails_at_the_end_is_reported() -> None:
    """With one thread, since strace counts by thread: with several, another one may make the last call."""
    with scene(one_thread=True) as there:
        of_the_log = [
            call for call in calls_of(there) if call.name == "fdatasync" and call.path.endswith("-wal")
        ]
        assert len(of_the_log) == 2, "one begins the log, one ends it"
        found = strike_all(there, of_the_log[-1:], WHAT["EIO"])
    assert [(one.reached, one.code, one.complaints) for one in found] == [(True, 5, [])]


@needs_strace
@pytest.mark.parametrize(
    ("begin", "killed", "failing"),
    [("adopt", "renameat2", "syncfs"), ("refresh", "renameat", "syncfs"), ("repair", "renameat", "syncfs")],
)
def test_existing_files_survive_a_struck_call(begin: str, killed: str, failing: str) -> None:
    with scene(begin) as there:
        calls = calls_of(there)
        kills, failures = ([c for c in calls if c.name == name] for name in (killed, failing))
        found = strike_all(there, spread(kills, 1), WHAT["KILL"])
        found += strike_all(there, spread(failures, 1), WHAT["EIO"])
    assert any(one.reached for one in found)
    assert wrong(found) == []


@needs_strace
def test_a_run_makes_the_expected_system_calls(calls: list[Call]) -> None:
    names = {call.name for call in calls}
    assert names >= {"openat", "pwrite64", "renameat2", "syncfs"}
    assert len(calls) > 200
    assert len(set(calls)) == len(calls)


# --- a kernel or sandbox that refuses `syncfs` -----------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Iterator[SmallMirror]:
    with small_mirror() as made:
        yield made


@needs_strace
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EOPNOTSUPP", "EIO"])
def test_where_syncfs_is_refused_files_are_synced_singly_and_an_error_ends_the_run(small, tmp_path, error):
    ended = small.run(tmp_path / "m", under=failing("syncfs", error, tmp_path / "log"))
    fails = error == "EIO"
    assert ended.code == (5 if fails else 0), ended.err
    assert not fails or small.run(tmp_path / "m").code == 0
    assert small.damage(tmp_path / "m") == Damage()
