"""`--log-file` has a line for each request, without secrets."""

import re
from pathlib import Path

from tests.acceptance.command import stacpull

from stacpull_replicas import MlhubReplica, PlannedFaults, parse_faults, run_in_thread

LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z GET (\d{3}) (\d+) \d+ (\w+://\S+)( truncated)?")
FAULT = '[[fault]]\nkind = "object"\ntimes = 1\nwhat = "close"\nafter = 5\n'


def test_each_request_is_a_line_without_secrets(tmp_path: Path) -> None:
    log = tmp_path / "requests.log"
    options = ["-C", "bigearthnet_v1_labels", "--json", "--log-file", str(log), "--exclude-asset", "B10"]
    faults = PlannedFaults(parse_faults(FAULT))
    with run_in_thread(MlhubReplica(items=2, seed=3, key="planted-key", faults=faults)) as replica:
        source = f"{replica.base_url}?key=planted-key"
        report = stacpull("mirror", source, tmp_path / "m", *options, **replica.exports()).report
        stacpull("plan", f"{replica.base_url}/none?key=planted-key", "--log-file", tmp_path / "plan")
    assert re.search(r" 404 .*/none gone$", (tmp_path / "plan").read_text(), re.MULTILINE)
    lines = [LINE.fullmatch(line) for line in log.read_text().splitlines()]
    assert all(lines), log.read_text()
    found = [(int(line[1]), int(line[2])) for line in lines if line]
    assert len(found) == report["requests"]
    assert sum(size for _, size in found) == report["bytes_fetched"]
    assert {200, 303} <= {status for status, _ in found}
    assert sum(bool(line and line[4]) for line in lines) == 1
    assert not re.search("planted-key|sig=", log.read_text())


def test_missing_directories_are_created_and_what_is_in_the_way_or_full_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "items.ndjson").write_text("")
    for name, code, sentence in (
        ("new/deep/log", 0, ""),
        ("file/log", 5, f"{tmp_path}/file is not a directory, but one is needed"),
        (".", 5, f"{tmp_path} is a directory, but a file is needed"),
        ("/dev/full", 5, "The disk of /dev/full is full"),
    ):
        ran = stacpull("plan", tmp_path / "items.ndjson", "--log-file", tmp_path / name)
        assert (ran.code, sentence in ran.err) == (code, True), ran.err
    assert (tmp_path / "new" / "deep" / "log").read_text()


def test_all_collections_are_walked_so_that_no_source_item_is_read_twice(tmp_path: Path) -> None:
    with run_in_thread(MlhubReplica(items=20, seed=3, key="k")) as replica:
        stacpull("plan", f"{replica.base_url}?key=k", "--all-collections", "--log-file", tmp_path / "log")
    text = (tmp_path / "log").read_text()
    assert ("/items" in text, "/search" in text) == (True, False)
