"""Failures of the machine: each ends with the right exit code and sentence, and the mirror can be resumed."""

import shutil
import sqlite3
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.acceptance.command import COMMAND, SMALL, Running, environment, mirror_of, run, wait_until
from tests.acceptance.trees import damage, expected_files
from tests.ran import Ran
from tests.store_in_thread import store_on_thread

from stacpull import DestinationError, Options, Secret, Selection, sync
from stacpull.ledger import runs
from stacpull_replicas import MlhubReplica, Stall


def is_whole(dest: Path, hub: MlhubReplica) -> bool:
    return not damage(dest, expected_files(hub.dataset, range(SMALL)))


def limited(descriptors: int, arguments: list[str], env: dict[str, str]) -> Ran:
    with Running(
        ["-c", f'ulimit -n {descriptors}; exec "$@"', "limited", str(COMMAND), *arguments],
        env,
        program="bash",
    ) as process:
        return process.ended()


def test_a_mirror_succeeds_with_few_file_descriptors(tmp_path: Path, small_hub: MlhubReplica) -> None:
    dest = tmp_path / "mirror"
    ran = limited(64, mirror_of(small_hub.base_url, dest), environment(small_hub))
    assert ran.code == 0, ran.err
    assert is_whole(dest, small_hub)


def test_too_few_descriptors_for_the_concurrency_are_exit_5_and_fewer_transfers_work(tmp_path, small_hub):
    dest, env = tmp_path / "mirror", environment(small_hub)
    small_hub.inject(lambda request: request.server != "api", Stall(after=10, seconds=60), times=200)
    ran = limited(60, mirror_of(small_hub.base_url, dest, "--concurrency", "64"), env)
    assert ran.code == 5, ran.err
    assert ran.sentences[-1].endswith("raise `ulimit -n` or lower --concurrency.")
    assert "Traceback" not in ran.err
    small_hub.clear_faults()
    assert limited(64, mirror_of(small_hub.base_url, dest, "--concurrency", "4"), env).code == 0
    assert is_whole(dest, small_hub)


def test_a_destination_that_vanishes_is_exit_5_and_is_made_again(tmp_path, small_hub):
    dest, env = tmp_path / "mirror", environment(small_hub)
    small_hub.inject(lambda request: request.path.endswith("_B12.tif"), Stall(after=10, seconds=60), 10_000)
    with Running(mirror_of(small_hub.base_url, dest, "--stall-timeout", "2"), env) as process:
        assert wait_until(lambda: len(list(dest.glob("bigearthnet/*/*"))) > 20)
        dest.rename(tmp_path / "gone")
        shutil.rmtree(tmp_path / "gone", ignore_errors=True)
        ran = process.ended()
    small_hub.clear_faults()
    assert ran.code == 5, ran.err
    assert "Traceback" not in ran.err
    assert str(dest) in ran.sentences[-1]
    assert run(mirror_of(small_hub.base_url, dest), env).code == 0
    assert is_whole(dest, small_hub)


JUMPING = """
import itertools, sys, time
true, turns = time.time, itertools.count()
time.time = lambda: true() + ({jump} if next(turns) > 3 else 0)
from stacpull.cli.entry import main
sys.argv[0] = "stacpull"
main()
"""


@pytest.mark.parametrize("jump", [-30 * 86_400, 600], ids=["a month back", "ten minutes on"])
def test_a_clock_that_jumps_changes_nothing(tmp_path, small_hub, jump):
    """The API's hrefs are served by the blob host here: S3 itself refuses signatures of a wrong time."""
    dest, env = tmp_path / "mirror", environment(small_hub)
    arguments = mirror_of(small_hub.base_url, dest, "--no-source-links", "--json")
    with Running(["-c", JUMPING.format(jump=jump), *arguments], env, program=sys.executable) as process:
        ran = process.ended()
    assert ran.code == 0, ran.err
    assert (ran.report["state"], ran.report["assets_done"]) == ("complete", SMALL)
    assert 0 < ran.report["seconds"] < 500  # of the clock that never jumps
    assert run([*arguments, "--json"], env).report["assets_skipped"] == SMALL
    assert run(["status", str(dest), "--json"], env).report["state"] == "complete"


def test_an_end_that_cannot_be_recorded_is_an_error(tmp_path, small_hub, monkeypatch):
    """The run did everything, but the ledger does not record it: the next start has to check."""
    monkeypatch.setattr(runs, "end", Mock(side_effect=sqlite3.OperationalError("disk I/O error")))
    options = Options(query={"key": Secret(small_hub.key)})
    selection = Selection(collections=("bigearthnet_v1_labels",), max_items=1, source_links=False)
    with store_on_thread(), pytest.raises(DestinationError, match="disk I/O error"):
        sync.mirror(small_hub.base_url, tmp_path, selection=selection, options=options)
    monkeypatch.undo()
    report = sync.mirror(small_hub.base_url, tmp_path, selection=selection, options=options)
    assert (report.state, report.assets_done) == ("complete", 1)
