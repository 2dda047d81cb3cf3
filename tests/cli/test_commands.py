import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Library, mirror_report
from tests.ran import Ran

from stacpull.config.options import Options
from stacpull.engine.source_contents import ClassInfo
from stacpull.errors import SourceError
from stacpull.events import AssetFailed, Notice, Progress
from stacpull.models import FailureKind, ItemId
from stacpull.reports import FailureRecord

Command = Callable[..., Ran]
BIGEARTHNET = str(Path(__file__).parents[2] / "configs" / "bigearthnet.toml")


def test_quiet_prints_warnings_and_the_result_of_a_failure_only(stacpull_command, library):
    def answer(on_event: Callable[[object], None], **_: object) -> object:
        on_event(AssetFailed(ItemId("c", "i"), "B10", FailureKind.SERVER, "500"))
        on_event(Notice("warning", "something odd"))
        on_event(Progress(seconds=9))
        return mirror_report(assets_failed=1)

    library.answers["mirror"] = answer
    result = stacpull_command("mirror", "s", "d").out
    said = Ran(1, "", f"stacpull: warning: something odd\n{result}")
    assert stacpull_command("mirror", "s", "d", "-q") == stacpull_command("-q", "mirror", "s", "d") == said
    library.answers["mirror"] = mirror_report()
    assert stacpull_command("mirror", "s", "d", "-q") == Ran(0, "", "")


def test_the_result_comes_before_an_error(stacpull_command, library):
    def fail(**_: object) -> None:
        error = SourceError("h is silent. It is down.")
        error.report = mirror_report(state="failed", reason="It is down.", walk_ended=True, assets_pending=2)
        raise error

    library.answers["mirror"] = fail
    ran = stacpull_command("mirror", "s", "d", "-q")
    assert ran.code == 4
    assert ran.err.startswith("failed: 65 of 65 files in out dir; 2 still to fetch or check\n")
    assert ran.err.endswith("to resume:   stacpull resume 'out dir'\nstacpull: h is silent. It is down.\n")


def test_notices_progress_and_failures_are_printed(stacpull_command: Command, library: Library) -> None:
    def answer(on_event: Callable[[object], None], **_: object) -> object:
        on_event(Notice("warning", "something odd\x1b[31m"))
        on_event(Notice("debug", "for developers"))
        on_event(AssetFailed(ItemId("c", "i"), "B10", FailureKind.GONE, "not there"))
        on_event(Progress(items_seen=400, items_matched=5, assets_done=64, assets_planned=65, seconds=6))
        return mirror_report(assets_failed=1, assets_missing=1)

    library.answers["mirror"] = answer
    ran = stacpull_command("mirror", "s", "d")
    assert "stacpull: warning: something odd\N{REPLACEMENT CHARACTER}[31m\n" in ran.err
    assert "for developers" not in ran.err
    assert "failed:" not in ran.err
    assert ran.out.startswith("65 of 65 files in out dir; 1 failed\n")
    assert "stacpull failures 'out dir'" in ran.out
    verbose = stacpull_command("mirror", "s", "d", "-v", "--no-progress")
    assert "for developers" in verbose.err
    assert "failed: c/i B10: not there" in verbose.err


def test_a_retry_without_failures_says_so(stacpull_command: Command, library: Library) -> None:
    library.answers["retry"] = mirror_report(assets_planned=0, assets_done=0, items_failed=1)
    assert "1 item failed" in stacpull_command("retry", "m").out


@pytest.mark.parametrize("name", ["resume", "retry"])
@pytest.mark.parametrize(
    "option",
    [["--label", "x"], ["-C", "c"], ["--no-source-links"], ["--layout", "{key}"], ["--metadata", "none"]],
    ids=" ".join,
)
def test_continuing_a_run_refuses_options_that_the_run_keeps(stacpull_command, library, name, option):
    ran = stacpull_command(name, "out", *option)
    assert (ran.code, library.calls) == (2, [])
    assert f"`stacpull mirror SOURCE DEST {option[0]} ...`" in ran.err


def test_continuing_a_run_ignores_the_selection_of_the_config_file(stacpull_command, library):
    library.answers["resume"] = mirror_report()
    assert stacpull_command("resume", "out", "--config", BIGEARTHNET).code == 0
    assert library.only_call("resume")[1]["options"] == Options()


