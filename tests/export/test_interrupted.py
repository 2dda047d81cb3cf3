"""An export that is stopped or cancelled leaves what was there; two do not write the same directory."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.events import stopping_when
from tests.export.conftest import item

import stacpull
from stacpull.sync import export, report

FORMS = {"geoparquet": "items.parquet", "csv": "labels.csv", "parquet": "labels.parquet"}


@pytest.fixture
def dest(mirrored: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("stacpull_export.geoparquet._BATCH", 1)
    assets = {"a": {"href": "./a.tif"}}
    items = [item(f"i{n:02}", properties={"labels": [f"label {n % 5}"]}, assets=assets) for n in range(12)]
    return Path(mirrored(items, {"a.tif": b"pixels"}))


@pytest.mark.parametrize("form", FORMS)
def test_a_stopped_export_leaves_nothing_behind(form: str, dest: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / FORMS[form]
    out.write_bytes(b"before")
    at_fifth = stopping_when(lambda event: event.name == "exporting" and event.done >= 5)
    with pytest.raises(stacpull.InterruptedRunError, match="run the same command again"):
        export(dest, out, form, **at_fifth)
    with pytest.raises(stacpull.InterruptedRunError, match="run the same command again"):
        report(dest, tmp_path / "out.html", **at_fifth)
    assert [(path.name, path.read_bytes()) for path in out.parent.iterdir()] == [(out.name, b"before")]
    assert export(dest, out, form).items == 12


@pytest.mark.parametrize("make", [stacpull.export, stacpull.report])
async def test_a_cancelled_export_or_report_has_ended(make: Any, dest: Path, tmp_path: Path) -> None:
    steps: list[Any] = []
    options, name = ({"format": "csv"}, "out.csv") if make is stacpull.export else ({}, "out.html")
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def note(event: Any) -> None:
        steps.append(event)
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.02)

    task = asyncio.ensure_future(make(dest, tmp_path / name, on_event=note, **options))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    taken = len(steps)
    await asyncio.sleep(0.1)
    assert taken == len(steps)


@pytest.mark.parametrize("form", [*FORMS, "webdataset"])
def test_damaged_documents_are_named(form: str, dest: Path, tmp_path: Path) -> None:
    (dest / "c/i07/i07.json").unlink()
    (dest / "c/i09/i09.json").write_bytes(b"{")
    report = export(dest, tmp_path / FORMS.get(form, "shards"), form)
    assert (report.items, report.exit_code, len(report.notes)) == (10, 1, 1)
    assert "2 items have no readable JSON, such as i07.json: " in report.notes[0]
