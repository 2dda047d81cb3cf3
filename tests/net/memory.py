"""A transport in memory: a server defined by a table of answers, including faults.

It passes the same conformance suite as the real transports, so tests with it are valid for them. It waits on
a clock, so a stall takes no time on a virtual one.
"""

from __future__ import annotations

import enum
import gzip
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDict

from stacpull.clock import Clock
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind
from stacpull.net.transport import Request, TransferError


class Fault(enum.Enum):
    REFUSED = "the connection is refused"
    CLOSED = "the connection is closed before the first byte"
    SILENT = "nothing ever comes"
    TRUNCATED = "the body ends half-way, although its length was stated"
    UNNOTICED = "the body ends half-way, and its length was not stated"
    STALLED = "nothing more comes after half of the body"
    OVERLONG = "more bytes are sent than were stated"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request. Content-Length is added unless `headers` contain it or a transfer coding."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    coded: bool = False
    """True: the body is sent gzipped, with Content-Encoding."""

    @property
    def sent(self) -> bytes:
        return gzip.compress(self.body, mtime=0) if self.coded else self.body

    @property
    def fields(self) -> Mapping[str, str]:
        length = {} if self.fault is Fault.UNNOTICED else {"Content-Length": str(len(self.sent))}
        coding = {"Content-Encoding": "gzip"} if self.coded else {}
        return {**length, **coding, **self.headers}


Script = Sequence[Answer] | Callable[[Request], Answer]
"""Answers in turn, the last one for ever; or a function of the request."""


def answer_of(routes: Mapping[str, Any], turns: dict[str, int], request: Request) -> Any:
    """Return the answer to a request by a table of scripts, and count the turns of its URL."""
    url = request.url if request.url in routes else request.url.partition("?")[0]
    script = routes.get(url)
    if script is None:
        return Answer(404, b"no such route")
    if callable(script):
        return script(request)
    turn = turns.get(url, 0)
    turns[url] = turn + 1
    return script[min(turn, len(script) - 1)]


class MemoryTransport:
    """A transport with a table of answers by URL, without query unless the route has one."""

    def __init__(self, routes: Mapping[str, Script], clock: Clock) -> None:
        self.requests: list[Request] = []
        self._routes = dict(routes)
        self._requests: dict[str, int] = {}
        self._clock = clock

    async def send(self, request: Request) -> MemoryResponse:
        return MemoryResponse(self, request, await self.answer(request))

    async def close(self) -> None:
        """Do nothing: no connection is open."""

    async def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        answer: Answer = answer_of(self._routes, self._requests, request)
        host = host_of(request.url)
        if answer.fault in {Fault.REFUSED, Fault.CLOSED}:
            message = f"{host}: {answer.fault.value}."
            raise TransferError(Failure(FailureKind.NETWORK, message, host=host))
        if answer.fault is Fault.SILENT:
            await self.stall(host)
        if answer.fault is Fault.OVERLONG:
            message = f"{host} sent more bytes than its Content-Length states."
            raise TransferError(Failure(FailureKind.OVERLONG, message, host=host))
        return answer

    async def stall(self, host: str) -> None:
        await self._clock.sleep(30)
        message = f"{host} sent no data for too long."
        raise TransferError(Failure(FailureKind.STALLED, message, host=host))


class MemoryResponse:
    def __init__(self, transport: MemoryTransport, request: Request, answer: Answer) -> None:
        self._transport = transport
        self._request = request
        self._answer = answer
        self.url, self.status = request.url, answer.status
        self.headers: Mapping[str, str] = CIMultiDict(answer.fields)

    async def close(self) -> None:
        """Do nothing: no connection is open."""

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        answer = self._answer
        body = answer.sent
        if self._request.method == "HEAD" or answer.status in {204, 304}:
            body = b""
        if answer.fault in {Fault.TRUNCATED, Fault.UNNOTICED, Fault.STALLED}:
            body = body[: len(body) // 2]
        for start in range(0, len(body), size):
            yield body[start : start + size]
        host = host_of(self.url)
        if answer.fault is Fault.STALLED:
            await self._transport.stall(host)
        if answer.fault is Fault.TRUNCATED:
            message = f"{host} closed the connection before the end of the body."
            raise TransferError(Failure(FailureKind.TRUNCATED, message, host=host))
