"""`.stacpull/log.ndjson`: what happened, one JSON object a line, credentials cut."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import orjson

from stacpull.clock import Clock
from stacpull.events import Event, Progress
from stacpull.redact import Secrets

__all__ = ["Journal"]


class Journal:
    """Gathers events on the loop; `flush` appends them to the file and is called off the loop."""

    def __init__(self, path: Path, secrets: Secrets, clock: Clock) -> None:
        self._path = path
        self._secrets = secrets
        self._clock = clock
        self._lines: list[bytes] = []

    def __call__(self, event: Event) -> None:
        """Take an event; progress is not kept."""
        if not isinstance(event, Progress):
            line = {"time": self._clock.time(), "event": type(event).__name__, **asdict(event)}
            self._lines.append(self._secrets.scrub_bytes(orjson.dumps(line, default=str)))

    def flush(self) -> None:
        """Append what has gathered. A log that cannot be written stops nothing."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            with self._path.open("ab") as file:
                file.write(b"\n".join(lines) + b"\n")
        except OSError:
            return
