"""The stream of events that the network layer reports to a run."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stacpull.events import Notice


class HostClosed(msgspec.Struct, frozen=True):
    """A host throttled requests for `seconds`."""

    host: str
    seconds: float


NetworkEvent = Notice | HostClosed
NetworkListener = Callable[[NetworkEvent], None]


class NetworkEvents:
    """The stream. Gates, the reader and logins report to it."""

    def __init__(self) -> None:
        self._listeners: list[NetworkListener] = []

    def listen(self, listener: NetworkListener) -> None:
        """Add a listener, which is called with every later event."""
        self._listeners.append(listener)

    def hand_over(self, listener: NetworkListener) -> None:
        """Replace all listeners with `listener`.

        While SOURCE is opened, the opener listens; afterwards the run, which has a log.
        """
        self._listeners = [listener]

    def warn(self, sentence: str) -> None:
        """Report a warning, for example a long wait or JSON that is not strict."""
        self._report(Notice("warning", sentence))

    def detail(self, sentence: str) -> None:
        """Report a detail for the most verbose log, for example a changed limit."""
        self._report(Notice("debug", sentence))

    def closed(self, host: str, seconds: float) -> None:
        """Report that `host` asked to wait for `seconds`."""
        self._report(HostClosed(host, seconds))

    def _report(self, event: NetworkEvent) -> None:
        for listener in tuple(self._listeners):
            listener(event)
