"""`--log-file`: one line for each request, without credentials and signatures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from stacpull.clock import rfc3339
from stacpull.errors import DestinationError, why_unreadable
from stacpull.redact import Secrets, unsigned_url


class RequestLog:
    """Appends a line to a file for each request: time, method, status, bytes, milliseconds, URL.

    Raises:
        DestinationError: The file cannot be written.
    """

    def __init__(self, path: Path, secrets: Secrets) -> None:
        self._secrets = secrets
        try:
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise DestinationError(
                f"--log-file {path} cannot be written: {why_unreadable(error)}."
            ) from error

    def write(self, method: str, url: str, status: int | None, received: int, seconds: float) -> None:
        """Add a request; `status` is None if there was no response."""
        when = rfc3339(datetime.now(UTC).replace(microsecond=0))
        place = self._secrets.scrub(unsigned_url(self._secrets.strip_url(url)))
        self._file.write(f"{when} {method} {status or '-'} {received} {seconds * 1000:.0f} {place}\n")

    def close(self) -> None:
        self._file.close()
