"""The sender of requests to a bucket, on servers that answer as no S3 should, and over TLS."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.session import Session
from scripts.benchmarks.authority import certificate

from stacpull.errors import CredentialsError, DestinationError
from stacpull.models import BucketLocation, CopySource
from stacpull.net.retry import RetryPolicy
from stacpull.proxies import Proxy
from stacpull.s3_endpoint import Endpoint, endpoint_of
from stacpull.sigv4 import Credentials
from stacpull.store import bucket_requests as module
from stacpull.store import bucket_service
from stacpull.store.bucket_requests import (
    BotocoreRequests,
    BucketRequests,
    FilePiece,
    ObjectReply,
    ObjectRequest,
)
from stacpull.store.bucket_service import BucketService
from stacpull.store.s3_bucket import S3Bucket

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: x\r\n\r\n"
Conversation = Callable[[socket.socket, int], None]


class RawServer:
    """Answers each connection with `talk`; the bytes received are in `received`."""

    def __init__(self, talk: Conversation, context: ssl.SSLContext | None = None) -> None:
        self._talk = talk
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                found, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(found)
            threading.Thread(target=self._serve, args=(found, self.connections), daemon=True).start()

    def _serve(self, found: socket.socket, number: int) -> None:
        try:
            if self._context is not None:
                found = self._context.wrap_socket(found, server_side=True)
            self._talk(found, number)
        except OSError:
            pass
        finally:
            found.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # it ends the thread that accepts
        self._listening.close()
        for one in self._open:
            one.close()


def request_of(found: socket.socket) -> tuple[bytes, bytes]:
    """Return the head and the body of the next request."""

    def more() -> bytes:
        received = found.recv(65536)
        if not received:
            raise ConnectionError
        return received

    data = b""
    while b"\r\n\r\n" not in data:
        data += more()
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += more()
    return head, body


def answering(*answers: bytes, ends: bool = False) -> Conversation:
    """Answer one request after the other on each connection; the last answer again and again."""

    def talk(found: socket.socket, number: int) -> None:
        del number
        count = 0
        while True:
            request_of(found)
            found.sendall(answers[min(count, len(answers) - 1)])
            count += 1
            if ends and count == len(answers):
                return

    return talk


@contextmanager
def sender(port: int, context: ssl.SSLContext | None = None) -> Iterator[BucketRequests]:
    host = f"127.0.0.1:{port}"
    endpoint = Endpoint(f"http{'s' if context else ''}://{host}", host, "/bucket/", "us-east-1")
    with closing(BucketRequests(endpoint, lambda: Credentials("key", "secret"), context)) as found:
        yield found


def sent(talk: Conversation, requests: Sequence[ObjectRequest]) -> list[ObjectReply | None]:
    with closing(RawServer(talk)) as server, sender(server.port) as found:
        return found.send(requests)


def put(body: bytes = b"abc", key: str = "a/b") -> ObjectRequest:
    return ObjectRequest("PUT", key, {}, body, hashlib.sha256(body).hexdigest())


HEAD = ObjectRequest("HEAD", "a/b")


@pytest.mark.parametrize(
    ("request_", "answers", "status"),
    [
        (put(), [OK], 200),
        (put(), [b"HTTP/1.1 100 Continue\r\n\r\n" + OK], 200),
        (put(), [b"HTTP/1.0 200 OK\r\n\r\n"], 200),
        (put(), [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"], 200),
        (put(), [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore than was announced"], None),
        (put(), [b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 4\r\n\r\n<a/>"], 412),
        (put(), [b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\n\r\n<Error/>"], 503),
        (put(), [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99999999\r\n\r\n<Error/>"], 403),
        (HEAD, [b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"], 200),
        (HEAD, [b"HTTP/1.1 404 Not Found\r\nContent-Length: 200\r\n\r\n"], 404),
        (ObjectRequest("DELETE", "a"), [b"HTTP/1.1 204 No Content\r\n\r\n"], 204),
        (put(), [b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], None),
        (put(), [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], None),
        (put(), [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000], None),
        (put(), [b"HTTP/1.1 999 What\r\n\r\n"], None),
    ],
    ids=lambda value: str(value)[:60],
)
def test_replies_of_a_server_are_read(
    request_: ObjectRequest, answers: list[bytes], status: int | None
) -> None:
    for reply in sent(answering(*answers), [request_] * 3):
        assert (reply.status if reply is not None else None) == status


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (INTERIM * 1500 + OK, 200),
        (INTERIM * 50_000 + OK, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 6000 + b"\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", None),
    ],
    ids=["interim", "interim without end", "long number", "negative number"],
)
def test_no_reply_raises_in_the_event_loop(
    answer: bytes, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop would print a traceback: a recursion for each interim reply, a number of too many digits."""
    (reply,) = sent(answering(answer), [put()])
    assert (reply.status if reply is not None else None) == status
    assert not caplog.records


