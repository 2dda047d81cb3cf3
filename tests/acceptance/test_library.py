"""The library, as the README shows it: functions, events, a stop, `stacpull.sync`."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from tests.acceptance.command import LABELS, export_here
from tests.acceptance.mirrored import options_for
from tests.acceptance.trees import damage, expected_files

import stacpull
from stacpull import (
    AssetFailed,
    MirrorReport,
    Progress,
    RunEnded,
    RunStarted,
    Selection,
    Stage,
    mirror,
    plan,
)

pytestmark = pytest.mark.behaviour

FEW = Selection(collections=(LABELS,), exclude_assets=("B10",), max_items=4)


def test_mirror_and_plan(tmp_path, small_hub, aws):
    received = []

    async def work():
        planned = await plan(small_hub.base_url, selection=FEW, options=options_for(small_hub))
        report = await mirror(
            small_hub.base_url,
            str(tmp_path / "m"),
            selection=FEW,
            options=options_for(small_hub),
            on_event=received.append,
        )
        return planned, report

    planned, report = asyncio.run(work())
    assert isinstance(report, MirrorReport)
    assert (report.state, report.exit_code, report.assets_done) == ("complete", 0, planned.assets)
    assert not damage(tmp_path / "m", expected_files(small_hub.dataset, range(4)))
    assert isinstance(next(one for one in received if not isinstance(one, Stage)), RunStarted)
    assert isinstance(received[-1], RunEnded)
    assert received[-1].state == "complete"
    last = [event for event in received if isinstance(event, Progress)][-1]
    assert (last.assets_done, last.walk_ended) == (report.assets_done, True)


def test_failures_are_reported_as_they_happen(tmp_path, small_hub, aws):
    received = []
    selection = Selection(collections=(LABELS,), max_items=3)
    settings = {"selection": selection, "options": options_for(small_hub), "on_event": received.append}
    report = asyncio.run(mirror(small_hub.base_url, tmp_path / "m", **settings))
    assert report.exit_code == 1
    failed = [event for event in received if isinstance(event, AssetFailed)]
    assert [event.key for event in failed] == ["B10"] * 3
    assert len(list(stacpull.failures(tmp_path / "m"))) == 3


def test_a_stop_event_ends_gracefully_and_resume_completes(tmp_path, busy_hub, monkeypatch):
    export_here(busy_hub, monkeypatch.setenv)
    selection = Selection(collections=(LABELS,), exclude_assets=("B10",))

    async def stopped() -> MirrorReport:
        stop = asyncio.Event()

        def listen(event):
            if isinstance(event, Progress) and event.assets_done > 30:
                stop.set()

        return await mirror(
            busy_hub.base_url,
            tmp_path / "m",
            selection=selection,
            options=options_for(busy_hub),
            on_event=listen,
            stop=stop,
        )

    report = asyncio.run(stopped())
    assert (report.state, report.exit_code) == ("interrupted", 130)
    assert report.assets_pending > 0 or report.items_seen < 60
    monkeypatch.delenv("MLHUB_API_KEY")
    with pytest.raises(stacpull.CredentialsError):
        asyncio.run(stacpull.resume(tmp_path / "m"))
    resumed = asyncio.run(stacpull.resume(tmp_path / "m", options=options_for(busy_hub)))
    assert (resumed.state, resumed.assets_pending) == ("complete", 0)
    assert not damage(tmp_path / "m", expected_files(busy_hub.dataset, range(60)))


def test_functions_of_stacpull_sync_need_no_event_loop(tmp_path, small_hub, aws):
    from stacpull import sync  # noqa: PLC0415 - what this test is about

    settings = {"selection": FEW, "options": options_for(small_hub)}
    assert sync.plan(small_hub.base_url, **settings).items_matched == 4
    assert sync.mirror(small_hub.base_url, str(tmp_path / "m"), **settings).state == "complete"
    assert sync.status(tmp_path / "m").assets_done == 4 * 13
    assert [c["id"] for c in sync.collections(small_hub.base_url, options=options_for(small_hub))][:1]
    lists = sync.classes(small_hub.base_url, LABELS, options=options_for(small_hub))
    assert "Rice fields" in {name for one in lists for name in one.classes}


def test_the_blocking_functions_are_found_without_importing_their_module() -> None:
    code = "import sys, stacpull; assert 'stacpull.sync' not in sys.modules; print(stacpull.sync.mirror)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("<function mirror at ")
