"""External failures, and how they end: an exit code, one plain sentence, a mirror that can be resumed."""

import json
import time
from pathlib import Path

import pytest
from tests.acceptance.command import BIGEARTHNET, LABELS, SMALL, environment, mirror_of, run
from tests.acceptance.small_api import SmallApi
from tests.acceptance.trees import damage, expected_files
from tests.items import feature

from stacpull import Options, Secret, Selection, StacpullError, sync
from stacpull_replicas import MlhubReplica, RequestInfo, Status, run_in_thread

CONTRACT = {
    "state", "items_seen", "items_matched", "items_done", "assets_planned", "assets_done", "assets_skipped",
    "assets_failed", "assets_missing", "assets_pending", "bytes_done", "bytes_fetched", "seconds", "requests",
    "retries",
}  # fmt: skip


@pytest.mark.parametrize(
    ("small", "large"),
    [
        pytest.param("size=1m", "size=60m", id="bytes"),
        pytest.param("size=60m,nr_inodes=120", "size=60m,nr_inodes=5000", id="inodes"),
    ],
)
def test_a_full_disk_is_exit_5_and_the_run_resumes_with_room(small_disk, small_hub, small, large):
    dest, env = small_disk(small) / "mirror", environment(small_hub)
    full = run(mirror_of(small_hub.base_url, dest), env)
    assert full.code == 5, full.err
    assert "Traceback" not in full.err
    assert "space" in full.sentences[-1] or "full" in full.sentences[-1]
    assert str(dest) in full.sentences[-1]

    small_disk(large)
    status = run(["status", str(dest), "--json"], env)
    assert status.code == 0, status.err
    ran = run(["resume", str(dest), "--config", str(BIGEARTHNET)], env)
    assert ran.code == 0, ran.err
    assert not damage(dest, expected_files(small_hub.dataset, range(SMALL)))


def test_a_read_only_destination_is_exit_5(small_disk, small_hub):
    place = small_disk("size=10m")
    small_disk("size=10m,ro")
    ran = run(mirror_of(small_hub.base_url, place / "mirror"), environment(small_hub))
    assert ran.code == 5, ran.err
    assert str(place / "mirror") in ran.sentences[-1]
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("below", ["", "deeper"], ids=["a file", "below a file"])
def test_a_file_in_the_way_of_dest_is_exit_5(tmp_path: Path, small_hub: MlhubReplica, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    ran = run(mirror_of(small_hub.base_url, tmp_path / "file" / below), environment(small_hub))
    assert ran.code == 5, ran.err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["status", "failures", "resume", "retry", "verify", "verify --repair"])
def test_a_dest_that_is_not_a_mirror_is_exit_2(tmp_path: Path, command: str) -> None:
    ran = run([*command.split(), str(tmp_path)], environment())
    assert ran.code == 2
    assert str(tmp_path) in ran.sentences[-1]


def test_quiet_prints_nothing_and_json_is_the_last_line(tmp_path: Path, hub: MlhubReplica) -> None:
    few = ["--max-items", "2"]
    quiet = run(mirror_of(hub.base_url, tmp_path / "quiet", *few, "-q"), environment(hub))
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    reported = run(mirror_of(hub.base_url, tmp_path / "json", *few, "--json"), environment(hub))
    assert reported.code == 0
    assert len(reported.out.splitlines()) == 1
    status = run(["status", str(tmp_path / "json"), "--json"], environment())
    for report in (reported.report, status.report):
        assert report.keys() >= CONTRACT
        assert report["state"] == "complete"
        done, failed, pending = (report[f"assets_{state}"] for state in ("done", "failed", "pending"))
        assert report["assets_planned"] == done + failed + pending == 26
        assert report["bytes_fetched"] >= report["bytes_done"] > 0


def test_a_resumed_run_that_needs_no_more_items_still_counts_those_it_read(tmp_path: Path) -> None:
    """The walk of a file begins again, and `--max-items` was reached before the stop."""
    items = [feature(name, {f"a{n}": f"./{n}" for n in range(40)}) for name in ("1", "2")]
    (tmp_path / "items.ndjson").write_text("".join(f"{json.dumps(one)}\n" for one in items))
    options = Options(max_failures=0, concurrency=1)
    with pytest.raises(StacpullError, match="--max-failures 0"):
        sync.mirror(
            tmp_path / "items.ndjson", tmp_path / "m", selection=Selection(max_items=1), options=options
        )
    assert not sync.status(tmp_path / "m").walk_ended
    report = sync.resume(tmp_path / "m")
    assert (report.items_seen, report.items_matched, report.assets_failed) == (1, 1, 40)
    assert sync.resume(tmp_path / "m").exit_code == 0  # only `retry` tries failures again


def test_a_source_item_that_could_not_be_read_is_planned_when_the_walk_finds_it(tmp_path: Path) -> None:
    """It stayed failed until `retry`. Its label items are listed first, and link to it."""

    def is_read_alone(request: RequestInfo) -> bool:
        return "/items/" in request.target or "/search" in request.target

    selection = Selection(collections=(LABELS, "bigearthnet_v1_source"), exclude_assets=("B10",))
    with run_in_thread(MlhubReplica(items=3, seed=5)) as replica:
        replica.inject(is_read_alone, Status(500), times=1000)
        options = Options(query={"key": Secret(replica.key)}, retries=0)
        report = sync.mirror(replica.base_url, tmp_path / "m", selection=selection, options=options)
    assert (report.exit_code, report.items_failed, report.items_done, report.assets_done) == (0, 0, 6, 39)
    assert list(sync.failures(tmp_path / "m")) == []


def test_an_asset_that_cannot_be_planned_fails_when_its_page_was_read(tmp_path: Path) -> None:
    class Unplannable(SmallApi):
        last_page_read = 0.0

        def _item(self, collection: str, name: str) -> dict[str, object]:
            self.last_page_read = time.time()
            return {**super()._item(collection, name), "assets": {"data": {"href": "ftp://h.example/a"}}}

    with Unplannable({"c": ["1", "2", "3"]}) as api:
        assert sync.mirror(api.url("/collections/c"), tmp_path).assets_failed == 3
    times = {one.item: one.when for one in sync.failures(tmp_path)}
    assert times["3"] >= api.last_page_read
