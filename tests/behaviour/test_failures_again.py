"""What fails, which of it the next run tries again, and what commands say about a mirror that lacks files."""

import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.acceptance.command import Running, environment, run
from tests.items import feature
from tests.net.memory import Answer, Fault
from tests.net.wire_server import ReceivedRequest, WireServer, json_answer
from tests.ran import Ran
from tests.serving import serving_files

from stacpull import Options, sync
from stacpull.events import AssetFailed, Event

COUNT = 4


class Host(WireServer):
    """Answers each asset `/a/N` with its status, 200 by default; 0: the body is cut off."""

    def __init__(self) -> None:
        super().__init__({})
        self.statuses: dict[str, int] = {}
        self.is_silent = False

    def requested(self) -> list[str]:
        return [request.target for request in self.requests]

    def _turn(self, request: ReceivedRequest) -> Answer:
        if self.is_silent:
            return Answer(fault=Fault.CLOSED)
        if request.target == "/a/error":
            return Answer(200, b'{"error": "over quota"}', {"Content-Type": "application/json"})
        status = self.statuses.get(request.target, 200)
        is_item = request.target.startswith("/source")
        body = json.dumps(feature(request.target[1:])).encode() if is_item else b"data"
        return Answer(status or 200, body, fault=None if status else Fault.TRUNCATED)


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as server:
        yield server


