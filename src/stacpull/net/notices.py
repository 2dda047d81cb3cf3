"""What the network reports while it works: one stream, to which a run listens."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stacpull.events import Notice


class HostClosed(msgspec.Struct, frozen=True):
    """A host asked to wait for some seconds."""

    host: str
    seconds: float


NetworkEvent = Notice | HostClosed
NetworkListener = Callable[[NetworkEvent], None]


class NetworkEvents:
    """The stream. Gates, reader and logins get it when they are made, and report to it."""

    def __init__(self) -> None:
        self._listeners: list[NetworkListener] = []

    def listen(self, listener: NetworkListener) -> None:
        """Call `listener` with every event from now on."""
        self._listeners.append(listener)

    def hand_over(self, listener: NetworkListener) -> None:
        """Call `listener` with every event from now on, and none of those that listened before.

        While SOURCE is opened its opener listens; then the run that it is opened for, which has a log.
        """
        self._listeners = [listener]

    def warn(self, sentence: str) -> None:
        """Report what the user should know: a long wait, JSON that is not strict."""
        self._report(Notice("warning", sentence))

    def detail(self, sentence: str) -> None:
        """Report what only the most verbose log shows: a limit that changed."""
        self._report(Notice("debug", sentence))

    def closed(self, host: str, seconds: float) -> None:
        """Report that `host` asked to wait for `seconds`."""
        self._report(HostClosed(host, seconds))

    def _report(self, event: NetworkEvent) -> None:
        for listener in tuple(self._listeners):
            listener(event)
