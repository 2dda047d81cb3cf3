"""Exports that were stopped or killed continue with the items that are left, and give the same bytes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.export.conftest import item

import stacpull
from stacpull.store.inspection import DirectoryFiles
from stacpull_export import item_batches, label_table
from stacpull_export.spool import Spool, open_spool

COUNT = 12
FORMS = {
    "geoparquet": "items.parquet",
    "csv": "labels.csv",
    "parquet": "labels.parquet",
}


@pytest.fixture
def dest(mirrored: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve items with a label and a raster each; every item is a batch."""
    monkeypatch.setattr("stacpull_export.item_batches.ITEMS", 1)
    monkeypatch.setattr(label_table, "_BATCH", 1)
    return Path(
        mirrored(
            [
                item(
                    f"i{n:02}",
                    properties={"labels": [f"label {n % 5}"], f"only {n}": n},
                    assets={"red": {"href": "./a.tif"}, "notes": {"href": "./a.txt"}},
                )
                for n in range(COUNT)
            ],
            {"a.tif": b"pixels", "a.txt": b"text"},
        )
    )


def export(dest: Path, out: Path, form: str, **settings: Any) -> stacpull.ExportReport:
    return asyncio.run(stacpull.export(dest, out, form, **settings))


def stopped(dest: Path, out: Path, form: str, at: int) -> None:
    """Export until so many items were read."""
    stop = asyncio.Event()

    def on_event(event: Any) -> None:
        if event.name == "exporting" and event.done >= at:
            stop.set()

    with pytest.raises(stacpull.InterruptedRunError):
        export(dest, out, form, on_event=on_event, stop=stop)


