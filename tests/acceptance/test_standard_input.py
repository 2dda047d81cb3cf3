"""Standard input as SOURCE, and SOURCE and DEST as paths relative to where the command is started."""

import gzip
import itertools
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.acceptance.command import COMMAND, environment, run, wait_until
from tests.events import warnings
from tests.items import feature

from stacpull import Options, Selection, SourceError, sync
from stacpull.engine.item_input import input_path, read_input, store_input

Given = Callable[[str], int]

ITEM = feature("a")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Given]:
    path = tmp_path / "given"
    path.touch()
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)

        def give(text: str) -> int:
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            return path.write_text(text)

        yield give


def test_dest_may_be_relative(given: Given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here, dest = tmp_path / "here", "../be side/out"
    here.mkdir()
    monkeypatch.chdir(here)
    given(json.dumps(ITEM | {"assets": {}}))
    assert sync.mirror("-", dest).state == "complete"
    assert sync.retry(dest).state == "complete"
    assert sync.verify(dest).remaining == 0
    (here / "items.ndjson").write_text(json.dumps(ITEM | {"id": "b", "assets": {"x": {"href": "./b.bin"}}}))
    (here / "b.bin").write_bytes(b"content")
    ran = run(["mirror", "items.ndjson", dest, "--json"], environment(), here)
    assert (ran.code, ran.report["assets_done"]) == (0, 1), ran.err
    assert run(["retry", dest], environment(), here).code == 0
    assert (here / dest / "c" / "b" / "x.bin").read_bytes() == b"content"


EMPTY = ("[]", '{"type":"FeatureCollection","features":[]}')


@pytest.mark.parametrize(
    ("name", "text"), [*itertools.product(("-", "l.ndjson", "l.json"), EMPTY), ("-", "\n"), ("l.ndjson", "")]
)
def test_an_empty_search_result_is_not_a_failure(given: Given, tmp_path: Path, name: str, text: str) -> None:
    given(text)
    source = name if name == "-" else str(tmp_path / name)
    (tmp_path / name.replace("-", "given")).write_text(text)
    events: list[object] = []
    report = sync.mirror(source, str(tmp_path / "m"), on_event=events.append)
    assert (report.exit_code, report.items_seen, report.items_failed) == (0, 0, 0)
    assert any(one.startswith("Nothing matched") for one in warnings(events))
    given(text)
    assert sync.plan(source).items_seen == 0


def test_a_long_string_takes_linear_time(tmp_path: Path) -> None:
    item = ITEM | {"note": "x" * 4_000_000, "assets": {"a": {"href": "https://u:secret@a.example/b"}}}
    started = time.process_time()
    name = store_input(tmp_path, read_input([item], lambda: False))
    assert time.process_time() - started < 4
    stored = (input_path(tmp_path, name) or tmp_path).read_bytes()
    assert len(stored) > 4_000_000


def test_the_name_of_gzipped_input_does_not_depend_on_signatures(tmp_path: Path) -> None:
    line = json.dumps(
        ITEM | {"assets": {"a": {"href": "https://a.example/b?X-Amz-Signature=secret"}}}
    ).encode()
    name = store_input(tmp_path, [gzip.compress(line)])
    assert name == store_input(tmp_path, [line.replace(b"?X-Amz-Signature=secret", b"")])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_plan_can_be_stopped_before_standard_input_ends(number: signal.Signals) -> None:
    receiver, sender = os.pipe()
    with open(receiver, "rb") as given, open(sender, "wb", buffering=0) as giver:  # noqa: PTH123 - descriptors
        giver.write(json.dumps(ITEM).encode())
        command = [str(COMMAND), "plan", "-"]
        with subprocess.Popen(command, stdin=given, env=environment(), stderr=subprocess.PIPE) as process:
            try:
                assert wait_until(lambda: not select.select([given], [], [], 0)[0])
                process.send_signal(number)
                _, reported = process.communicate()
            finally:
                process.kill()
    assert (process.returncode, reported.splitlines()[-1]) == (130, b"stacpull: Interrupted.")


@pytest.mark.parametrize(
    ("href", "why"),
    [
        ("./x.tif", "its href is a path, and its item has no URL: use a file with"),
        ("{}/x.tif", "use a file with"),
    ],
)
def test_a_local_file_on_standard_input_is_named(given: Given, tmp_path: Path, href: str, why: str) -> None:
    given(json.dumps(ITEM | {"assets": {"x": {"href": href.format(tmp_path)}}}))
    report = sync.mirror("-", tmp_path / "m", options=Options(allow_local=str(tmp_path)))
    assert report.assets_failed == 1
    (failure,) = sync.failures(tmp_path / "m")
    assert f"{why} the items as SOURCE" in failure.message


def test_a_line_that_is_not_an_item_is_reported_with_its_number(given: Given, tmp_path: Path) -> None:
    given(json.dumps(ITEM) + '\n{"id": broken\n{"type": "Feature"}\n')
    events: list[object] = []
    sync.mirror("-", str(tmp_path / "m"), on_event=events.append)
    warned = [text for text in warnings(events) if "cannot be read" in text]
    assert warned == ["2 entries of SOURCE cannot be read. The first: line 2 of the input: not valid JSON."]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("l.ndjson", "no\n" * 5000, "line 1 of {}: not valid JSON."),
        ("f.json", '{"features": [{}]}', "feature 1 of {}: not an item with an id."),
    ],
)
def test_a_source_without_a_valid_item_cannot_be_read(tmp_path, name, content, sentence):
    source = tmp_path / name
    source.write_text(content)
    expected = f"stacpull: SOURCE has no valid item: {sentence.format(source.as_uri())}"
    for command in (["mirror", name, "m"], ["plan", name], ["-q", "mirror", name, "q"]):
        ran = run([*command, "--no-progress"], environment(), cwd=tmp_path)
        assert (ran.code, ran.err.splitlines()) == (4, [expected])
    (tmp_path / "one.ndjson").write_text(json.dumps({**ITEM, "collection": None}) + "\n{bad")
    assert run(["mirror", "one.ndjson", "o", "-C", "c"], environment(), cwd=tmp_path).code == 1


