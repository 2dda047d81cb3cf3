"""Exports by several processes give the same as one process, and leave none behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.acceptance.command import environment
from tests.acceptance.forked_command import ForkedProcess, Forker
from tests.export.conftest import item
from tests.export.test_geoparquet import UNUSUAL

import stacpull
from stacpull import child_process
from stacpull_export import item_batches

COUNT = 40


@pytest.fixture(params=["item", "ndjson"])
def dest(mirrored: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unusual items, some of whose documents are gone or damaged; four items are a batch."""
    monkeypatch.setattr(item_batches, "ITEMS", 4)
    items = [item(f"i{n:02}", properties={"labels": [f"label {n % 3}"], "n": n}) for n in range(COUNT)]
    items += [item(name, **members) for name, members in UNUSUAL.items()]
    place = mirrored(items, metadata=request.param)
    if request.param == "item":
        (place / "c" / "i07" / "i07.json").unlink()
        (place / "c" / "i30" / "i30.json").write_bytes(b"{")
    return Path(place)


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes for each export."""
    monkeypatch.setattr(item_batches, "FEWEST_ITEMS", 1)
    monkeypatch.setattr(item_batches, "available_processors", lambda: 8)


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    """Starting a process takes half a second, nearly all of it to import pyarrow: it is imported once."""
    made = Forker(environment(), "stacpull_export.item_columns")
    yield made
    made.close()


@pytest.fixture
def forked(several: None, forker: Forker, monkeypatch: pytest.MonkeyPatch) -> list[ForkedProcess]:
    """The processes, which are forked. The first test starts them."""
    processes: list[ForkedProcess] = []

    def fork(module: str) -> tuple[ForkedProcess, socket.socket]:
        process, sock = forker.spawn(module)
        processes.append(process)
        return process, sock

    monkeypatch.setattr(item_batches, "spawn", fork)
    return processes


def export(dest: Path, out: Path, **settings: Any) -> stacpull.ExportReport:
    return asyncio.run(stacpull.export(dest, out, **settings))


def test_several_processes_give_the_file_of_one(
    dest: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    out = tmp_path / "one" / "items.parquet"
    expected = export(dest, out)
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            started.append(self)

    monkeypatch.setattr(child_process.subprocess, "Popen", Noted)
    request.getfixturevalue("several")
    again = tmp_path / "several" / "items.parquet"
    assert export(dest, again) == expected
    assert again.read_bytes() == out.read_bytes()
    assert len(started) == item_batches.MOST_PROCESSES
    assert all(process.returncode is not None for process in started)


def test_no_process_is_left_when_it_is_stopped(
    dest: Path, tmp_path: Path, forked: list[ForkedProcess]
) -> None:
    out, stop = tmp_path / "items.parquet", asyncio.Event()
    with pytest.raises(stacpull.InterruptedRunError):
        export(dest, out, on_event=lambda event: event.done >= 8 and stop.set(), stop=stop)
    assert all(process.returncode is not None for process in forked)
    assert export(dest, out).items == pq.read_table(out).num_rows


@pytest.mark.parametrize("make", [stacpull.export, stacpull.report])
def test_a_cancelled_export_or_report_has_ended(make: Any, dest: Path, tmp_path: Path) -> None:
    steps: list[Any] = []

    async def cancelled() -> int:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def note(event: Any) -> None:
            steps.append(event)
            loop.call_soon_threadsafe(begun.set)
            time.sleep(0.02)

        task = asyncio.ensure_future(make(dest, tmp_path / "out.csv", on_event=note, **options))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        taken = len(steps)
        await asyncio.sleep(0.1)
        return taken

    options = {"format": "csv"} if make is stacpull.export else {}
    assert asyncio.run(cancelled()) == len(steps)
    assert not (tmp_path / "out.csv").exists()


def test_a_process_that_ends_is_an_error_and_the_export_continues(
    dest: Path, tmp_path: Path, forked: list[ForkedProcess]
) -> None:
    out = tmp_path / "items.parquet"

    def kill(event: Any) -> None:
        if event.done >= 8:
            forked[0].kill()
            forked[0].wait()

    with pytest.raises(stacpull.StacpullError, match="A process of the export ended"):
        export(dest, out, on_event=kill)
    assert not out.exists()
    report = export(dest, out)
    assert report.items == pq.read_table(out).num_rows >= COUNT


def test_a_process_ends_with_the_one_that_started_it(dest: Path, forked: list[ForkedProcess]) -> None:
    work = "stacpull_export.item_columns:columns_work"
    setup = item_batches.Setup(os.fsencode(dest), work, {"to_dest": "."})
    with item_batches.worker(setup) as worker:
        worker.connection.close()
        assert forked[0].wait(60) == 0
