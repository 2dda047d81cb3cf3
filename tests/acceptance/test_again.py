"""What a mirror does when it is run again, what keeps others out, and what `status` sees meanwhile."""

import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.command import SMALL, SOURCE, Running, environment, mirror_of, run, wait_until
from tests.acceptance.mirrored import asset_requests
from tests.acceptance.small_api import SmallApi
from tests.acceptance.trees import damage, digests_in, expected_files, files_in
from tests.events import warnings
from tests.items import feature
from tests.net.memory import Answer

from stacpull import Options, Selection, SourceError, StacpullError, failures, status, sync
from stacpull_replicas import MlhubReplica, RequestInfo, Stall, Status

INVARIANT = ("assets_done", "assets_failed", "assets_pending")


def files_of(replica: MlhubReplica, label: str) -> dict[str, Any]:
    return expected_files(
        replica.dataset, [patch.index for patch in replica.dataset.patches() if label in patch.labels]
    )


def test_a_run_on_a_finished_mirror_makes_no_asset_request(tmp_path, small_hub):
    dest, env = tmp_path / "mirror", environment(small_hub)
    assert run(mirror_of(small_hub.base_url, dest), env).code == 0
    before, counted = digests_in(dest), asset_requests(small_hub)
    times = {name: path.stat().st_mtime_ns for name, path in files_in(dest).items() if name.endswith(".tif")}
    again = run(mirror_of(small_hub.base_url, dest, "--json"), env)
    assert again.code == 0, again.err
    assert asset_requests(small_hub) == counted
    assert again.report["assets_done"] == again.report["assets_skipped"] == SMALL * 13
    assert digests_in(dest) == before
    after = {name: path.stat().st_mtime_ns for name, path in files_in(dest).items() if name.endswith(".tif")}
    assert after == times


def test_a_wider_selection_adds_and_a_narrower_removes_nothing(tmp_path, small_hub):
    dest, env = tmp_path / "mirror", environment(small_hub)
    counts = Counter(label for patch in small_hub.dataset.patches() for label in patch.labels)
    (one, _), (other, _) = counts.most_common(2)
    ones, others = files_of(small_hub, one), files_of(small_hub, other)
    assert ones.keys() - others.keys()
    assert others.keys() - ones.keys()
    steps = [
        ("one", ["--label", one], len(ones), ones),
        ("wider", ["--label", one, "--label", other], len(others.keys() - ones.keys()), ones | others),
        ("narrower", ["--label", other], 0, ones | others),
        ("the first again", ["--label", one], 0, ones | others),
    ]
    for name, labels, fetched, there in steps:
        counted = asset_requests(small_hub)
        ran = run(mirror_of(small_hub.base_url, dest, *labels, "--json"), env)
        assert ran.code == 0, (name, ran.err)
        assert ran.report["assets_done"] - ran.report["assets_skipped"] == fetched, name
        assert (asset_requests(small_hub) - counted) == 2 * fetched, name
        assert not damage(dest, there), name
    run(mirror_of(small_hub.base_url, dest, "--max-items", "1"), env)
    status = run(["status", str(dest), "--json"], env).report
    assert status["items_seen"] == SMALL  # of all runs, not of the last one
    assert status["items_matched"] == status["items_done"] > 1


def test_a_narrower_selection_leaves_the_failures_and_the_rest_of_a_stopped_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.acceptance.small_api.PER_PAGE", 4)  # so that all are planned before the stop
    options = Options(retries=0, max_failures=0, concurrency=1)

    def asset(request: Any) -> Answer:
        if request.url.endswith("/1"):
            return Answer(404)
        time.sleep(0.2)  # so that the run stops before the rest is fetched
        return Answer(body=b"data")

    with SmallApi({"c": ["1", "2", "3", "4"]}, asset=asset) as api:
        source = api.url("/collections/c")
        with pytest.raises(StacpullError, match="--max-failures"):
            sync.mirror(source, tmp_path, options=options)
        there = files_in(tmp_path).keys()
        selection, received = Selection(ids="4"), list[object]()
        narrow = sync.mirror(
            source, tmp_path, selection=selection, options=Options(retries=0), on_event=received.append
        )
        hint = "An earlier run is not complete: `stacpull resume` continues it."
        assert hint in warnings(received)
        assert (narrow.state, narrow.exit_code, narrow.assets_done) == ("complete", 0, 1)
        assert there <= files_in(tmp_path).keys()
        assert [one.item for one in failures(tmp_path)] == ["1"]
        assert status(tmp_path).state == "failed"
        received.clear()
        resumed = sync.resume(tmp_path, options=Options(retries=0), on_event=received.append)
        assert (resumed.state, resumed.assets_done, resumed.assets_missing) == ("complete", 3, 1)
        assert not any("not complete" in warning for warning in warnings(received))
    assert sync.verify(tmp_path).exit_code == 0