@pytest.mark.parametrize("document", [ITEM, [ITEM]])
def test_an_indented_document_is_not_read_as_lines(given: Given, tmp_path: Path, document: object) -> None:
    text = json.dumps(document, indent=2)
    (tmp_path / "l.ndjson").write_text(text)
    given(text)
    for source in ("-", str(tmp_path / "l.ndjson")):
        dest = tmp_path / f"m{len(source)}"
        with pytest.raises(SourceError, match=r"is not NDJSON.*needs a file name that ends with \.json\.$"):
            sync.mirror(source, dest)
        assert not list(sync.failures(dest))


def test_entries_that_cannot_be_read_cause_one_warning(tmp_path: Path) -> None:
    source = tmp_path / "l.ndjson"
    source.write_text("no\n" * 500 + json.dumps(ITEM | {"assets": {}}) + "\n")
    ran = run(["-q", "mirror", str(source), str(tmp_path / "m")], environment())
    assert (ran.code, ran.err.count("cannot be read")) == (1, 1), ran.err
    assert f"\nfor details: stacpull failures {tmp_path / 'm'}\n" in ran.err
    assert "500 entries of SOURCE cannot be read. The first: line 1 of" in ran.err


@pytest.mark.parametrize(
    ("name", "good", "bad", "places"),
    [
        ("l.ndjson", "{}\n", "{}\n{{broken\n[1, 2]\n", ["line 2", "item 1 of line 3", "item 2 of line 3"]),
        ("f.json", "[{}]", '[{}, 1, {{"id": ""}}]', ["feature 2", "feature 3"]),
    ],
)
def test_entries_that_are_not_items_are_failures_until_the_source_is_mended(
    tmp_path: Path, name: str, good: str, bad: str, places: list[str]
) -> None:
    source, dest = tmp_path / name, tmp_path / "m"
    source.write_text(bad.format(json.dumps(ITEM | {"assets": {}})))
    assert (report := sync.mirror(str(source), dest)).exit_code == 1
    assert report.items_failed == len(places)
    for _ in range(2):
        listed = list(sync.failures(dest))
        assert sorted(one.item for one in listed) == sorted(f"{one} of {source.as_uri()}" for one in places)
        assert {(one.collection, one.key, one.href) for one in listed} == {("", "", None)}
        assert sync.status(dest).items_failed == len(places)
        retried = sync.retry(dest)
        assert (retried.exit_code, retried.items_failed) == (1, len(places))
    source.write_text(good.format(json.dumps(ITEM | {"assets": {}})))
    assert sync.mirror(str(source), dest).exit_code == 0
    assert list(sync.failures(dest)) == []


@pytest.mark.parametrize(
    ("assets", "selection", "message"),
    [
        ({}, Selection(), "1 item matched, but there are no assets."),
        (
            {"a": {"href": "./a.bin"}},
            Selection(assets=("b",)),
            "the asset filters dropped every asset. Keys: a (one per --asset; case matters).",
        ),
        (
            {"a": {"href": "./a", "type": "text/html"}},
            Selection(),
            "left out: as a web page (--include-pages).",
        ),
    ],
)
def test_notices_if_there_is_nothing_to_fetch(tmp_path, assets, selection, message):
    source = tmp_path / "items.ndjson"
    source.write_text(json.dumps(ITEM | {"assets": assets}))
    events: list[object] = []
    how = {"selection": selection, "on_event": events.append}
    sync.mirror(str(source), str(tmp_path / "m"), **how)
    assert sync.plan(str(source), **how).assets == 0
    assert len([one for one in warnings(events) if one.endswith(message)]) == 2


def test_plan_names_a_path_that_a_layout_gives_to_several_items(tmp_path: Path) -> None:
    source = tmp_path / "items.ndjson"
    source.write_text("\n".join(json.dumps(ITEM | {"id": i, "assets": {"a": {"href": "./a"}}}) for i in "ij"))
    (tmp_path / "a").touch()
    events: list[object] = []
    for layout in ("{key}.bin", "{item}/{key}.bin", "{filename}"):
        sync.plan(source, options=Options(layout=layout), on_event=events.append)
    expected = "--layout gives several items the path a.bin: add {item} to it."
    assert warnings(events) == [expected]
