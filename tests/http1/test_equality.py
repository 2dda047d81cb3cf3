"""The fast path and the general path make the same of the same responses.

Files, failures, retries, requests, waits and the state of the gate are compared. Waits take no time.
"""

import asyncio
import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.http1.fast_transport import HELLO, fast, serving
from tests.http1.responses import BROKEN, COOKIES, OK, SOUND
from tests.transfer.part_files import no_file_in_dest, opened_parts
from tests.virtual_clock import VirtualClock

from stacpull.aws import AwsCredentials, AwsSettings, Credentials
from stacpull.clock import SystemClock
from stacpull.config.options import S3Options
from stacpull.engine.fast_path import HttpFastPath
from stacpull.engine.fetchers import SharedDownloads
from stacpull.engine.pool import JobQueue, OutcomeSink, Pool
from stacpull.models import AssetFile, Checksum, Failure, Job
from stacpull.net.client import Client
from stacpull.net.gate import GateSettings
from stacpull.net.json_reader import Document
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.sources.item_reader import ItemReader
from stacpull.transfer.attempt import Downloader
from stacpull.transfer.s3 import S3Transport


class Reply(NamedTuple):
    """The bytes of a response, sent in pieces. Then the connection is kept, closed, or silent ("stall")."""

    pieces: tuple[bytes, ...]
    then: str = "keep"


Scripts = Mapping[str, Sequence[Reply]]
"""The replies by path; the last one is repeated, and other paths get HELLO."""


class Outcome(NamedTuple):
    jobs: dict[int, Any]
    parts: dict[str, bytes]
    """Files of long bodies. Their `.about` depend on how the network cuts bytes."""
    retried: list[tuple[str, str]]
    gates: set[tuple[int, int, tuple[int, ...], float]]
    """Of hosts; unused ones are alike."""
    requests: int
    waited: float
    received: list[str]
    fetched: int


class Sink(OutcomeSink[Job, AssetFile | None]):
    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.jobs: dict[int, Any] = {}

    def put(self, job: Job, asset: AssetFile | None) -> None:
        self.jobs[job.rowid] = (asset, job.href)
        self.release_slots()

    def fail(self, job: Job, failure: Failure) -> None:
        self.jobs[job.rowid] = (failure, failure.attempts, job.href)


class CountingPath(HttpFastPath):
    taken: int = 0

    def start_transfer(self, job: Job, pool: Pool[Job, AssetFile | None]) -> bool:
        is_taken = super().start_transfer(job, pool)
        self.taken += is_taken
        return is_taken


async def both(scripts: Scripts, jobs: Sequence[Job], is_listed: bool, **how: Any) -> list[Outcome]:
    """Return the outcomes of the general path and of the fast path."""
    received: list[str] = []
    host = ""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1]
            replies = scripts.get(path.partition("?")[0], [Reply((HELLO,))])
            earlier = sum(one.split(" ", 1)[0] == path for one in received)
            received.append(f"{path} {sorted(line.partition(':')[0].lower() for line in head.splitlines())}")
            reply = replies[min(earlier, len(replies) - 1)]
            for piece in reply.pieces:
                writer.write(piece.replace(b"{host}", host.encode()))
                await writer.drain()
                if len(reply.pieces) > 1:
                    await asyncio.sleep(0.001)
            if reply.then == "stall":
                await reader.read()
            if reply.then != "keep":
                return

    outcomes = []
    async with serving(answer) as origin:
        host = origin.removeprefix("http://")
        jobs = [replace(one, href=origin + one.href if one.href[0] == "/" else one.href) for one in jobs]
        jobs = [replace(one, item_href=f"{one.href}/item") for one in jobs] if is_listed else jobs
        for is_fast in (False, True):
            received.clear()
            with TemporaryDirectory() as directory:
                outcomes.append(await outcome_of(Path(directory), origin, jobs, received, is_fast, **how))
    return outcomes