@pytest.mark.parametrize("piece", [INTERIM, b"1\r\na\r\n"], ids=["interim", "chunks"])
def test_an_endless_reply_in_small_pieces_is_abandoned(piece: bytes) -> None:
    """It was looked at from its beginning for each of them, and the connection was never silent."""
    pieces = 0

    def talk(found: socket.socket, _: int) -> None:
        nonlocal pieces
        request_of(found)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.settimeout(0.0001)
        if piece is not INTERIM:
            found.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            found.sendall(piece)
            pieces += 1
            with suppress(TimeoutError):  # so that each piece is sent alone
                found.recv(1)

    assert sent(talk, [ObjectRequest("POST", "key", query="uploads=")]) == [None]
    assert pieces < 100_000


def test_an_answer_in_single_bytes_is_read() -> None:
    def talk(found: socket.socket, number: int) -> None:
        del number
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            request_of(found)
            for byte in b'HTTP/1.1 412 No\r\nContent-Length: 5\r\nETag: "e"\r\n\r\nabcde':
                found.sendall(bytes([byte]))

    replies = sent(talk, [put()] * 200)
    assert {(reply.status, reply.headers["etag"]) for reply in replies if reply} == {(412, '"e"')}
    assert None not in replies


def test_replies_come_in_the_order_of_the_requests() -> None:
    def talk(found: socket.socket, number: int) -> None:
        del number
        while True:
            head, body = request_of(found)
            assert head.startswith(b"PUT /bucket/k%C3%A4y/" + body + b" HTTP/1.1\r\n")
            found.sendall(OK.replace(b"x", body))

    replies = sent(talk, [put(str(number).encode(), f"käy/{number}") for number in range(500)])
    assert [reply.headers["etag"] for reply in replies if reply] == [str(number) for number in range(500)]


def test_connections_are_kept_and_lost_ones_are_replaced() -> None:
    with closing(RawServer(answering(OK))) as server, sender(server.port) as found:
        for _ in range(3):
            assert None not in found.send([put()] * 100)
        assert server.connections <= module.CONNECTIONS
    with closing(RawServer(answering(OK, OK, ends=True))) as server, sender(server.port) as found:
        for _ in range(20):
            assert None not in found.send([put()] * 10)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_a_connection_that_ends_gives_no_reply(answer: bytes) -> None:
    def talk(found: socket.socket, number: int) -> None:
        del number
        request_of(found)
        found.sendall(answer)

    assert sent(talk, [put()] * 150) == [None] * 150


def test_a_silent_server_gives_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.2)
    monkeypatch.setattr(module, "_TURN", 0.1)
    ended = threading.Event()

    def talk(found: socket.socket, number: int) -> None:
        del number
        request_of(found)
        ended.wait()

    assert sent(talk, [put()] * 3) == [None] * 3
    ended.set()


def test_a_server_that_is_not_there_gives_no_reply() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with sender(port) as found:
        assert found.send([put()] * 100) == [None] * 100
        assert found.send([put()]) == [None]


def test_a_sender_whose_loop_did_not_start_starts_it_for_the_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> asyncio.Runner:
        raise OSError(errno.EMFILE, "too many open files")

    with closing(RawServer(answering(OK))) as server, sender(server.port) as found:
        with monkeypatch.context() as patched:
            patched.setattr(module, "loop_runner", fail)
            for _ in range(2):
                with pytest.raises(OSError, match="too many open files"):
                    found.send([put()])
        (reply,) = found.send([put()])
        assert reply is not None
    with sender(1) as found, monkeypatch.context() as patched:
        patched.setattr(module, "loop_runner", fail)
        with pytest.raises(OSError, match="too many open files"):
            found.send([put()])
        found.close()