@pytest.mark.parametrize("value", [[], ["requester"]])
def test_request_payer_is_written_as_in_the_aws_cli(stacpull_command, library, value):
    library.answers["retry"] = mirror_report()
    assert stacpull_command("retry", "--request-payer", *value, "out").code == 0
    assert library.only_call("retry")[1]["options"].s3.request_payer


def test_failures_prints_a_line_or_a_json_object_each(stacpull_command: Command, library: Library) -> None:
    records = [
        FailureRecord("c", "i", "B10", "gone", "HTTP 404", 404, 1, 1.5, "http://h/a"),
        FailureRecord("c", "j", "", "item", "unreadable\nline", None, 6, 2.5),
    ]
    library.answers["failures"] = records
    lines = stacpull_command("failures", "out", "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [record.to_json() for record in records]
    assert " http://h/a\n" in stacpull_command("failures", "out", "-v").out
    ran = stacpull_command("failures", "out")
    assert ran.err == "stacpull: failures in out: 1 gone, 1 item\n"
    assert ran.out.splitlines() == [
        "c/i B10: gone: HTTP 404 (1 attempt, last 1970-01-01T00:00:01Z)",
        "c/j: item: unreadable\N{REPLACEMENT CHARACTER}line (6 attempts, last 1970-01-01T00:00:02Z)",
    ]
    library.answers["failures"] = []
    assert stacpull_command("failures", "out", "--json") == Ran(0, "", "stacpull: no failures in out\n")
    assert stacpull_command("failures", "out", "-q") == Ran(0, "", "")


COLLECTION = {
    "id": "bigearthnet_v1_labels",
    "title": "BigEarthNet",
    "license": "CDLA-Permissive-1.0",
    "sci:doi": "10.14279/depositonce-10149",
    "extent": {
        "spatial": {"bbox": [[-9.0, 36.9, 31.6, 68.0]]},
        "temporal": {"interval": [["2017-06-13T00:00:00Z", None]]},
    },
}


def test_collections_prints_what_each_states(stacpull_command: Command, library: Library) -> None:
    library.answers["collections"] = [COLLECTION, {"id": "bare", "extent": None}]
    described = json.loads(stacpull_command("collections", "s", "--json").out)["collections"]
    assert described[0] == {
        "id": "bigearthnet_v1_labels",
        "title": "BigEarthNet",
        "license": "CDLA-Permissive-1.0",
        "citation": None,
        "doi": "10.14279/depositonce-10149",
        "bbox": [-9.0, 36.9, 31.6, 68.0],
        "interval": ["2017-06-13T00:00:00Z", None],
        "items": None,
    }
    assert described[1] == {**dict.fromkeys(described[0]), "id": "bare"}
    text = stacpull_command("collections", "s").out
    assert "  license  CDLA-Permissive-1.0\n" in text
    assert "  interval 2017-06-13T00:00:00Z/..\n" in text
    assert text.endswith("bare\n")
    library.answers["collections"] = []
    assert stacpull_command("collections", "s") == Ran(0, "", "stacpull: SOURCE has no collections\n")


def test_classes_prints_those_of_one_collection(stacpull_command: Command, library: Library) -> None:
    source = "http://s/collections/other"
    library.answers["classes"] = [
        ClassInfo("labels", ("b", "A"), {"A": 1200}),
        ClassInfo("snow", ("x",), None),
    ]
    ran = stacpull_command("classes", source, "-C", "c", "--count", "--json")
    assert json.loads(ran.out) == {
        "collection": "c",
        "classes": [
            {"name": "labels", "classes": ["b", "A"], "counts": {"A": 1200}},
            {"name": "snow", "classes": ["x"], "counts": None},
        ],
    }
    given, how = library.only_call("classes")
    assert (given, how["count"]) == ((source, "c"), True)
    named = "http://s/collections/c/items?limit=1"
    text = stacpull_command("classes", named).out
    assert library.calls[-1][1] == (named, "c")
    assert text == "Classes for labels\n- A (1,200)\n- b (0)\nClasses for snow\n- x\n"
    assert "snow (--label-property snow counts them)\n" in stacpull_command("classes", named, "--count").out


@pytest.mark.parametrize("arguments", [[], ["-C", "a", "-C", "b"]])
def test_classes_are_of_one_collection(stacpull_command, library, arguments):
    assert stacpull_command("classes", "http://s", *arguments).code == 2
    assert library.calls == []
