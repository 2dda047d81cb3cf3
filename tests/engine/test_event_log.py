"""The event log: what it writes down holds no secret, and an error of the log stops nothing."""

import json
import os
import re
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.items import feature

from stacpull import DestinationError, Options, SourceError, UsageError, status, sync
from stacpull.cli.inspect_command import status_lines
from stacpull.engine.event_log import EventLog
from stacpull.events import AssetFailed, Event, ItemGone, Notice, Progress, RunStarted, masking_listener
from stacpull.models import FailureKind, ItemId
from stacpull.redact import Secret, Secrets


def written(path: Path, *events: Event, secrets: Iterable[Secret] = ()) -> list[dict[str, Any]]:
    event_log = EventLog(path)
    event_log.secrets.add(*secrets)
    for event in events:
        event_log(event)
    event_log.flush()
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_events_become_lines_and_progress_does_not(tmp_path: Path) -> None:
    failed = AssetFailed(ItemId("c", "i"), "a", FailureKind.GONE, "Gone.")
    began = RunStarted(1, "https://api.example", resumed=False)
    lines = written(tmp_path / "log", began, Progress(items_seen=5), failed, Notice("warning", "é \udcff"))
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=1) < datetime.fromisoformat(line.pop("time")) <= now for line in lines)
    assert lines == [
        {"event": "RunStarted", "run": 1, "source": "https://api.example", "resumed": False},
        {"event": "AssetFailed", "item": ["c", "i"], "key": "a", "kind": "gone", "message": "Gone."},
        {"event": "Notice", "level": "warning", "text": "é ?"},
    ]
    assert len(written(tmp_path / "log", Notice("info", "later"))) == 4


@given(secret=st.text(min_size=8, max_size=20), before=st.text(max_size=3), after=st.text(max_size=3))
def test_no_secret_of_any_text_is_written(tmp_path_factory, secret, before, after):
    failed = AssetFailed(ItemId("c", secret), secret, FailureKind.HTTP, f"asked {secret}")
    path, notice = tmp_path_factory.mktemp("events") / "log", Notice("info", f"{before}{secret}{after}")
    noted, refused = written(path, notice, failed, secrets=[Secret(secret)])
    texts = [noted["text"], *refused["item"], refused["key"], refused["message"]]
    assert all(secret not in text for text in texts)


@pytest.mark.parametrize("way", ["a directory", "a link", "a pipe", "nowhere", "a full disk"])
def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, way: str) -> None:
    path = tmp_path / "log"
    match way:
        case "a directory":
            path.mkdir()
        case "a link":
            path.symlink_to(tmp_path / "victim")
        case "a pipe":
            os.mkfifo(path)
        case "a full disk":
            path = Path("/dev/full")
        case _:
            path = tmp_path / "no" / "log"
    event_log = EventLog(path)
    event_log(Notice("info", "x"))
    event_log.flush()
    assert not (tmp_path / "victim").exists()
    assert not event_log._lines


def test_no_event_is_lost_between_the_loop_and_the_flusher(tmp_path: Path) -> None:
    event_log, stop = EventLog(tmp_path / "log"), threading.Event()

    def flush() -> None:
        while not stop.is_set():
            event_log.flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    for number in range(3000):
        event_log(Notice("info", str(number)))
    stop.set()
    flusher.join()
    event_log.flush()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [orjson.loads(line)["text"] for line in lines] == [str(n) for n in range(3000)]


def test_status_names_an_attempt_that_failed_before_its_run_began(tmp_path: Path) -> None:
    source, dest = tmp_path / "item.json", tmp_path / "m"

    def attempt() -> None:
        with pytest.raises(SourceError):
            sync.mirror(str(source), dest)

    attempt()
    assert not dest.exists()
    (tmp_path / "a.tif").write_bytes(b"content")
    content = json.dumps(feature("one", {"a": "a.tif"}))
    source.write_text(content)
    sync.mirror(str(source), dest)
    assert status(dest).last_attempt is None
    source.unlink()
    attempt()
    report = status(dest)
    assert re.fullmatch(r"20\S{17}Z: exit 4: There is no file .*item.json.*", report.last_attempt or "")
    assert f"  last attempt {report.last_attempt}" in status_lines(report)
    source.write_text(content)
    sync.mirror(str(source), dest)
    with pytest.raises(UsageError):
        sync.mirror(str(source), dest, options=Options(layout="{nothing"))
    assert status(dest).last_attempt is None


def test_status_says_that_the_disk_was_full(small_disk, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(bytes(3 << 20))
    (tmp_path / "item.json").write_text(json.dumps(feature("one", {"a": "a.tif"})))
    dest = small_disk("size=2m") / "m"
    with pytest.raises(DestinationError):
        sync.mirror(tmp_path / "item.json", dest)
    # The body and the ledger share this disk: either may be the first that finds no room.
    assert re.search(r"exit 5: The disk (of|is full)", status(dest).last_attempt or "")


def test_a_listener_gets_no_secret() -> None:
    heard: list[Any] = []
    gone = ItemGone(ItemId("c", "planted-token"), 1, 2, removed=False)
    masking_listener(heard.append, Secrets((Secret("planted-token"),)))(gone)
    assert heard[0].item == ItemId("c", "***")