@pytest.mark.parametrize("is_started", [False, True])
def test_requests_that_are_signed_while_the_sender_closes_get_no_reply(is_started: bool) -> None:
    with closing(RawServer(answering(OK))) as server, sender(server.port) as found:
        replies = found.send([put()] if is_started else [])
        assert len(replies) == is_started

        def closes() -> Credentials:
            found.close()
            return Credentials("key", "secret")

        found._credentials = closes
        assert found.send([put()] * 100) == [None] * 100
        assert found._thread is None


def test_closing_a_sender_leaves_no_thread_waiting() -> None:
    for _ in range(20):
        with (
            closing(RawServer(answering(OK))) as server,
            sender(server.port) as found,
            ThreadPoolExecutor(4) as threads,
        ):
            sending = [threads.submit(found.send, [put()] * 80) for _ in range(4)]
            found.close()
            assert [len(one.result(10)) for one in sending] == [80] * 4


def test_pieces_of_a_file_are_sent(tmp_path: Path) -> None:
    data = bytes(range(256)) * (20 << 10)
    (tmp_path / "file").write_bytes(data)
    came: list[bytes] = []

    def talk(found: socket.socket, number: int) -> None:
        del number
        while True:
            _, body = request_of(found)
            came.append(body)
            found.sendall(OK)

    with (tmp_path / "file").open("rb") as file:
        pieces = [FilePiece(file, offset, 1 << 20) for offset in range(0, len(data), 1 << 20)]
        requests = [ObjectRequest("PUT", "a", {}, piece) for piece in pieces]
        assert None not in sent(talk, requests)
        assert sorted(came) == sorted(data[one.offset : one.offset + one.size] for one in pieces)
        shorter = ObjectRequest("PUT", "a", {}, FilePiece(file, len(data) - 5, 50))
        assert sent(talk, [shorter]) == [None]


def test_a_refusal_in_the_middle_of_a_body_is_read_or_lost(tmp_path: Path) -> None:
    """A server need not read what it refuses."""
    (tmp_path / "file").write_bytes(bytes(32 << 20))

    def talk(found: socket.socket, number: int) -> None:
        del number
        found.recv(1000)
        found.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")

    with (tmp_path / "file").open("rb") as file:
        for reply in sent(talk, [ObjectRequest("PUT", "a", {}, FilePiece(file, 0, 32 << 20))] * 2):
            assert reply is None or reply.status == 503


def test_requests_go_over_tls_to_a_server_that_is_trusted(tmp_path: Path) -> None:
    made = certificate(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server, made.key)
    trusting = ssl.create_default_context(cafile=str(made.authority))
    with closing(RawServer(answering(OK), context)) as server:
        with sender(server.port, trusting) as found:
            assert [reply.status for reply in found.send([put(b"x" * 100_000)] * 200) if reply] == [200] * 200
        with sender(server.port, ssl.create_default_context()) as found:
            assert found.send([put()] * 3) == [None] * 3