@pytest.fixture
def documents_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The item documents that were read so far."""
    paths: list[str] = []
    read = DirectoryFiles.read

    def noted(self: Any, path: str) -> Any:
        if not path.endswith("collection.json"):
            paths.append(path)
        return read(self, path)

    monkeypatch.setattr(DirectoryFiles, "read", noted)
    return paths


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_was_stopped_is_continued(
    form: str, dest: Path, tmp_path: Path, documents_read: list[str]
) -> None:
    calm, out = tmp_path / "calm" / FORMS[form], tmp_path / "stopped" / FORMS[form]
    for path in (calm, out):
        path.parent.mkdir()
    expected = export(dest, calm, form)
    stopped(dest, out, form, at=5)
    assert not out.exists()
    documents_read.clear()
    report = export(dest, out, form)
    assert len(documents_read) <= COUNT - 4
    assert out.read_bytes() == calm.read_bytes()
    assert report == expected
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("form", FORMS)
def test_an_export_of_a_mirror_that_has_changed_starts_again(
    form: str, dest: Path, tmp_path: Path, mirrored: Any
) -> None:
    calm, out = tmp_path / "calm" / FORMS[form], tmp_path / "stopped" / FORMS[form]
    for path in (calm, out):
        path.parent.mkdir()
    stopped(dest, out, form, at=5)
    mirrored([item("another", properties={"labels": ["label of another"]})])
    export(dest, calm, form)
    assert export(dest, out, form).items >= 1
    assert out.read_bytes() == calm.read_bytes()


def test_an_export_with_other_options_starts_over(dest: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    stopped(dest, out, "csv", at=5)
    report = export(dest, out, "csv", splits={"train": ["i03"]})
    assert report.items == 1
    assert "11 items are in no split" in report.notes[0]


def test_missing_split_members_are_counted_over_a_continued_export(dest: Path, tmp_path: Path) -> None:
    splits = {"train": ["i01", "i03", "nowhere"], "test": ["i08"]}
    expected = export(dest, tmp_path / "calm.csv", "csv", splits=splits)
    out, stop = tmp_path / "labels.csv", asyncio.Event()

    def on_event(event: Any) -> None:
        if event.name == "exporting" and event.done == 2:
            stop.set()

    with pytest.raises(stacpull.InterruptedRunError):
        export(dest, out, "csv", splits=splits, on_event=on_event, stop=stop)
    assert export(dest, out, "csv", splits=splits).notes == expected.notes
    assert out.read_bytes() == (tmp_path / "calm.csv").read_bytes()


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:-9] + b"xxxxxxxxx"])
def test_a_damaged_batch_ends_the_spool(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    out, kept = tmp_path / "a", tmp_path / ".a.spool"
    interrupted(out, [b"first", b"second batch"])
    kept.write_bytes(damage(kept.read_bytes()))
    with open_spool(out, "identity") as spool:
        assert [data for _, data in spool.batches()] == [b"first"]
        assert spool.state == {"n": 0}
        spool.add({"n": 1}, b"again")
        assert [data for _, data in spool.batches()] == [b"first", b"again"]
    assert not kept.exists()


def interrupted(out: Path, batches: list[bytes]) -> None:
    def stop(spool: Spool) -> None:
        for number, data in enumerate(batches):
            spool.add({"n": number}, data)
        raise stacpull.InterruptedRunError("Interrupted.")

    with pytest.raises(stacpull.InterruptedRunError), open_spool(out, "identity") as spool:
        stop(spool)


def test_a_full_disk_removes_the_unfinished_spool(tmp_path: Path) -> None:
    def full(spool: Spool) -> None:
        spool.add({}, b"data")
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(stacpull.DestinationError, match="free some space, then run the command again"),
        open_spool(tmp_path / "a", "identity") as spool,
    ):
        full(spool)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", [*FORMS, "webdataset", "torchgeo-v1", "torchgeo-v2"])
def test_a_second_export_to_the_same_output_is_refused(form: str, dest: Path, tmp_path: Path) -> None:
    out = tmp_path / FORMS.get(form, "directory")
    refused: list[str] = []

    def on_event(_: Any) -> None:
        if not refused:
            with pytest.raises(stacpull.DestinationError, match="Another process is writing") as error:
                export(dest, out, form)
            refused.append(str(error.value))

    export(dest, out, form, on_event=on_event)
    assert refused
    export(dest, out, form)


def _hold(out: Path, ready: Any) -> None:
    with open_spool(out, "identity") as spool:
        spool.add({"n": 0}, b"first")
        ready.set()
        signal.pause()


def test_a_kill_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "a", ready))
    process.start()
    assert ready.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with open_spool(tmp_path / "a", "identity") as spool:
        assert spool.state == {"n": 0}


@pytest.mark.parametrize(
    "place",
    ["catalog.json", "c/collection.json", "c/i00/i00.json", "c/i00/red.tif", ".stacpull/ledger.sqlite"],
)
def test_files_of_the_mirror_are_not_replaced(dest: Path, place: str) -> None:
    before = (dest / place).read_bytes()
    with pytest.raises(stacpull.UsageError, match="is a file of the mirror"):
        export(dest, dest / place, "geoparquet")
    with pytest.raises(stacpull.UsageError, match="is a file of the mirror"):
        asyncio.run(stacpull.report(dest, dest / "c" / ".." / place))
    assert (dest / place).read_bytes() == before
    export(dest, dest / "items.parquet", "geoparquet")


@pytest.mark.parametrize(("form", "name"), [("csv", "labels.csv"), ("webdataset", "s"), ("torchgeo-v1", "t")])
def test_the_search_for_classes_is_continued(
    form: str,
    name: str,
    dest: Path,
    tmp_path: Path,
    documents_read: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(item_batches, "ITEMS", 1)
    calm, out = tmp_path / "calm" / name, tmp_path / "stopped" / name
    for path in (calm, out):
        path.parent.mkdir()
    expected = export(dest, calm, form)
    for at, reads in ((5, 5), (COUNT - 2, COUNT - 7)):
        stop = asyncio.Event()
        documents_read.clear()

        def on_event(event: Any, at: int = at, stop: asyncio.Event = stop) -> None:
            if event.name == "reading labels" and event.done >= at:
                stop.set()

        with pytest.raises(stacpull.InterruptedRunError):
            export(dest, out, form, on_event=on_event, stop=stop)
        assert len(documents_read) <= reads + 1
    documents_read.clear()
    assert export(dest, out, form) == expected
    assert len(documents_read) <= COUNT + 3
    if form == "csv":
        assert out.read_bytes() == calm.read_bytes()
    else:
        assert not (out / ".classes.spool").exists()
        assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in calm.iterdir())


def test_a_report_that_was_stopped_is_continued(
    dest: Path, tmp_path: Path, documents_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_batches, "ITEMS", 1)
    pages = [tmp_path / name for name in ("calm.html", "stopped.html")]
    calm, out = pages
    asyncio.run(stacpull.report(dest, calm))
    stop = asyncio.Event()
    with pytest.raises(stacpull.InterruptedRunError):
        asyncio.run(stacpull.report(dest, out, on_event=lambda e: e.done >= 5 and stop.set(), stop=stop))
    assert not out.exists()
    documents_read.clear()
    asyncio.run(stacpull.report(dest, out))
    assert len(documents_read) <= COUNT - 5
    found = [re.sub(r'"written":"[^"]*"', "", page.read_text()) for page in pages]
    assert found[0] == found[1]
    assert not (tmp_path / ".stopped.html.spool").exists()
