"""A small HTTP server on loopback that answers exactly as a scenario defines, right or wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.net.conformance import transport
from tests.net.wire_server import ReceivedRequest, StreamServer, read_request

from stacpull.aws import AwsCredentials, AwsSettings, Credentials
from stacpull.clock import SystemClock
from stacpull.config.options import S3Options
from stacpull.net.client import Client
from stacpull.net.gate import GateSettings
from stacpull.transfer.s3 import S3Transport
from stacpull_replicas import S3Access


@dataclass(frozen=True)
class Reply:
    """What to put on the wire; `sent` is how much of the body really goes out, then `after` happens."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    framing: Literal["length", "chunked", "close"] = "length"
    sent: int | None = None
    after: Literal["close", "stall"] = "close"
    pace: float = 0.0
    """Seconds that a mebibyte takes, on one connection."""

    def wire(self) -> bytes:
        fields = dict(self.headers)
        body = self.body
        if self.framing == "length":
            fields.setdefault("Content-Length", str(len(body)))
        elif self.framing == "chunked":
            fields["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        fields["Connection"] = "close"
        head = f"HTTP/1.1 {self.status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        return head.encode() + (body if self.sent is None else body[: self.sent])


Answer = Callable[[ReceivedRequest], Reply]


@dataclass
class Thing:
    """An object on a server that does everything right; `changed` gives one that differs in some way."""

    body: bytes
    etag: str | None = '"v1"'
    modified: str | None = "Mon, 01 Jan 2024 00:00:00 GMT"
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, request: ReceivedRequest) -> Reply:
        fields = {"ETag": self.etag, "Last-Modified": self.modified, **self.headers}
        reported = {name: value for name, value in fields.items() if value is not None}
        start = request.start
        condition = request.headers.get("if-range")
        if start is None or (condition is not None and condition not in (self.etag, self.modified)):
            return Reply(200, reported, self.body)
        size = len(self.body)
        if start >= size:
            return Reply(416, {"Content-Range": f"bytes */{size}"})
        end = min(size, request.end or size)
        return Reply(
            206, reported | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, self.body[start:end]
        )

    def ignoring_if_range(self, request: ReceivedRequest) -> Reply:
        fields = {name: value for name, value in request.headers.items() if name != "if-range"}
        return self(replace(request, headers=fields))


@dataclass
class Origin:
    """A running server. `answer` may be replaced at any time; `requests` lists what came, in order."""

    url: str
    answer: Answer
    requests: list[ReceivedRequest] = field(default_factory=list)

    def once(self, answer: Answer) -> None:
        """Let `answer` take the next request only."""
        usual = self.answer

        def first(request: ReceivedRequest) -> Reply:
            self.answer = usual
            return answer(request)

        self.answer = first

    def cut(self, sent: int, after: Literal["close", "stall"] = "close") -> None:
        """Let the next answer break off after `sent` bytes of its body."""
        usual = self.answer
        self.once(lambda request: replace(usual(request), sent=sent, after=after))


@asynccontextmanager
async def origin(answer: Answer) -> AsyncIterator[Origin]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        request = await read_request(reader, number)
        served.requests.append(request)
        reply = served.answer(request)
        wire, step = reply.wire(), 1 << 20 if reply.pace else 1 << 62
        for at in range(0, len(wire), step):
            writer.write(wire[at : at + step])
            await writer.drain()
            await asyncio.sleep(reply.pace)
        if reply.after == "stall":
            await asyncio.Event().wait()

    async with StreamServer(serve) as server:
        served = Origin(server.url(""), answer)
        yield served


KEYS = Credentials("AKIDEXAMPLE", "a-secret-of-the-tests")


def given(
    endpoint_url: str | None = None, keys: Credentials = KEYS, region: str | None = None
) -> AwsCredentials:
    return AwsCredentials(AwsSettings(region, endpoint_url), credentials=keys)


@asynccontextmanager
async def client(
    credentials: AwsCredentials | None = None, s3: S3Options | None = None, *, stall_timeout: float = 20.0
) -> AsyncIterator[Client]:
    """Open a client that may speak to loopback, and to S3 if it is given credentials."""
    clock = SystemClock()
    http = transport(stall_timeout=stall_timeout)
    transports = {"http": http, "https": http}
    if credentials is not None:
        transports["s3"] = S3Transport(http, credentials, s3 or S3Options(), clock=clock)
    opened = Client(transports, GateSettings(clock, 8))
    try:
        yield opened
    finally:
        await opened.close()


def access(**rules: object) -> S3Access:
    return S3Access(KEYS.access_key, KEYS.secret_key, **rules)
