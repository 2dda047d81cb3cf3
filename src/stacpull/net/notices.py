"""What the network layer reports to a run: messages for the user, and hosts that throttle."""

from __future__ import annotations

from collections.abc import Callable

from stacpull.events import Notice

SILENT_AFTER = 5.0
"""Seconds without an answer, or without progress, after which a message names what the run waits for."""


class NetworkEvents:
    """Gates, the reader and logins report events here. Each kind of event has one listener."""

    def __init__(self) -> None:
        self._on_notice: Callable[[Notice], None] = lambda _: None
        self._on_closed: Callable[[str, float], None] = lambda *_: None

    def hand_over(self, on_notice: Callable[[Notice], None]) -> None:
        """Set the listener for messages.

        While SOURCE is opened, the opener listens; afterwards the run, which has a log.
        """
        self._on_notice = on_notice

    def share_closings(self, on_closed: Callable[[str, float], None]) -> None:
        """Set the listener for hosts that throttle, which tells the other processes."""
        self._on_closed = on_closed

    def warn(self, sentence: str) -> None:
        """Report a warning, for example a long wait or JSON that is not strict."""
        self._on_notice(Notice("warning", sentence))

    def detail(self, sentence: str) -> None:
        """Report a detail for the most verbose log, for example a changed limit."""
        self._on_notice(Notice("debug", sentence))

    def closed(self, host: str, seconds: float) -> None:
        """Report that `host` asked to wait for `seconds`."""
        self._on_closed(host, seconds)
