"""Closes idle connections to one host across several pools."""

from __future__ import annotations

from collections.abc import Callable

ConnectionKey = tuple[str, str, int]
"""Scheme, host and port. A server may count the connections with the same key as one client's."""


class IdleConnections:
    """Closes the idle connections of other pools before one opens another to the same host.

    A server may serve one connection at a time: while one is idle, a new one is never served.
    """

    def __init__(self) -> None:
        self._pools: list[Callable[[ConnectionKey], None]] = []

    def join(self, close_idle: Callable[[ConnectionKey], None]) -> Callable[[ConnectionKey], None]:
        """Add a pool.

        Args:
            close_idle: Closes the idle connections of that pool with a key.

        Returns:
            A function to call with the key of a connection before the pool opens it.
        """
        self._pools.append(close_idle)

        def opening(key: ConnectionKey) -> None:
            for close in self._pools:
                if close is not close_idle:
                    close(key)

        return opening
