"""What the network layer reports to a run: messages for the user."""

from __future__ import annotations

from collections.abc import Callable

from stacpull.events import Notice

SILENT_AFTER = 5.0
"""Seconds without an answer, or without progress, after which a message names what the run waits for."""


class NetworkEvents:
    """Gates, the reader and logins report events here.

    Args:
        on_notice: Called with messages for the user.
    """

    def __init__(self, on_notice: Callable[[Notice], None] = lambda _: None) -> None:
        self._on_notice = on_notice

    def warn(self, sentence: str) -> None:
        """Report a warning, for example a long wait or JSON that is not strict."""
        self._on_notice(Notice("warning", sentence))

    def detail(self, sentence: str) -> None:
        """Report a detail for the most verbose log, for example a changed limit."""
        self._on_notice(Notice("debug", sentence))