@pytest.fixture
def mirror(host: Host, tmp_path: Path) -> list[str]:
    items = [feature(f"i{number}", {"data": host.url(f"/a/{number}")}) for number in range(COUNT)]
    (tmp_path / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
    patience = ["--retries", "0", "--allow-private-hosts", "--json"]
    return ["mirror", str(tmp_path / "items.ndjson"), str(tmp_path / "m"), *patience]


def report(host: Host, command: list[str]) -> dict[str, Any]:
    host.requests.clear()
    return run(command, environment()).report


@pytest.mark.parametrize("status", [500, 0])
def test_a_run_tries_again_once_what_failed_in_passing(host: Host, mirror: list[str], status: int) -> None:
    host.statuses = {"/a/0": status, "/a/1": 404, "/a/2": 403}
    refused = run(mirror[:3], environment())
    assert "at private addresses; the message says why\n" in refused.out
    assert f"to retry:    stacpull retry {mirror[2]}\n" in refused.out
    assert report(host, mirror)["assets_failed"] == 3
    assert report(host, mirror)["assets_failed"] == 3
    assert host.requested() == ["/a/0"]
    plan = report(host, ["plan", *mirror[1:3], "--allow-private-hosts", "--json"])
    assert (plan["assets"], plan["assets_done"], plan["assets_pending"]) == (COUNT, 1, 1)
    host.statuses = {}
    assert report(host, mirror)["assets_failed"] == 2
    assert host.requested() == ["/a/0"]
    assert report(host, mirror)["assets_failed"] == 2
    assert host.requested() == []
    assert report(host, ["retry", *mirror[2:]])["assets_failed"] == 0
    assert sorted(host.requested()) == ["/a/1", "/a/2"]


def test_an_error_in_json_does_not_become_the_content_of_an_image(host: Host, mirror: list[str]) -> None:
    asset = {"href": host.url("/a/error"), "type": "image/tiff"}
    Path(mirror[1]).write_text(json.dumps(feature("i", assets={"data": asset})))
    assert report(host, mirror)["assets_failed"] == 1


def test_plan_counts_the_assets_that_mirror_requests_again(host, mirror, tmp_path):
    report(host, mirror)
    source, dest = Path(mirror[1]), tmp_path / "m"
    items = [json.loads(line) for line in source.read_text().splitlines()]
    items[1]["properties"]["updated"] = "2030-01-01T00:00:00Z"
    items[2]["assets"]["data"]["file:size"] = len(b"data") + 1
    next(dest.glob("c/i3/data*")).unlink()
    source.write_text("".join(json.dumps(item) + "\n" for item in items))
    plan = report(host, ["plan", *mirror[1:3], "--allow-private-hosts", "--json"])
    assert (plan["assets"], plan["assets_done"], plan["assets_pending"]) == (COUNT, 1, 3)
    again = report(host, mirror)
    assert again["assets_skipped"] == plan["assets_done"]
    assert set(host.requested()) == {"/a/1", "/a/2", "/a/3"}
    done = report(host, ["plan", *mirror[1:3], "--allow-private-hosts", "--json"])
    assert (done["assets_pending"], done["requests"]) == (0, plan["requests"] - 3)


def asset(top: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((top / "m/c/i0/i0.json").read_text())["assets"]["data"]
    return found


@pytest.mark.parametrize("status", [404, 500])
def test_the_version_in_dest_stays_in_the_catalog_and_in_exports(host, mirror, tmp_path, status):
    """It is described as it is: a new version, which failed, has another size and checksum."""
    report(host, [*mirror, "--items-parquet"])
    before, new = asset(tmp_path), {"file:size": 5, "file:checksum": f"1220{'0' * 64}"}
    item = feature("i0", assets={"data": {"href": host.url("/a/0")} | (new if status == 500 else {})})
    Path(mirror[1]).write_text(json.dumps(item))
    host.statuses = {"/a/0": status}
    ran = run([*mirror, "--revalidate"], environment())
    assert (ran.code, ran.report["assets_failed"], ran.report["assets_kept"]) == (1, 1, 1)
    assert "; 1 of them kept in an earlier version" in ran.err
    assert asset(tmp_path) == before | {"alternate": {"origin": item["assets"]["data"]}}
    rows = pq.read_table(tmp_path / "m/items.parquet").to_pylist()
    assert "./c/i0/data" in [row["assets"]["data"]["href"] for row in rows]
    assert run(["export", f"{tmp_path}/m", f"{tmp_path}/shards", "-f", "webdataset"], environment()).code == 0
    with tarfile.open(next((tmp_path / "shards").glob("*.tar"))) as shard:
        assert "i0.data.bin" in shard.getnames()
    counts = run(["status", str(tmp_path / "m"), "--json"], environment()).report
    assert (counts["assets_done"], counts["assets_failed"], counts["assets_kept"]) == (COUNT - 1, 1, 1)
    assert run(["verify", str(tmp_path / "m")], environment()).code == 0
    host.statuses = {}
    assert report(host, ["retry", *mirror[2:]])["assets_kept"] == (status == 500)  # it is not that version


def test_what_failed_before_does_not_stop_a_mirror_before_it_reaches_new_items(host, mirror, tmp_path):
    host.statuses = {"/a/0": 0, "/a/1": 500, "/a/9": 0}
    limited = [*mirror, "--max-failures", "0", "--concurrency", "1"]
    report(host, mirror)
    for number, states in ((8, ["complete"]), (9, ["failed", "complete"])):
        with (tmp_path / "items.ndjson").open("a") as items:
            items.write(json.dumps(feature(f"i{number}", {"data": host.url(f"/a/{number}")})) + "\n")
        assert [report(host, limited)["state"] for _ in states] == states


def test_a_damaged_or_lost_file_that_cannot_be_fetched_is_not_listed(host, mirror, tmp_path):
    report(host, mirror)
    host.statuses = {"/a/0": 404}
    (file := tmp_path / asset(tmp_path)["href"].replace("./", "m/c/i0/")).write_bytes(b"odd!")
    for command in (["verify", "--repair"], ["retry"], ["mirror", mirror[1], "--revalidate"]):
        ran = run([*command, *mirror[2:3], "--allow-private-hosts", "--json"], environment())
        assert (ran.code, asset(tmp_path)["href"]) == (1, host.url("/a/0")), command
        assert run(["verify", mirror[2]], environment()).code == 1
    file.unlink()
    assert [report(host, mirror)["files_lost"] for _ in range(2)] == [1, 0]
    assert (asset(tmp_path)["href"], run(["verify", mirror[2]], environment()).code) == (host.url("/a/0"), 0)


def test_plan_counts_a_refused_signed_url_that_mirror_requests_again(host: Host, mirror: list[str]) -> None:
    host.statuses = {(signed := "/a/9?sig=SIGNATURE"): 403}
    Path(mirror[1]).write_text(json.dumps(feature("i", {"data": host.url(signed)})))
    assert report(host, mirror)["assets_failed"] == 1
    assert report(host, ["plan", *mirror[1:3], "--allow-private-hosts", "--json"])["assets_pending"] == 1


def test_sources_take_turns_in_retries_which_report_only_their_own_assets(host, mirror, tmp_path):
    host.statuses = {"/a/0": 404, "/a/9": 404}
    report(host, mirror)
    Path(mirror[1]).with_name("other.ndjson").write_text(json.dumps(feature("j", {"data": host.url("/a/9")})))
    report(host, [mirror[0], str(tmp_path / "other.ndjson"), *mirror[2:]])
    for number, item in [("9", "j"), ("0", "i0"), ("9", "j")]:
        host.requests.clear()
        events = list[Event]()
        options = Options(retries=0, allow_private_hosts=True)
        sync.retry(mirror[2], options=options, on_event=events.append)
        assert host.requested() == [f"/a/{number}"]
        assert [event.item.item for event in events if isinstance(event, AssetFailed)] == [item]


@pytest.mark.parametrize("command", ["mirror", "resume"])
def test_a_stopped_run_reads_source_items_and_signed_urls_again(host, mirror, command):
    items = [feature(f"i{n}", {"data": host.url(f"/a/{n}?sig=SIGNATURE")}) for n in range(20)]
    items[0]["links"] = [{"rel": "source", "href": host.url("/source")}]
    Path(mirror[1]).write_text("".join(json.dumps(item) + "\n" for item in items))
    host.statuses = {"/a/1?sig=SIGNATURE": 500, "/source": 500}
    stopped = report(host, [*mirror, "--max-failures", "0", "--concurrency", "1"])
    assert stopped["assets_pending"] > 0
    host.statuses = {f"/a/{number}": 403 for number in range(20)}
    ran = report(host, mirror if command == "mirror" else ["resume", *mirror[2:]])
    assert (ran["assets_done"], ran["assets_failed"], ran["items_failed"]) == (20, 0, 0)
    assert len(host.requested()) - 1 == 20 - stopped["assets_done"] == 20 - ran["assets_skipped"]


@pytest.mark.parametrize("command", ["mirror", "resume"])
def test_the_run_after_an_outage_reads_the_source_items_that_it_kept_back(host, mirror, command):
    items = [feature(f"i{n}", {"data": host.url(f"/a/{n}")}) for n in range(40)]
    for number, item in enumerate(items):
        item["links"] = [{"rel": "source", "href": host.url(f"/source{number}")}]
    Path(mirror[1]).write_text("".join(json.dumps(item) + "\n" for item in items))
    host.is_silent = True
    ran = run([*mirror, "--stall-timeout", "0.25"], environment())
    assert (ran.code, ran.report["items_failed"], ran.report["assets_pending"]) == (4, 40, 40)
    host.is_silent = False
    again = report(host, mirror if command == "mirror" else ["resume", *mirror[2:]])
    assert (again["exit_code"], again["source_items"], again["items_failed"]) == (0, 40, 0)


def test_plan_counts_an_item_that_cannot_be_read_once(host: Host, mirror: list[str]) -> None:
    items = [feature(f"i{number}", {}) for number in range(150)]  # more than are planned at once
    for item in items:
        item["links"] = [{"rel": "source", "href": host.url("/collections/c/items/lost")}]
    host.statuses = {"/collections/c/items/lost": 404}
    Path(mirror[1]).write_text("".join(json.dumps(item) + "\n" for item in items))
    planned = report(host, ["plan", mirror[1], "--allow-private-hosts", "--json"])
    assert (planned["items_failed"], len(host.requests)) == (1, 1)


def test_retry_ordered_requests_only_what_was_not_ready(host, mirror, tmp_path):
    host.statuses = {"/a/0": 202, "/a/1": 500, "/a/2": 404}
    assert report(host, mirror)["assets_failed"] == 3
    document = next((tmp_path / "m").glob("c/i3/i3.json"))
    document.write_bytes(b"{}")  # a repair would read the item again
    (tmp_path / "other.json").write_text(json.dumps(feature("o", {"data": host.url("/a/1")})))
    report(host, ["mirror", str(tmp_path / "other.json"), *mirror[2:]])  # nothing of it is ordered
    host.statuses = {}
    report(host, ["retry", "--ordered", *mirror[2:]])
    assert host.requested() == ["/a/0"]
    assert run(["status", str(tmp_path / "m"), "--json"], environment()).report["assets_failed"] == 3


def test_retries_and_repairs_take_only_assets_of_their_source(tmp_path: Path) -> None:
    """The file may not name private addresses, and its assets do not get the key of the other source."""
    dest, allowed, key = str(tmp_path / "m"), ["--allow-private-hosts"], ["--header", "X-Key: k"]
    files = {"/b.bin": [Answer(404), Answer(body=b"b")], "/a.bin": [Answer(body=b"a")]}
    with WireServer({"/b.json": [json_answer(feature("b", {"x": "/b.bin"}))], **files}) as host:
        (tmp_path / "a.ndjson").write_text(json.dumps(feature("a", {"x": host.url("/a.bin")})))
        for mirrored in ([str(tmp_path / "a.ndjson"), dest], [host.url("/b.json"), dest, *key]):
            assert run(["mirror", *mirrored], environment()).code == 1
        ran = run(["retry", dest, *key, "--json"], environment())
        assert (ran.code, ran.report["assets_done"], ran.report["assets_failed"]) == (1, 1, 1)
        assert run(["retry", dest, *allowed], environment()).code == 0
        (tmp_path / "m/c/a/a.json").write_bytes(b"{}")  # without a URL, it stays damaged
        (tmp_path / "m/c/b/x.bin").write_bytes(b"damaged")
        ran = run(["verify", dest, "--repair", *key, "--json"], environment())
        assert ran.report["remaining"] == 1
        assert run(["mirror", str(tmp_path / "a.ndjson"), dest, *allowed], environment()).code == 0
        for file in tmp_path.glob("m/c/*/x.bin"):
            file.write_bytes(b"damaged")
        codes = [run(["verify", dest, "--repair", *given], environment()).code for given in (allowed, key)]
        assert codes == [1, 0]
    keys = {(request.target, request.headers.get("x-key")) for request in host.requests}
    assert keys == {("/a.bin", None), ("/b.json", "k"), ("/b.bin", "k")}


def test_a_finished_run_counts_its_own_selection_and_status_names_the_unfinished_one(host, mirror, tmp_path):
    items = [feature(f"i{n}", {"a": host.url(f"/a/{n}"), "b": host.url(f"/b/{n}")}) for n in range(COUNT)]
    (tmp_path / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
    host.statuses = {f"/b/{n}": 500 for n in range(COUNT)}
    assert run([*mirror, "--max-failures", "0", "--concurrency", "1"], environment()).code == 1
    narrower = report(host, [*mirror, "--exclude-asset", "b"])
    assert (narrower["state"], narrower["items_done"]) == ("complete", COUNT)
    shown = run(["status", mirror[2], "--json"], environment()).report
    assert (shown["state"], shown["run"], shown["assets_pending"] > 0) == ("failed", 2, True)
    assert shown["reason"].startswith("run 1 is unfinished: Stopped after")
    assert shown["rate"] * narrower["seconds"] == pytest.approx(narrower["bytes_fetched"], rel=0.1)
    host.statuses = {}
    assert report(host, ["resume", *mirror[2:]])["items_done"] == COUNT
    assert run(["status", mirror[2], "--json"], environment()).report["reason"] is None


def test_plan_and_verify_of_a_mirror_whose_files_are_all_gone(host, mirror, tmp_path):
    host.statuses = {f"/a/{number}": 404 for number in range(COUNT)}
    report(host, mirror)
    planned = run(["plan", *mirror[1:3], "--allow-private-hosts"], environment())
    assert ("to do    0; 0 already in" in planned.out, "no assets" in planned.err) == (True, False), planned
    ran = run(["verify", str(tmp_path / "m")], environment())
    assert (ran.code, "; 4 missing from the source" in ran.out) == (0, True)
    host.statuses = {}
    run(["retry", str(tmp_path / "m"), "--allow-private-hosts"], environment())
    assert "incomplete" not in run(["verify", str(tmp_path / "m")], environment()).out


def test_a_run_that_stops_while_it_lists_says_at_least(host: Host, mirror: list[str], tmp_path: Path) -> None:
    lines = (tmp_path / "items.ndjson").read_text().splitlines()
    more = [lines[0].replace('"i0"', f'"more-{number}"') for number in range(30_000)]
    (tmp_path / "items.ndjson").write_text("\n".join(lines + more) + "\n")
    host.statuses = {"/a/0": 500}
    assert run([*mirror, "--max-failures", "1", "--concurrency", "1"], environment()).code != 0
    assert "at least" in run(["status", str(tmp_path / "m")], environment()).out


@pytest.fixture
def command(tmp_path: Path) -> Callable[[str], Ran]:
    for key in ("x", "y"):
        (tmp_path / key).write_text(key)
    (tmp_path / "item.json").write_text(json.dumps(feature("i", {"x": "./x", "y": "./y"})))
    of_mirror = {"mirror": ["mirror", str(tmp_path / "item.json")]}
    return lambda name: run([*of_mirror.get(name, name.split()), f"{tmp_path}/m", "--json"], environment())


def test_status_names_failures_although_many_files_are_gone(tmp_path: Path) -> None:
    hrefs = {"bad": "ftp://h.example/x", **{f"gone{n}": f"./gone{n}" for n in range(6)}}
    (tmp_path / "item.json").write_text(json.dumps(feature("i", hrefs)))
    ran = run(["mirror", str(tmp_path / "item.json"), str(tmp_path / "m")], environment())
    assert (ran.code, "its href begins with ftp:" in ran.out) == (1, True)
    lines = run(["status", str(tmp_path / "m")], environment()).out.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("  failed ")] == ["bad:"]


@pytest.mark.parametrize("mending", ["mirror", "retry"])
def test_all_commands_agree_that_item_json_could_not_be_written(command, tmp_path, mending):
    mine = tmp_path / "m/c/i/i.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    why = "c/i/i.json exists and is not part of this mirror: move it away, then run `stacpull retry DEST`"
    for name in ("mirror", "retry", "mirror", "retry"):
        ran = command(name)
        assert (ran.code, ran.report["items_failed"], ran.err.count(f"for example: {why}")) == (1, 1, 1)
        assert "  failed   1 blocked by another file; the message says what to do\n" in ran.err
        assert f"to retry:    stacpull retry {tmp_path}/m\n" in ran.err
        failed, status = command("failures").report, command("status").report
        assert (failed["item"], failed["key"], failed["message"].startswith(why)) == ("i", "", True)
        assert (status["items_failed"], status["items_done"], status["last_errors"]) == (1, 0, [failed])
    assert "; 1 item failed" in run(["verify", str(tmp_path / "m")], environment()).out
    assert mine.read_text() == "mine"
    mine.unlink()
    assert (command(mending).code, command("failures").out) == (0, "")
    assert json.loads(mine.read_text())["id"] == "i"
    assert command("status").report["items_done"] == 1


def test_a_retry_says_why_it_cannot_try_an_asset_again(command: Callable[[str], Ran], tmp_path: Path) -> None:
    run(["mirror", str(tmp_path / "item.json"), f"{tmp_path}/m", "--layout", "{item}"], environment())
    ran = command("retry")
    assert (ran.code, "0 of 1 retried" in ran.err) == (1, True)
    assert "  failed   1 with a name that is taken" in ran.err


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/x").write_text("x")
    (tmp_path / "site/item.json").write_text(json.dumps(feature("other", {"x": "./x"})))
    return tmp_path / "site"


@pytest.mark.parametrize("is_served", [True, False])
@pytest.mark.parametrize(("mending", "failed"), [("retry", 1), ("verify --repair", 0)])
def test_what_is_mended_follows_the_rules_of_its_own_source(command, site, is_served, mending, failed):
    (site.parent / "item.json").write_text(json.dumps([feature("i", {"y": "./y"}), "not an item"]))
    with serving_files(site) as url:
        if failed:
            (site / "x").unlink()
        source = f"{url if is_served else site}/item.json"
        assert run(["mirror", source, f"{site.parent}/m"], environment()).code == failed
        assert command("mirror").code == 1
        (site / "x").write_text("x")
        (arrived := site.parent / "m/c/other/x").unlink(missing_ok=True)
        ran = command(mending)
    assert (ran.code, arrived.read_text()) == (0, "x"), ran.err


def test_a_repair_whose_source_is_gone_says_what_is_damaged(command, site):
    with serving_files(site) as url:
        assert run(["mirror", f"{url}/item.json", f"{site.parent}/m"], environment()).code == 0
        (site / "item.json").unlink()
        (site.parent / "m/c/other/x").unlink()
        assert ((ran := command("verify --repair")).code, ran.report["missing"]) == (4, 1)
        assert "exit 4: " in command("status").report["last_attempt"]
        ran = run(["verify", "--repair", f"{site.parent}/m"], environment())
    assert "/m: 1 file damaged (1 missing)" in ran.out
    assert f"to repair:   stacpull verify --repair {site.parent}/m" in ran.out


@pytest.mark.parametrize("mending", ["mirror", "retry", "verify --repair"])
def test_json_that_someone_has_changed_fails_until_it_is_replaced(command, tmp_path, mending):
    (tmp_path / "y").rename(tmp_path / "elsewhere")
    assert command("mirror").report["assets_failed"] == 1
    (tmp_path / "elsewhere").rename(tmp_path / "y")
    changed = tmp_path / "m/c/i/i.json"
    changed.write_text(changed.read_text().replace('"i"', '"other"'))
    assert command("retry").report["items_failed"] == command("verify").report["altered"] == 1
    assert command("failures").report["message"].startswith("c/i/i.json was changed or cannot be read")
    assert (command(mending).code, command("failures").out) == (0, "")
    assert json.loads(changed.read_text())["id"] == "i"


LIMITED = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20,) * 2); "
LIMITED += "os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize("is_local", [True, False], ids=["four connections", "one connection"])
def test_a_file_that_dest_cannot_store_fails_and_all_others_arrive(tmp_path: Path, is_local: bool) -> None:
    names = ["long", *map(str, range(60))]
    for name in names:
        (tmp_path / name).write_text(name)
    os.truncate(tmp_path / "long", 90 << 20)

    def limited(*arguments: str) -> Ran:
        under = (sys.executable, "-c", LIMITED)
        with Running([*arguments, "--json"], environment(), tmp_path, under=under, forked=False) as command:
            return command.ended()

    with serving_files(tmp_path) as url:
        items = [feature(name, {"data": name if is_local else f"{url}/{name}"}) for name in names]
        (tmp_path / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
        for command in (["mirror", "items.ndjson"], ["retry"]):
            ran = limited(*command, "m", "--allow-private-hosts")
            assert (ran.code, ran.report["state"], ran.report["assets_failed"]) == (1, "complete", 1)
            failure = run(["failures", "m", "--json"], environment(), tmp_path).report
            assert (failure["item"], failure["kind"]) == ("long", "overlong")
    assert {path.read_text() for path in tmp_path.glob("m/c/*/data")} == {*names} - {"long"}
    assert list((tmp_path / "m/.stacpull/parts").iterdir()) == []


def test_a_source_item_that_no_item_links_to_any_more_is_no_failure(command, tmp_path):
    alone = (tmp_path / "item.json").read_text()
    linked = json.dumps({**json.loads(alone), "links": [{"rel": "source", "href": "./s.json"}]})
    for text, failed in ((linked, 1), (alone, 0), (linked, 1)):
        (tmp_path / "item.json").write_text(text)
        ran, status = command("mirror"), command("status").report
        assert (ran.code, ran.report["items_failed"]) == (failed, failed)
        assert (status["items_failed"], status["items_done"]) == (failed, 1 - failed)
        assert (command("failures").out == "") is not bool(failed)
    (tmp_path / "s.json").write_text(json.dumps(feature("s", {})))
    assert (command("mirror").code, command("failures").out) == (0, "")
    assert (tmp_path / "m/c/s/s.json").exists()


def test_a_failure_is_forgotten_once_its_asset_is_no_longer_listed(command, tmp_path):
    def listed(keys: str, source: str = "item.json", *options: str, **more: object) -> int:
        (tmp_path / source).write_text(json.dumps(feature("i", {key: f"./{key}" for key in keys}) | more))
        run(["mirror", str(tmp_path / source), f"{tmp_path}/m", *options], environment())
        return command("status").report["assets_failed"]

    assert (listed("ab"), listed("c", "other.json"), listed("", assets=[])) == (2, 3, 4)
    assert command("status").report["sources"] == 2
    assert (listed("a", "item.json", "--exclude-asset", "a"), listed("", "other.json")) == (1, 0)
    assert command("failures").out == ""


def test_a_retry_reads_a_source_item_again_that_also_lacks_a_file(command, tmp_path):
    links, source = [{"rel": "source", "href": "./s.json"}], json.dumps(feature("s", {"z": "./z"}))
    (tmp_path / "item.json").write_text(json.dumps(feature("i", {"x": "./x"}, links=links)))
    for text in (source, "not an item"):
        (tmp_path / "s.json").write_text(text)
        assert command("mirror").code == 1
    (tmp_path / "s.json").write_text(source)
    (tmp_path / "z").write_text("z")
    assert (command("retry").code, command("failures").out) == (0, "")
    assert command("status").report["items_done"] == 1


def test_an_earlier_version_is_not_judged_by_the_size_of_the_new_one(command, tmp_path):
    assert command("mirror").code == 0
    file = (tmp_path / "m/c/i/x").rename(tmp_path / "moved")
    (tmp_path / "m/c/i/x").symlink_to(file)
    (tmp_path / "x").write_text("a longer version")
    (tmp_path / "item.json").write_text(json.dumps(feature("i", {"x": "./x"}, changed=True)))
    assert command("mirror").report["assets_failed"] == 1
    file.replace(tmp_path / "m/c/i/x")
    assert command("verify --quick").code == 0
    assert (command("retry").code, (tmp_path / "m/c/i/x").read_text()) == (0, "a longer version")
