"""What the network layer reports to a run: messages for the user, and hosts that throttle."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stacpull.events import Notice

SILENT_AFTER = 5.0
"""Seconds without an answer, or without progress, after which a message names what the run waits for."""


Peer = Callable[[str, float], None]
"""Tells another process of the run that a host must get no requests for some seconds."""


class NetworkEvents:
    """Gates, the reader and logins report events here.

    Args:
        on_notice: Called with messages for the user.
        peers: The other processes of the run. The first process adds a worker when it has joined, and removes
            it when it has left.
    """

    def __init__(
        self, on_notice: Callable[[Notice], None] = lambda _: None, peers: Iterable[Peer] = ()
    ) -> None:
        self._on_notice = on_notice
        self.peers = set(peers)

    def warn(self, sentence: str) -> None:
        """Report a warning, for example a long wait or JSON that is not strict."""
        self._on_notice(Notice("warning", sentence))

    def detail(self, sentence: str) -> None:
        """Report a detail for the most verbose log, for example a changed limit."""
        self._on_notice(Notice("debug", sentence))

    def closed(self, host: str, seconds: float, reported_by: Peer | None = None) -> None:
        """Report to the other processes that `host` asked to wait for `seconds`."""
        for peer in self.peers:
            if peer != reported_by:
                peer(host, seconds)
