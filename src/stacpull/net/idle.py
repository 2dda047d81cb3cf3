"""Closes idle connections to one host across several pools."""

from __future__ import annotations

from collections.abc import Callable

Endpoint = tuple[str, str, int]
"""Scheme, host and port."""


class IdleConnections:
    """Closes the idle connections of other pools before one opens another to the same host.

    A server may serve one connection at a time: while one is idle, a new one is never served.
    """

    def __init__(self) -> None:
        self._pools: list[Callable[[Endpoint], None]] = []

    def join(self, close_idle: Callable[[Endpoint], None]) -> Callable[[Endpoint], None]:
        """Add a pool.

        Args:
            close_idle: Closes the idle connections of that pool to an endpoint.

        Returns:
            A function to call with an endpoint before the pool opens a connection to it.
        """
        self._pools.append(close_idle)

        def opening(endpoint: Endpoint) -> None:
            for close in self._pools:
                if close is not close_idle:
                    close(endpoint)

        return opening
