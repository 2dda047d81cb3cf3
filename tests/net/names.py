"""Lookups of names whose answers a test defines, and the connections that are tried."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Names:
    """In place of the loop's lookup: each lookup of a name gives its next answer, the last one for ever.

    A name without answers is its own address, and one with an empty answer is unknown.
    """

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.lookups: list[str] = []
        asyncio.get_running_loop().getaddrinfo = self.look_up  # type: ignore[method-assign]

    async def look_up(self, host: str, port: int | str | None, **_options: Any) -> list[Any]:
        self.lookups.append(host)
        answers = self.answers.get(host, [[host]])
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [self._info(address, int(port or 0)) for address in found]

    @staticmethod
    def _info(address: str, port: int) -> Any:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        place = (address, port, 0, 0) if ":" in address else (address, port)
        return family, socket.SOCK_STREAM, 6, "", place


_tried: list[object] | None = None


def _note_connection(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _tried is not None:
        _tried.append(arguments[1])


sys.addaudithook(_note_connection)


@contextmanager
def watched_connections() -> Iterator[list[object]]:
    """Yield the list of stream connections tried inside the context, on any socket."""
    global _tried  # noqa: PLW0603 - an audit hook can neither carry state nor be removed
    _tried = []
    try:
        yield _tried
    finally:
        _tried = None