def test_a_walk_that_failed_is_unfinished_although_nothing_is_pending_and_another_run_completed(tmp_path):
    with SmallApi({"c": ["1", "2", "3"]}) as api:
        api.refused = {"c:2": 500}
        source = api.url("/collections/c")
        with pytest.raises(SourceError):
            sync.mirror(source, tmp_path, options=Options(retries=0))
        assert sync.mirror(source, tmp_path, selection=Selection(max_items=1)).state == "complete"
        shown = status(tmp_path)
        assert (shown.state, shown.walk_ended, shown.assets_pending) == ("failed", False, 0)
        assert shown.selection == {}
        assert sync.verify(tmp_path).mirror_state == "failed"
        api.refused = {}
        assert sync.resume(tmp_path).assets_done == 3
        assert status(tmp_path).state == "complete"


def test_assets_that_a_run_with_another_selection_left_pending_do_not_hide_their_items(tmp_path):
    lines = [orjson.dumps(feature(f"i{n}", {"a": f"a{n}", "b": "b"})) for n in range(20)]
    (tmp_path / "items.ndjson").write_bytes(b"\n".join(lines))
    (tmp_path / "b").write_bytes(b"b")
    source, dest = str(tmp_path / "items.ndjson"), tmp_path / "m"
    with pytest.raises(StacpullError, match="--max-failures"):
        sync.mirror(
            source, dest, selection=Selection(assets="a"), options=Options(max_failures=0, concurrency=1)
        )
    assert sync.mirror(source, dest, selection=Selection(assets="b")).state == "complete"
    assert sync.status(dest).assets_pending > 0
    links = orjson.loads((dest / "c/collection.json").read_bytes())["links"]
    assert sum(link["rel"] == "item" for link in links) == 20
    for n in range(20):
        (tmp_path / f"a{n}").write_bytes(b"a")
    assert (sync.resume(dest).state, sync.retry(dest).state) == ("complete", "complete")
    for n in range(20):
        assets = orjson.loads((dest / f"c/i{n}/i{n}.json").read_bytes())["assets"]
        assert [asset["href"] for asset in assets.values()] == ["./a", "./b"]


def test_retry_fetches_assets_that_are_available_again(tmp_path, small_hub):
    dest, env = tmp_path / "mirror", environment(small_hub)

    def is_broken(request: RequestInfo) -> bool:
        return request.server != "api" and request.path.endswith("_B02.tif")

    small_hub.inject(is_broken, Status(404), times=10_000)
    first = run(mirror_of(small_hub.base_url, dest, "--json"), env)
    assert first.code == 1, first.err
    assert (first.report["assets_failed"], first.report["assets_missing"]) == (SMALL, SMALL)
    name = f"{SOURCE}_{small_hub.dataset.name(0)}"
    document = dest / SOURCE / name / f"{name}.json"
    href = orjson.loads(document.read_bytes())["assets"]["B02"]["href"]
    assert href.startswith(small_hub.base_url + "/download/")

    small_hub.clear_faults()
    retried = run(["retry", str(dest), "--config", mirror_of("", dest)[-1], "--json"], env)
    assert retried.code == 0, retried.err
    assert (retried.report["state"], retried.report["assets_failed"]) == ("complete", 0)
    assert not damage(dest, expected_files(small_hub.dataset, range(SMALL)))
    asset = orjson.loads(document.read_bytes())["assets"]["B02"]
    assert (document.parent / asset["href"]).resolve().name == f"{small_hub.dataset.name(0)}_B02.tif"
    assert asset["href"].startswith("../../bigearthnet/")
    assert asset["alternate"]["origin"]["href"].startswith(small_hub.base_url)
    assert run(["failures", str(dest), "--json"], env).out == ""