def test_many_threads_may_send() -> None:
    def talk(found: socket.socket, number: int) -> None:
        del number
        while True:
            _, body = request_of(found)
            found.sendall(OK.replace(b"x", body))

    wrong: list[str] = []
    with closing(RawServer(talk)) as server, sender(server.port) as found:

        def work(name: str) -> None:
            for number in range(20):
                body = f"{name}-{number}"
                (reply,) = found.send([put(body.encode())])
                if reply is None or reply.headers["etag"] != body:
                    wrong.append(body)

        threads = [threading.Thread(target=work, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("bucket", "endpoint_url", "region"),
    [
        ("bucket", "http://127.0.0.1:9000", "us-east-1"),
        ("bucket", "https://[::1]:443/base", "x"),
        ("bucket", None, "us-east-1"),
        ("bucket", None, "eu-central-1"),
        ("bucket.with.dots", None, "eu-central-1"),
        ("bucket", None, "cn-north-1"),
        ("bucket", None, "us-gov-west-1"),
    ],
)
def test_request_urls_equal_those_of_botocore(
    bucket: str, endpoint_url: str | None, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    session = Session()
    style = {"addressing_style": "path" if endpoint_url else "auto"}
    config = Config(signature_version="s3v4", s3=style, retries={"total_max_attempts": 1})
    s3 = session.create_client("s3", region, endpoint_url=endpoint_url, config=config)
    sent: list[str] = []

    def not_sent(request: Any, **_: object) -> None:
        sent.append(request.url)
        raise InterruptedError

    s3.meta.events.register("before-send.s3.HeadObject", not_sent)
    with pytest.raises(InterruptedError):
        s3.head_object(Bucket=bucket, Key="k")
    url = urlsplit(sent[0])
    endpoint = endpoint_of(bucket, region, endpoint_url)
    host = url.netloc.removesuffix(":443").replace("s3.amazonaws.com", "s3.us-east-1.amazonaws.com")
    assert (endpoint.host, endpoint.path + "k") == (host, url.path)
    location = BucketLocation(bucket, "", endpoint_url, region)
    sender = BucketService(location).sender(location)
    assert isinstance(sender, BucketRequests)
    assert sender.endpoint == endpoint


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment, and no shared files."""
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({}, "s3.eu-west-1.amazonaws.com"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "s3-fips.eu-west-1.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "s3.dualstack.eu-west-1.amazonaws.com"),
        ({"AWS_CONFIG_FILE": "accelerated"}, "s3-accelerate.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_RETRY_MODE": "x"}, "s3.eu-west-1.amazonaws.com"),
    ],
)
def test_requests_to_amazon_go_to_the_configured_kind_of_endpoint(
    environ: dict[str, str], host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The location of a mirror has no endpoint if it is Amazon, whatever the environment names now."""
    (tmp_path / "accelerated").write_text("[default]\ns3 =\n  use_accelerate_endpoint = true\n")
    monkeypatch.chdir(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    location = BucketLocation("bucket", region="eu-west-1")
    found = BucketService(location).sender(location)
    assert isinstance(found, BucketRequests)
    assert found.endpoint == Endpoint(f"https://bucket.{host}", f"bucket.{host}", "/", "eu-west-1")


@pytest.mark.usefixtures("keys")
def test_requests_through_a_proxy_are_left_to_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    location = BucketLocation("bucket", region="us-east-1")
    with closing(BucketService(location).sender(location)) as found:
        assert isinstance(found, BotocoreRequests)
        assert found.send([HEAD, put()]) == [None, None]


@pytest.mark.usefixtures("keys")
def test_requests_through_a_proxy_get_no_reply_once_the_sender_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread closes a sender if its bucket is in another region."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    location = BucketLocation("bucket", region="us-east-1")
    found = BucketService(location).sender(location)
    found.close()
    assert found.send([HEAD, put()]) == [None, None]


@pytest.mark.usefixtures("keys")
def test_a_directory_bucket_is_refused() -> None:
    bucket = S3Bucket(BucketLocation("bucket--use1-az4--x-s3", region="us-east-1"))
    with pytest.raises(DestinationError, match="is in a directory bucket"):
        bucket.head("a")


@pytest.mark.usefixtures("keys")
def test_a_bucket_in_another_region_is_followed() -> None:
    """Requests that are sent together are answered, and those that follow are signed for its region."""
    moved = b"HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n"
    signed: list[bytes] = []

    def talk(found: socket.socket, number: int) -> None:
        del number
        while True:
            head, _ = request_of(found)
            signed.append(head.partition(b"/s3/aws4_request")[0].rpartition(b"/")[2])
            found.sendall(GONE if signed[-1] == b"eu-west-1" else moved)

    with closing(RawServer(talk)) as server, closing(bucket_at(server)) as bucket:
        assert [reply.status for reply in bucket.send([HEAD] * 2) if reply] == [301] * 2
        assert bucket.head("a") is None
        assert bucket.head("b") is None
        assert [reply.status for reply in bucket.send([HEAD] * 2) if reply] == [404] * 2
    assert signed == [b"us-east-1"] * 3 + [b"eu-west-1"] * 4


UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
GONE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def impatient(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is sent four times, without pauses."""
    monkeypatch.setattr(bucket_service, "_RETRIES", RetryPolicy(retries=3, base=0.0, free_throttles=0))


class ClosingBucket(S3Bucket):
    """A bucket that closes its connections."""

    def close(self) -> None:
        self.service.close()


def bucket_at(server: RawServer) -> ClosingBucket:
    return ClosingBucket(BucketLocation("bucket", "", f"http://127.0.0.1:{server.port}", "us-east-1"))


@pytest.mark.usefixtures("impatient")
def test_a_request_is_repeated_although_its_first_attempt_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_service, "_PATIENCE", 0.5)
    received: list[int] = []

    def talk(found: socket.socket, number: int) -> None:
        while True:
            request_of(found)
            received.append(number)
            if len(received) == 1:
                threading.Event().wait(0.7)
            found.sendall(UNAVAILABLE if len(received) < 4 else GONE)

    with closing(RawServer(talk)) as server, closing(bucket_at(server)) as bucket:
        assert bucket.head("a") is None
    assert len(received) == 4


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_alone", [True, False])
def test_requests_are_repeated_again_once_the_service_has_replied(is_alone: bool) -> None:
    replies = [UNAVAILABLE] * 4 + [GONE] + [UNAVAILABLE] * 3 + [GONE]

    def talk(found: socket.socket, number: int) -> None:
        del number
        while True:
            request_of(found)
            found.sendall(replies.pop(0))

    with closing(RawServer(talk)) as server, closing(bucket_at(server)) as bucket:
        with pytest.raises(DestinationError):
            bucket.head("a")
        if is_alone:
            assert bucket.head("b") is None
        else:
            assert [reply.status for reply in bucket.send([HEAD]) if reply] == [404]
        assert bucket.head("c") is None
    assert replies == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_silent", [False, True])
def test_a_failed_service_is_not_retried_as_long_again(
    is_silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends still releases its lease and aborts its uploads: each would take as long again."""
    reason = "cannot be reached" if is_silent else "503"
    hint = "`stacpull resume`" if is_silent else "Run the command again later"
    received: list[int] = []

    def talk(found: socket.socket, number: int) -> None:
        while True:
            request_of(found)
            received.append(number)
            if is_silent:
                return
            found.sendall(UNAVAILABLE)

    with closing(RawServer(talk)) as server, closing(bucket_at(server)) as bucket:
        counts = []
        for path in ("a", "b", "c"):
            with pytest.raises(DestinationError, match=f"{reason}.* {hint}"):
                bucket.head(path)
            counts.append(len(received))
            received.clear()
        bucket.service.failing_until = 0.0
        monkeypatch.setattr(bucket_service, "_PATIENCE", -1.0)
        with pytest.raises(DestinationError, match=f"{reason}.* {hint}"):
            bucket.located(CopySource("s3://other/d", ""))[0].head("d")
        counts.append(len(received))
    assert counts == [4, 1, 1, 1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("is_tls", "attempts", "message"),
    [(True, 1, "name its authority with --ca-bundle"), (False, 4, "cannot be reached")],
)
def test_a_certificate_that_is_not_trusted_is_final_and_another_error_of_tls_is_not(
    is_tls: bool, attempts: int, message: str, tmp_path: Path
) -> None:
    made = certificate(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server, made.key)

    def talk(found: socket.socket, _number: int) -> None:
        found.recv(1)  # without TLS, what comes has no end
        found.sendall(OK)

    with closing(RawServer(talk, context if is_tls else None)) as server:
        location = BucketLocation("bucket", "", f"https://127.0.0.1:{server.port}", "us-east-1")
        with closing(ClosingBucket(location)) as bucket, pytest.raises(DestinationError, match=message):
            bucket.head("a")
        assert server.connections == attempts


def reply_of(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


EXPIRED = reply_of(b"<Error><Code>ExpiredToken</Code></Error>").replace(b"200 OK", b"400 Bad Request")


@pytest.mark.usefixtures("impatient")
def test_expired_credentials_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has renewed them in the shared file. If they are the same, the request fails."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    used: list[bytes] = []

    def write(key: str) -> None:
        (tmp_path / "credentials").write_text(
            f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n"
        )

    def talk(found: socket.socket, number: int) -> None:
        del number
        while True:
            head, _ = request_of(found)
            used.append(head.partition(b"Credential=")[2].partition(b"/")[0])
            found.sendall(EXPIRED if used[-1] == b"old" else reply_of(b"content"))

    write("old")
    with closing(RawServer(talk)) as server, closing(bucket_at(server)) as bucket:
        get = ObjectRequest("GET", "a")
        with pytest.raises(CredentialsError, match="ExpiredToken"):
            bucket.request(get, "read")
        write("new")
        assert bucket.request(get, "read").body == b"content"
    assert used == [b"old", b"old", b"new"]


@pytest.mark.usefixtures("impatient")
def test_expired_credentials_that_another_request_has_renewed_are_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests are sent with an expired token. One of the replies comes after the other's renewal."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    is_waiting, is_renewed = threading.Event(), threading.Event()

    def write(key: str) -> None:
        (tmp_path / "credentials").write_text(
            f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n"
        )

    def talk(found: socket.socket, number: int) -> None:
        del number
        while True:
            head, _ = request_of(found)
            if b"Credential=old/" not in head:
                found.sendall(reply_of(b"content"))
                continue
            if b"/late " in head:
                is_waiting.set()
                is_renewed.wait(10)
            found.sendall(EXPIRED)

    write("old")
    with (
        closing(RawServer(talk)) as server,
        closing(bucket_at(server)) as bucket,
        ThreadPoolExecutor(1) as threads,
    ):
        late = threads.submit(bucket.request, ObjectRequest("GET", "late"), "read")
        assert is_waiting.wait(10)
        write("new")
        assert bucket.request(ObjectRequest("GET", "a"), "read").body == b"content"
        is_renewed.set()
        assert late.result().body == b"content"


@pytest.mark.usefixtures("impatient")
def test_a_request_is_repeated_after_the_time_that_the_service_names(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(bucket_service.time, "sleep", waits.append)
    busy = UNAVAILABLE.replace(b"Content", b"Retry-After: 7\r\nContent")
    with closing(RawServer(answering(busy, GONE))) as server, closing(bucket_at(server)) as bucket:
        assert bucket.head("a") is None
    assert waits == [7.0]


@pytest.mark.usefixtures("impatient")
def test_an_error_in_a_reply_that_began_well_is_repeated() -> None:
    """S3 sends the status of a copy and of a completion before it has done them."""
    failed = reply_of(b"<Error><Code>InternalError</Code></Error>")
    copied = reply_of(b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>")
    with closing(RawServer(answering(failed, copied))) as server, closing(bucket_at(server)) as bucket:
        bucket.copy("a", CopySource("s3://bucket/b", "e"), {})
    with (
        closing(RawServer(answering(failed))) as server,
        closing(bucket_at(server)) as bucket,
        pytest.raises(DestinationError, match="InternalError"),
    ):
        bucket.copy("a", CopySource("s3://bucket/b", "e"), {})


@pytest.mark.parametrize(("size", "is_given"), [((8 << 20), True), ((8 << 20) + 1, False)])
def test_a_long_document_is_read(size: int, is_given: bool) -> None:
    """A listing of long keys has several MiB."""
    body = bytes(range(256)) * (size >> 8) + bytes(size & 255)
    (reply,) = sent(answering(reply_of(body)), [ObjectRequest("GET", "a/b")])
    assert reply is not None
    assert reply.body == (body if is_given else None)


@pytest.mark.parametrize("request_", [ObjectRequest("GET", "a/b"), put()])
def test_a_reply_whose_end_is_that_of_the_connection_is_read(request_: ObjectRequest) -> None:
    """The server sends no length. The body is read if it matters."""

    def talk(found: socket.socket, _: int) -> None:
        request_of(found)
        found.sendall(b"HTTP/1.0 200 OK\r\n\r\nabc")

    (reply,) = sent(talk, [request_])
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"abc" if request_.method == "GET" else None)


def test_the_body_of_a_reply_is_given_if_it_is_short() -> None:
    get = ObjectRequest("GET", "a/b")
    for answer, body in (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\nabc", None),
    ):
        assert [reply.body for reply in sent(answering(answer), [get]) if reply] == [body]


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (chunked(b"<a/>", b""), (200, b"<a/>")),
        (chunked(b" " * 300, b"<a>", b"</a>", b""), (200, b" " * 300 + b"<a></a>")),
        (chunked(b""), (200, b"")),
        (chunked(b"<a/>", b"").replace(b"200 OK", b"404 Not Found"), (404, b"<a/>")),
        (chunked(b"<a/>").replace(b"4\r\n", b"4;name=value\r\n") + b"0\r\n\r\n", (200, b"<a/>")),
        (chunked(b"<a/>") + b"0\r\nTrailer: x\r\n\r\n", (200, b"<a/>")),
        (chunked(b"<a/>") + b"x\r\n", None),
        (chunked(b"<a/>", b"").replace(b"<a/>\r\n", b"<a/>xy"), None),
        (chunked(b"x" * ((8 << 20) + 1), b""), (200, None)),
        (chunked(b"<a/>", b"").replace(b"chunked", b"gzip, chunked"), None),
    ],
)
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_reply_in_chunks_is_read_if_it_is_well_formed(
    reply: bytes, expected: tuple[int, bytes | None] | None, is_torn: bool
) -> None:
    def talk(connection: socket.socket, _: int) -> None:
        connection.recv(1 << 16)
        for piece in [reply[at : at + 7] for at in range(0, len(reply), 7)] if is_torn else [reply]:
            connection.sendall(piece)
        connection.recv(1)

    if is_torn and len(reply) > 1 << 16:
        return
    (found,) = sent(talk, [ObjectRequest("POST", "key", query="uploads=")])
    assert (None if found is None else (found.status, found.body)) == expected


def send_ranges(found: socket.socket, content: bytes, *, status: int, is_whole: bool) -> None:
    """Answer requests for ranges of `content`, or with the whole of it."""
    while True:
        head, _ = request_of(found)
        first, _, last = head.partition(b"range: bytes=")[2].partition(b"\r\n")[0].partition(b"-")
        body = content if is_whole else content[int(first) : int(last) + 1]
        place = b"" if is_whole else b"Content-Range: bytes %s-%s/%d\r\n" % (first, last, len(content))
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        found.sendall(b"HTTP/1.1 %d OK\r\n%s%s%s" % (status, place, length, body))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("status", "is_whole", "size"),
    [(206, False, 9 << 20), (200, False, 9 << 20), (200, True, 3 << 20), (200, True, 100)],
)
def test_objects_are_read_by_ranges(status: int, is_whole: bool, size: int) -> None:
    """rclone sends a range with status 200. Other servers ignore it, and send a short object as a whole."""
    content = bytes(range(250)) * (size // 250 + 1)

    def talk(found: socket.socket, _: int) -> None:
        send_ranges(found, content, status=status, is_whole=is_whole)

    with (
        closing(RawServer(talk)) as server,
        closing(bucket_at(server)) as bucket,
        bucket.open("a", len(content), "e") as file,
    ):
        assert file.read() == content
        file.seek(size // 3)
        assert file.read(1000) == content[size // 3 :][:1000]


@pytest.mark.usefixtures("impatient")
def test_a_long_object_of_a_server_that_ignores_ranges_is_not_read() -> None:
    content = bytes(9 << 20)

    def talk(found: socket.socket, _: int) -> None:
        send_ranges(found, content, status=200, is_whole=True)

    with (
        closing(RawServer(talk)) as server,
        closing(bucket_at(server)) as bucket,
        bucket.open("a", len(content), "e") as file,
        pytest.raises(DestinationError, match="its server does not send ranges of objects"),
    ):
        file.read()


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(("offset", "size", "is_read"), [(0, 5_000_000, False), (1000, 1_000_000, True)])
def test_a_whole_file_is_sent_through_a_proxy_in_blocks(
    offset: int, size: int, is_read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 32 files of 64 MiB are sent at once: they must not be in memory."""
    data = bytes(range(250)) * 20_000
    (tmp_path / "file").write_bytes(data)
    reads: list[FilePiece] = []
    read, came = FilePiece.read, list[bytes]()

    def counted(piece: FilePiece) -> bytes:
        reads.append(piece)
        return read(piece)

    def talk(found: socket.socket, _: int) -> None:
        while True:
            came.append(request_of(found)[1])
            found.sendall(OK)

    monkeypatch.setattr(FilePiece, "read", counted)
    endpoint = Endpoint("http://bucket.example", "bucket.example", "/bucket/", "us-east-1")
    with closing(RawServer(talk)) as server, (tmp_path / "file").open("rb") as file:
        proxy = Proxy(f"http://127.0.0.1:{server.port}", "http_proxy")
        given = ObjectRequest("PUT", "a", {}, FilePiece(file, offset, size))
        with closing(BotocoreRequests(endpoint, lambda: Credentials("k", "s"), None, proxy)) as found:
            for _ in range(2):
                assert [reply.status for reply in found.send([given]) if reply] == [200]
    assert came == [data[offset : offset + size]] * 2
    assert bool(reads) is is_read
