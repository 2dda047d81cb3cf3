"""The journal and the position: what they write down holds no secret, and can be read back."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.virtual_clock import VirtualClock

from stacpull.engine.mirror import Journal
from stacpull.events import AssetFailed, Event, Notice, Progress, RunStarted
from stacpull.models import FailureKind, ItemId
from stacpull.redact import Secret, Secrets

BEGAN = "2023-11-14T22:13:20Z"


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_events_become_lines_and_progress_does_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log", Secrets(()), VirtualClock())
    journal(RunStarted(1, "https://api.example", resumed=False))
    journal(Progress(items_seen=5))
    journal(AssetFailed(ItemId("c", "i"), "a", FailureKind.GONE, "Gone."))
    assert not (tmp_path / "log").exists()
    journal.flush()
    journal.flush()
    journal(Notice("warning", "é"))
    journal.flush()
    assert lines(tmp_path / "log") == [
        {
            "time": BEGAN,
            "event": "RunStarted",
            "run": 1,
            "source": "https://api.example",
            "resumed": False,
        },
        {
            "time": BEGAN,
            "event": "AssetFailed",
            "item": ["c", "i"],
            "key": "a",
            "kind": "gone",
            "message": "Gone.",
        },
        {"time": BEGAN, "event": "Notice", "level": "warning", "text": "é"},
    ]


@given(secret=st.text(min_size=8, max_size=20), before=st.text(max_size=3), after=st.text(max_size=3))
def test_no_secret_of_any_text_is_written(
    tmp_path_factory: pytest.TempPathFactory, secret: str, before: str, after: str
) -> None:
    path = tmp_path_factory.mktemp("journal") / "log"
    journal = Journal(path, Secrets((Secret(secret),)), VirtualClock())
    events: list[Event] = [
        Notice("info", f"{before}{secret}{after}"),
        AssetFailed(ItemId("c", secret), secret, FailureKind.HTTP, f"asked {secret}"),
    ]
    for event in events:
        journal(event)
    journal.flush()
    assert all(secret not in str(value) for line in lines(path) for value in _strings(line))


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for member in value.values() for text in _strings(member)]
    if isinstance(value, list):
        return [text for member in value for text in _strings(member)]
    return [value] if isinstance(value, str) else []


def test_invalid_text_is_written_escaped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log", Secrets(()), VirtualClock())
    journal(Notice("info", "went to \udcff"))
    journal.flush()
    assert lines(tmp_path / "log")[0]["text"] == "went to ?"


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
    journal = Journal(path, Secrets(()), VirtualClock())
    journal(Notice("info", "x"))
    journal.flush()
    assert not (tmp_path / "victim").exists()
    assert not journal._lines


def test_no_event_is_lost_between_the_loop_and_the_flusher(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log", Secrets(()), VirtualClock())
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            journal.flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    for number in range(3000):
        journal(Notice("info", str(number)))
    stop.set()
    flusher.join()
    journal.flush()
    assert [line["text"] for line in lines(tmp_path / "log")] == [str(n) for n in range(3000)]
