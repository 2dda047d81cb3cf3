"""A wrong argument is answered with the one to use, or what it must be."""

import asyncio
import logging
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.items import feature

import stacpull


@pytest.mark.parametrize(
    ("kind", "name", "use"),
    [
        (stacpull.Selection, "limit", "max_items"),
        (stacpull.sync.classes, "collections", "collection"),
        (stacpull.Selection, "colections", "collections"),
        (stacpull.Options, "jobs", "concurrency"),
        (stacpull.Options, "credentials", "stacpull.profile_options(options, name)"),
        (stacpull.sync.mirror, "config", "Selection and Options, as only the command line reads a config"),
        (stacpull.sync.mirror, "limit_rate", "Options(limit_rate=...)"),
        (stacpull.sync.mirror, "dry_run", "stacpull.plan(...), or stacpull.trace_estimate(...) for `trace`"),
        (stacpull.sync.plan, "collection", "Selection(collections=...)"),
        (stacpull.Options, "max_item", "Selection(max_items=...)"),
        (stacpull.Options, "region", "S3Options(region=...)"),
        (stacpull.sync.mirror, "endpoint_url", "S3Options(endpoint_url=...)"),
        (stacpull.sync.verify, "repare", "repair"),
        (stacpull.sync.mirror, "progress", "on_event"),
        (stacpull.sync.mirror, "destination", "dest"),
        (stacpull.sync.export, "shard_size", "shard_bytes"),
        (stacpull.sync.export, "split", "splits"),
        (stacpull.sync.mirror, "cql2", "Selection(filter=...)"),
        (stacpull.sync.report, "output", "out"),
        (stacpull.Options, "retry", "retries"),
        (stacpull.Selection, "aoi", "intersects"),
    ],
)
def test_an_unknown_argument_is_answered_with_the_one_to_use(kind: Any, name: str, use: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"no argument {name!r}: use {use}.") + "$"):
        kind(**{name: 1})


def test_arguments_without_names_are_an_error_of_python() -> None:
    with pytest.raises(TypeError, match=r"mirror\(\) takes 2 positional arguments but 3 "):
        stacpull.sync.mirror("s", "d", stacpull.Selection())
    with pytest.raises(TypeError, match=r"progress_bar\(\) takes 0 positional arguments but 1 was given"):
        stacpull.progress_bar("event")


def test_a_notebook_completes_the_blocking_functions() -> None:
    assert {"mirror", "plan", "verify", "status"} <= set(dir(stacpull.sync))
    assert "asyncio" not in dir(stacpull.sync)


def test_a_warning_without_a_listener_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    selection = stacpull.Selection(where="gsd=1")
    for run in (stacpull.sync.plan, partial(stacpull.sync.mirror, dest=tmp_path / "m")):
        run([feature("i", {"data": "https://files.example/i.tif"})], selection=selection)
    texts = ("--where gsd: no item on the first page has this property.",)
    texts += ("Nothing matched: the filters kept none of 1 item.",)
    assert caplog.record_tuples == [("stacpull", logging.WARNING, text) for text in texts * 2]
    caplog.clear()
    heard = []
    across = stacpull.Selection(bbox=(10, 50, 5, 52))
    stacpull.sync.plan([feature("i", {})], selection=across, on_event=heard.append)
    notices = [event.text for event in heard if isinstance(event, stacpull.Notice)]
    assert notices[0].startswith("--bbox crosses the antimeridian")
    assert caplog.messages == []
    linked = {**feature("i", {"data": "/i.tif"}), "links": [{"rel": "source", "href": "/gone.json"}]}
    stacpull.sync.mirror([linked], tmp_path / "m")
    [failed] = caplog.messages
    assert failed.startswith("1 of 1 assets and 1 item failed; see stacpull.failures. For example: ")
    assert "its item has no URL" in next(stacpull.failures(tmp_path / "m")).message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("method", "mean", "method must be one of mode, median"),
        ("resolution", None, "resolution must be a number of metres above 0"),
        ("evalscript", 3, "evalscript must be text"),
        ("stop", True, "stop must be asyncio.Event"),
        ("base_url", "http://127.0.0.1:1", "If this persists, check --base-url"),
    ],
)
def test_a_wrong_argument_of_trace_is_refused_by_name(monkeypatch, name: str, value: Any, words: str) -> None:
    monkeypatch.setenv("SH_CLIENT_ID", "a")
    monkeypatch.setenv("SH_CLIENT_SECRET", "b")
    given = {"datetime": "2024", "bbox": (7, 46, 7.01, 46.01), "options": stacpull.Options(retries=1)}
    with pytest.raises(stacpull.StacpullError, match=words):
        stacpull.sync.trace("mine", **{**given, name: value})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stacpull.sync.plan("c.json", urls=5), "urls must be an open text file, not int"),
        (lambda: stacpull.sync.plan("c.json", on_event=[]), "on_event must be a function"),
        (lambda: stacpull.sync.plan("c.json", on_event=asyncio.sleep), "not a coroutine function"),
        (lambda: stacpull.sync.plan([]), "source is an empty list: give items, a URL or a path"),
        (lambda: stacpull.sync.plan([{"id": "a"}]), r"an object that is not a STAC item \(dict\)"),
        (lambda: stacpull.sync.collections(5), "SOURCE must be a URL or a path as text, not int"),
        (lambda: stacpull.sync.plan([Mock(spec=["get_assets"])]), "cannot be written as JSON: .*to_dict"),
        (lambda: stacpull.sync.plan(Mock(get_self_href=lambda: None)), "a client without a `self` link"),
        (lambda: stacpull.Selection(bbox=(7, 47, 8, 46.9)), "^bbox has S 47 above N 46.9: swap them"),
        (lambda: stacpull.sync.plan("${ROOT}/v1"), r"^SOURCE is \$\{ROOT\}/v1: write the value of the v"),
        (lambda: stacpull.S3Options(keys=["id"]), r"keys must be an access key and a secret key\.$"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_by_name(call: Any, words: str) -> None:
    with pytest.raises(stacpull.UsageError, match=words):
        call()


def test_arguments_are_known_also_before_any_garbage_is_collected(tmp_path: Path) -> None:
    """Until then, Python knows two classes `Selection`: attrs makes one with slots from the other."""
    program = (
        "import gc; gc.disable()\nimport stacpull\n"
        "try: stacpull.sync.verify('m')\nexcept stacpull.NotAMirrorError as error: print(error)"
    )
    given = [sys.executable, "-c", program]
    ran = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "There is no mirror at m: the directory does not exist.\n"