async def outcome_of(
    directory: Path, origin: str, jobs: Sequence[Job], received: list[str], is_fast: bool,
    workers: int = 1, stall_timeout: float = 10.0,
) -> Outcome:  # fmt: skip
    clock, http = VirtualClock(), fast(stall_timeout=stall_timeout)
    settings = AwsSettings("us-east-1", origin)
    aws = AwsCredentials(settings, credentials=Credentials("key", "secret"))
    s3 = S3Transport(http, aws, S3Options(endpoint_url=origin, region="us-east-1"), clock=SystemClock())
    client = Client({"http": http, "https": http, "s3": s3}, GateSettings(clock, 64), source=origin)
    no_store = cast("Any", SimpleNamespace(staged=SimpleNamespace(part_identity_and_size=lambda _: None)))
    shared = SharedDownloads(Downloader(client, await opened_parts(directory), no_file_in_dest), no_store)
    retried: list[Failure] = []
    sink, queue = Sink(workers), JobQueue[Job]()
    path = CountingPath(client, http, shared) if is_fast else None

    async def read_item(href: str) -> Any:
        clock.now += 1.0
        return Document({"assets": {"a": {"href": href.removesuffix("/item")}}}, 0, href)

    items, retries = ItemReader(read_item, clock), Retries(RetryPolicy(1, base=0.0), clock, retried.append)
    pool = Pool(queue, sink, shared, items, retries, is_worker=True, fast_path=path)
    await queue.put(jobs)
    pool.end_queue()
    try:
        async with asyncio.timeout(60):
            await pool.run()
    finally:
        await client.close()
    assert path is None or path.taken == len(jobs)
    return Outcome(
        sink.jobs,
        {file.name: file.read_bytes() for file in directory.glob("*.part")},  # noqa: ASYNC240 - all has ended
        [(str(one.kind), one.message) for one in retried],
        {
            (gate.in_use, len(gate._queue), gate._refusals["asset"], gate.window.limit)
            for gate in client.gates.values()
        },
        client.counters.requests,
        clock.now,
        received.copy(),
        client.counters.bytes_fetched,
    )


def alike(scripts: Scripts, *jobs: Job, is_listed: bool = False, **how: Any) -> Outcome:
    replies = [reply for some in scripts.values() for reply in some]
    ends = {reply.then for reply in replies}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = 0.3 if "stall" in ends else 10.0
        outcomes = runner.run(both(scripts, jobs, is_listed, stall_timeout=seconds, **how))
    if any(not any(reply.pieces) for reply in replies):  # a closed idle connection is used again for free
        outcomes = [one._replace(received=[]) for one in outcomes]
    # the end may overtake bytes, and a long body that is refused ends where the network cuts it
    is_cut = ends != {"keep"} or any(len(piece) > MAX_STEADY_SIZE for one in replies for piece in one.pieces)
    if is_cut:
        outcomes = [one._replace(fetched=0) for one in outcomes]
    general, by_fast_path = outcomes
    assert by_fast_path == general
    assert len(general.jobs) == len(jobs)
    return general


def job(rowid: int, href: str, **more: Any) -> Job:
    return Job("a", href, "c/i", "a.tif", rowid=rowid, item_rowid=rowid, generation=1, **more)


