"""`.stacpull/log.ndjson`: the events of all runs, one JSON object per line, without credentials."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import orjson
from msgspec.structs import asdict

from stacpull.clock import Clock, rfc3339
from stacpull.events import Event, Listener, Progress, Stage, without_secrets
from stacpull.redact import Secrets
from stacpull.store.inspection import open_regular

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Journal:
    """Collects the events of a run on the loop; `flush` appends them to the file, off the loop."""

    def __init__(self, path: Path, secrets: Secrets, clock: Clock, on_event: Listener | None = None) -> None:
        self._path = path
        self._secrets = secrets
        self._clock = clock
        self._pass_on = without_secrets(on_event, secrets)
        self._lines: deque[bytes] = deque()
        self._flushing = threading.Lock()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress | Stage):
            line: dict[str, object] = {
                "time": rfc3339(datetime.fromtimestamp(self._clock.time(), UTC)),
                "event": type(event).__name__,
            }
            line |= {name: self._clean(value) for name, value in asdict(event).items()}
            self._lines.append(orjson.dumps(line))
        self._pass_on(event)

    def _clean(self, value: object) -> object:
        """Return a value without secrets. They are removed before JSON escapes their characters."""
        if isinstance(value, str):
            return self._secrets.scrub(value).encode("utf-8", "replace").decode()
        if isinstance(value, list | tuple):
            return [self._clean(member) for member in value]
        return value

    def flush(self) -> None:
        """Append the collected events. An error of the log does not stop a run.

        The thread of a cancelled call may still be writing: this one waits for it.
        """
        with self._flushing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if not lines:
                return
            try:
                fd = open_regular(self._path, _APPEND, mode=0o600)
            except OSError:
                return
            with os.fdopen(fd, "ab", buffering=0) as file, suppress(OSError):
                file.write(b"\n".join(lines) + b"\n")
