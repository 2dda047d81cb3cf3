"""The event log of a mirror, `.stacpull/log.ndjson`: one JSON object per event, without credentials."""

import os
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import orjson
from msgspec.structs import asdict

from stacpull.clock import rfc3339
from stacpull.events import Event, Listener, Progress, RunEnded, Stage, masking_listener
from stacpull.redact import Secrets
from stacpull.store.inspection import open_regular

FAILED_ATTEMPT = "AttemptFailed"


def failed_attempt(path: Path) -> str | None:
    """Return when and why the last command failed, if the log ends with that: the ledger may not say it."""
    with suppress(OSError, ValueError, LookupError):
        fd = open_regular(path, os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            file.seek(max(0, os.fstat(fd).st_size - 65536))
            last = orjson.loads(file.readlines()[-1])
        if last["event"] == FAILED_ATTEMPT:
            return f"{last['time'][:19]}Z: {last['text']}"
    return None


class EventLog:
    def __init__(self, path: Path, on_event: Listener | None = None) -> None:
        self._path = path
        self.secrets = Secrets()
        self._pass_on = masking_listener(on_event, self.secrets)
        self.has_run_ended = False
        self._lines: deque[bytes] = deque()
        self._flushing = threading.Lock()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress | Stage):
            self.add(type(event).__name__, asdict(event))
        if isinstance(event, RunEnded):
            self.has_run_ended = True
        self._pass_on(event)

    def add(self, event: str, fields: Mapping[str, object]) -> None:
        time = rfc3339(datetime.now(UTC))
        cleaned = {name: self._clean(value) for name, value in fields.items()}
        line = {"time": time, "event": event, **cleaned}
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _clean(self, value: object) -> object:
        """Return a value without secrets. They are removed before JSON escapes their characters."""
        if isinstance(value, str):
            return self.secrets.masked(value).encode("utf-8", "replace").decode()
        if isinstance(value, list | tuple):
            return [self._clean(member) for member in value]
        return value

    def flush(self) -> None:
        """Write the events, after the thread of an earlier call that was cancelled. Ignore errors."""
        with self._flushing, suppress(OSError):
            lines = bytearray()
            while self._lines:
                lines += self._lines.popleft()
            if lines:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                fd = open_regular(self._path, flags, mode=0o600)
                with os.fdopen(fd, "ab", buffering=0) as file:
                    file.write(lines)