def response(body: bytes = b"hello", status: str = "200 OK", **fields: str) -> bytes:
    """Return a response with the fields, which have `_` for `-` in their names."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


BODY = b"hello world"
MD5 = hashlib.md5(BODY, usedforsecurity=False).digest()
ZEROS = base64.b64encode(bytes(32)).decode()
LONG = response(b"0123456789abcdef" * 100_000, ETag='"v1"', Accept_Ranges="bytes")
"""Longer than what is kept in memory."""
MAX_STEADY_SIZE = 256 * 1024
"""Bytes of a response that are always received together."""
PAGE = b"<!doctype html><html><body>Sign in</body></html>"
FIELDS: list[dict[str, str]] = [
    {"ETag": f'"{MD5.hex()}"'}, {"ETag": 'W/"1"'}, {"Server": "AmazonS3", "ETag": f'"{"0" * 32}"'},
    {"Content_MD5": ZEROS[:22] + "=="}, {"x_amz_checksum_sha256": ZEROS},
    {"Content_Encoding": "gzip"}, {"Content_Encoding": "identity"}, {"Content_Encoding": "br"},
    {"Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:29:00 GMT"},
    {"ETag": "", "Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
    {"Content_Type": "text/html"}, {"Connection": "close"}, {"Retry_After": "0"}, {"Upgrade": "h2c"},
]  # fmt: skip
STATUSES = ["202 A", "204 N", "206 P", "304 N", "401 U", "404 N", "429 T", "502 B", "999 X", "302 F"]
TARGETS = [
    "/c", "/\xfc", "/a", "", "ftp://h/c", "//x y", "http://{host}/c", "http://u:p@{host}/c",
    "http://0x7f000001:1/c", "http://127.0.0.1:1/c", "https://127.0.0.1:1/c", "s3://b/key",
]  # fmt: skip
REPLIES = [
    *(Reply((raw,), "close") for raw in [*SOUND, *BROKEN, OK + COOKIES + b"Content-Length: 5\r\n\r\nhello"]),
    *(Reply((response(BODY, **fields),)) for fields in FIELDS),
    *(
        Reply((response(b"" if status[:3] in {"204", "304"} else body, status),))
        for status in STATUSES
        for body in (b"", b'{"message": "why"}', b"x" * 70_000)
    ),
    *(Reply((response(b"moved", "302 F", Location=target),)) for target in TARGETS),
    *(Reply((response(b"", status, Location="/c"),)) for status in ("301 M", "303 S", "307 T", "308 P")),
    Reply((response(b"x" * 100_000, "302 F", Location="/c"),)),
    Reply((LONG,)),
    Reply((OK + b"Transfer-Encoding: chunked\r\n\r\n200000\r\n" + bytes(1 << 21) + b"\r\n0\r\n\r\n",)),
    *(Reply((LONG[:at],), "close") for at in (0, 1, 60, 500_000, 1_200_000)),
    *(Reply((LONG[:at],), "stall") for at in (0, 60, 1_200_000)),
    *(Reply((response(PAGE + more, Content_Type="text/html"),)) for more in (b"", bytes(20_000))),
]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: repr(b"".join(reply.pieces)[:60]))
def test_a_response_has_the_same_result_on_both_paths(reply: Reply) -> None:
    """One that is always the same, and one that a retry does not get again."""
    wrong = Checksum("sha256", bytes(32))
    scripts = {"/a": [reply], "/b": [reply, Reply((HELLO,))]}
    jobs = (
        job(1, "/a"),
        job(2, "/b"),
        job(3, "/c", size=3),
        job(4, "/a?4", size=11),
        job(5, "/c?5", checksum=wrong),
    )
    alike(scripts, *jobs)


@pytest.mark.parametrize("status", ["200 OK", "301 M", "307 T", "400 B", "403 F", "404 N", "503 S"])
@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "AuthorizationHeaderMalformed", "SlowDown"])
def test_an_error_of_s3_has_the_same_result_on_both_paths(status: str, code: str) -> None:
    body = f"<Error><Code>{code}</Code><Region>eu-west-1</Region></Error>".encode()
    scripts = {"/b/odd": [Reply((response(body, status, Location="/b/moved"),)), Reply((HELLO,))]}
    alike(
        scripts, *(job(n, f"s3://b/{key}") for n, key in enumerate(["a", "odd", "z%2F ?#", "odd?2", "a/b"]))
    )


@pytest.mark.parametrize("status", ["400 B", "401 U", "403 F", "200 OK"])
def test_a_refusal_of_each_of_several_requests_at_once_is_no_failure(status: str) -> None:
    page = Reply((response(PAGE, status, Content_Type="text/html"),))
    scripts = {f"/{n}": [page, Reply((HELLO,))] for n in range(5)}
    jobs = [job(n, f"/{n}", media_type="image/tiff") for n in range(5)]
    general = alike(scripts, *jobs, is_listed=True, workers=5)
    assert [asset.size for asset, _ in general.jobs.values()] == [5] * 5


def test_requests_that_begin_once_a_host_is_stable_cause_no_reading_of_items() -> None:
    scripts = {f"/{n}": [Reply((response(b"", "404 N"),))] for n in range(20)}
    general = alike(scripts, *(job(n, f"/{n}") for n in range(20)), is_listed=True, workers=5)
    assert general.waited == 5.0  # a second for each time that an item is read


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """A response, more or less well-formed, cut into pieces, perhaps cut off; never without a byte.

    Left out are bytes past the end of bodies: which of them arrive in time is up to the network.
    """
    status = draw(st.sampled_from(["200 OK"] * 22 + STATUSES))
    body = draw(st.sampled_from([b"", BODY, PAGE, gzip.compress(BODY, mtime=0), b"x" * 70_000]))
    body = b"" if status[:3] in {"204", "304"} else body
    fields = draw(st.sampled_from([{}, *FIELDS]))
    if status[0] == "3" or draw(st.integers(0, 9)) == 0:
        fields = {**fields, "Location": draw(st.sampled_from(TARGETS))}
    length = b"Content-Length: %d\r\n" % len(body)
    head, then = (
        response(body, status, **fields).partition(length)[0],
        draw(st.sampled_from(["keep"] * 3 + ["close"])),
    )
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    framings = [length + b"\r\n" + body] * 4
    if status[:3] not in {"204", "304"}:
        framings += [
            b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
            length + length + b"\r\n" + body,
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ]
        if then == "close":
            framings += [b"\r\n" + body, b"Content-Length: 80000\r\n\r\n" + body]
    raw = head + draw(st.sampled_from(framings))
    if then == "close" and draw(st.booleans()):
        raw = raw[: draw(st.integers(1, len(raw)))]
    cuts = sorted(draw(st.lists(st.integers(0, min(len(raw), 400)), max_size=3)))
    pieces = (raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if b > a)
    return Reply(tuple(pieces), then)


SCRIPTS = st.dictionaries(
    st.sampled_from(["/a", "/b", "/c"]), st.lists(replies(), min_size=1, max_size=3), min_size=1
)
WANTED = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, 5, 11])), min_size=1, max_size=4)


@given(SCRIPTS, WANTED)
def test_generated_responses_are_alike(scripts: Scripts, wanted: list[tuple[str, int | None]]) -> None:
    alike(scripts, *(job(n, f"/{name}?{n}", size=size) for n, (name, size) in enumerate(wanted)))