@pytest.fixture
def held_hub(small_hub: MlhubReplica) -> MlhubReplica:
    """Of each patch one file does not come to its end, until the faults are cleared."""
    small_hub.inject(lambda request: request.path.endswith("_B12.tif"), Stall(after=10, seconds=60), 10_000)
    return small_hub


def test_a_run_keeps_others_out_of_dest_and_lets_status_in_until_its_kill(tmp_path, held_hub):
    dest, env = tmp_path / "mirror", environment(held_hub)
    seen, mirror = [], mirror_of(held_hub.base_url, dest)
    with Running(mirror, env) as process:
        assert wait_until(lambda: any(dest.rglob("*.tif")))
        for second in (mirror, ["retry", str(dest)]):
            status, refused = run(["status", str(dest), "--json"], env), run(second, env)
            assert (status.code, refused.code) == (0, 5), (status.err, refused.err)
            seen.append(status.report)
            said = f"Process {process.pid}, or one that it started, is using {dest}"
            assert said in refused.sentences[-1]
        assert process.signal(signal.SIGKILL)
    after = run(["status", str(dest), "--json"], env).report
    plain = run(["status", str(dest)], env)
    assert {(report["state"], report["live"]) for report in seen} == {("running", True)}
    done = [report["assets_done"] for report in [*seen, after]]
    assert done == sorted(done)
    assert done[-1] > 0
    for report in [*seen, after]:
        assert report["assets_planned"] == sum(report[name] for name in INVARIANT)
    assert (after["state"], after["live"]) == ("interrupted", False)
    assert f"resume {dest}" in plain.out
    held_hub.clear_faults()
    assert run(mirror, env).code == 0  # a dead process holds nothing
    assert not damage(dest, expected_files(held_hub.dataset, range(SMALL)))


def test_another_layout_on_a_finished_mirror_is_for_new_files(tmp_path: Path) -> None:
    events = list[Any]()
    with SmallApi({"c": ["1", "2", "3"]}) as api:
        api.items = {"c": ["1", "2"]}
        sync.mirror(api.url("/collections/c"), tmp_path)
        api.items["c"].append("3")
        options = Options(layout="flat/{item}_{key}{ext}")
        for source in ("/collections/c", "/collections/c", "/collections/c/items"):
            sync.mirror(api.url(source), tmp_path, options=options, on_event=events.append)
        layouts, sources = warnings(events)
        expected = "New files get the layout flat/{item}_{key}{ext}. Existing files keep their paths."
        assert layouts == expected
        assert sources == f"DEST also contains items from {api.url('/collections/c')}; they are kept."
    assert sync.verify(tmp_path).exit_code == 0
    assert sorted(name for name in files_in(tmp_path) if not name.endswith(".json")) == [
        "c/1/data",
        "c/2/data",
        "flat/3_data",
    ]


def test_assets_of_a_file_that_was_signed_again_are_fetched(tmp_path: Path) -> None:
    """The ledger has no signatures, and the item no URL: only SOURCE states where its assets are."""
    source, options = tmp_path / "items.ndjson", Options(retries=0, allow_private_hosts=True)

    def asset(request: Any) -> Answer:
        return Answer(403) if "Signature=old" in request.url else Answer(body=b"data")

    with SmallApi({"c": ["i"]}, asset=asset) as api:

        def sign(signature: str) -> None:
            href = api.url(f"/assets/c/i?X-Amz-Signature={signature}")
            source.write_bytes(orjson.dumps(feature("i", {"data": href})))

        sign("old")
        reports = [sync.mirror(source, tmp_path / "m", options=options)]
        sign("new")
        reports.append(sync.retry(tmp_path / "m", options=options))
        reports.append(sync.mirror(source, tmp_path / "m", options=options))
    assert [(one.assets_done, one.assets_failed) for one in reports] == [(0, 1), (0, 1), (1, 0)]
