import asyncio
import gzip
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.net.memory import Answer, Fault, MemoryTransport, Script
from tests.virtual_clock import VirtualClock

from stacpull.models import Failure, FailureKind
from stacpull.net.client import Client, Exchange, NetworkCounters, RequestLog
from stacpull.net.connection_errors import connection_failure
from stacpull.net.gate import MAX_REFUSALS, MAX_UNANSWERED, GateSettings
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.net.transport import Purpose, Request, TransferError
from stacpull.redact import Secrets

OK = Answer(body=b"payload")


def to(location: str | None, status: int = 302, body: bytes = b"") -> Answer:
    return Answer(status, body, {} if location is None else {"Location": location})


@dataclass
class Setting:
    """A client with servers in memory. `requests` are those they received."""

    routes: Mapping[str, Script]
    per_host: int = 4

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.transport = MemoryTransport(self.routes, self.clock)
        self.counters = NetworkCounters()
        self.client = Client(
            {"http": self.transport, "https": self.transport, "s3": self.transport},
            GateSettings(self.clock, self.per_host, is_fixed=True),
            counters=self.counters,
        )
        self.gates = self.client.gates

    @property
    def requests(self) -> list[Request]:
        return self.transport.requests

    def fetch(self, request: Request | str, **options: Any) -> tuple[bytes, Exchange]:
        async def main() -> tuple[bytes, Exchange]:
            wanted = Request(request) if isinstance(request, str) else request
            async with self.client.stream(wanted, **options) as response:
                return await response.read(1000), response

        once = Retries(RetryPolicy(0, max_uncounted_throttles=0), self.clock)
        return self.clock.run(once.run(main))

    def failure(self, request: Request | str, **options: Any) -> Failure:
        with pytest.raises(TransferError) as caught:
            self.fetch(request, **options)
        assert all(gate.in_use == 0 for gate in self.gates.values())
        return caught.value.failure


class TestRedirects:
    def test_take_one_permit_at_a_time(self) -> None:
        """With one permit per host, a hop that kept its permit would wait for ever."""
        setting = Setting({"https://api.example/a": [to("/b")], "https://api.example/b": [OK]}, per_host=1)

        async def read_body() -> bytes:
            async with setting.client.stream(Request("https://api.example/a")) as response:
                return await response.read(100)

        async def main() -> list[bytes]:
            async with asyncio.timeout(60):
                return await asyncio.gather(*(read_body() for _ in range(5)))

        assert setting.clock.run(main()) == [b"payload"] * 5
        assert setting.gates["api.example:443"].in_use == 0

    @pytest.mark.parametrize(
        ("status", "method", "after"),
        [(301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "HEAD", "HEAD"),
         (307, "POST", "POST"), (308, "POST", "POST"), (302, "HEAD", "HEAD")],
    )  # fmt: skip
    def test_keep_or_change_the_method(self, status: int, method: str, after: str) -> None:
        setting = Setting({"https://api.example/a": [to("/b", status)], "https://api.example/b": [OK]})
        setting.fetch(Request("https://api.example/a", method, body=b"{}" if method == "POST" else None))
        assert setting.requests[1].method == after
        assert setting.requests[1].body == (b"{}" if after == "POST" else None)

    def test_to_another_host_take_no_field_of_the_request_but_the_range(self) -> None:
        routes = {"https://api.example/a": [to("https://blob.example/b")], "https://blob.example/b": [OK]}
        setting = Setting(routes)
        setting.fetch(Request("https://api.example/a", headers={"Range": "bytes=5-", "X-Session": "mine"}))
        assert setting.requests[1].headers == {"Range": "bytes=5-"}


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gs://b/key",
        "/relative",
        "",
        "https:///x",
        "nonsense",
        "https://b\u00fccher.de/x",
    ],
)
def test_invalid_urls_are_scheme_failures(url: str) -> None:
    setting = Setting({})
    assert setting.failure(url).kind is FailureKind.SCHEME
    assert setting.counters.requests == 0


@pytest.mark.parametrize("status", [403, 404, 416])
def test_a_host_that_answers_with_errors_is_not_silent(status: int) -> None:
    """The unanswered requests between are retried like any others, and the host is never abandoned."""
    answers = [Answer(fault=Fault.CLOSED), Answer(status)] * MAX_UNANSWERED
    setting = Setting({"https://h.example/x": answers})
    kinds = [setting.failure("https://h.example/x").kind for _ in answers]
    assert set(kinds[::2]) == {FailureKind.NETWORK}


@pytest.mark.parametrize(
    ("status", "kind"), [(500, FailureKind.SERVER), (502, FailureKind.DOWN), (504, FailureKind.DOWN)]
)
def test_a_gateway_that_gets_no_answer_is_a_host_that_gives_none(status: int, kind: FailureKind) -> None:
    setting = Setting({"https://h.example/x": [Answer(status)]})
    found = [setting.failure("https://h.example/x").kind for _ in range(4 * MAX_UNANSWERED)]
    assert found[-1] is kind


def test_an_overloaded_gateway_gets_fewer_requests_at_once_but_no_pause() -> None:
    setting = Setting({"https://h.example/x": [OK, Answer(502)]})
    gate = setting.client.route("https://h.example/x").gate
    gate.in_use = 1  # another request: only several at once can be too many
    for _ in range(4):
        with suppress(TransferError):
            setting.fetch("https://h.example/x")
    assert (gate.window.limit, gate.closed_for()) == (2, 0.0)


def test_the_beginning_of_a_long_error_gives_its_reason() -> None:
    setting = Setting({"https://h.example/x": [Answer(403, b"no licence" + b" " * 100_000)]})
    assert setting.failure("https://h.example/x").message == "h.example answered 403 Forbidden: no licence."


def test_a_cancelled_request_releases_its_permit() -> None:
    setting = Setting({"https://h.example/x": [Answer(fault=Fault.SILENT), OK]}, per_host=1)

    async def main() -> bytes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), setting.client.stream(Request("https://h.example/x")):
                pass
        async with setting.client.stream(Request("https://h.example/x")) as response:
            return await response.read(100)

    assert setting.clock.run(main()) == b"payload"


def test_each_port_of_a_host_has_one_gate() -> None:
    client = Setting({}).client
    gate = client.route("https://h.example/a").gate
    assert client.route("http://h.example:443/b").gate is gate
    assert client.route("http://h.example/a").gate is not gate
    assert list(client.gates) == ["h.example:443", "h.example:80"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (OK, FailureKind.REFUSED),
        (to("https://blob.example/c"), FailureKind.REFUSED),
        (to("/login"), FailureKind.DOWN),
    ],
)
def test_a_success_or_a_redirect_to_another_host_ends_a_row_of_refusals(answer: Answer, kind: FailureKind):
    refusal = Answer(403)
    others = {"https://blob.example/c": [refusal], "https://h.example/login": [refusal]}
    setting = Setting({"https://h.example/x": [*[refusal] * (MAX_REFUSALS - 1), answer, refusal], **others})
    for _ in range(MAX_REFUSALS):
        with suppress(TransferError):
            setting.fetch("https://h.example/x")
    assert setting.failure("https://h.example/x").kind is kind


async def test_pages_to_log_in_at_are_refusals_too() -> None:
    setting = Setting({"https://h.example/x": [OK]})
    trouble = TransferError(Failure(FailureKind.REFUSED, "a page to log in at", 200, "h.example"))
    for _ in range(MAX_REFUSALS):
        async with setting.client.stream(Request("https://h.example/x")) as left:
            await left.close(trouble)
        failure = trouble.count_refusal(trouble.failure)
    assert "50 requests in a row with an error or" in failure.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"hello", FailureKind.FORMAT), (gzip.compress(bytes(5_000_000)), FailureKind.OVERLONG)],
)
def test_a_body_that_cannot_be_decoded_is_a_failure(body: bytes, kind: FailureKind) -> None:
    setting = Setting({"https://h.example/x": [Answer(body=body, headers={"Content-Encoding": "gzip"})]})
    assert setting.failure(Request("https://h.example/x", purpose="document")).kind is kind


def test_a_body_that_is_cut_off_counts() -> None:
    setting = Setting({"https://h.example/x": [Answer(body=bytes(900), fault=Fault.TRUNCATED)]})
    assert setting.failure("https://h.example/x").kind is FailureKind.TRUNCATED
    assert 0 < setting.counters.bytes_fetched < 900
    assert setting.gates["h.example:443"].progress().bytes == setting.counters.bytes_fetched


@pytest.mark.parametrize("purpose", ["asset", "document"])
def test_the_coding_of_a_document_is_undone_and_counts_with_its_size_on_the_wire(purpose: Purpose) -> None:
    page = Answer(203, b" " * 900, coded=True)
    setting = Setting({"https://h.example/x": [page]})
    fetched = setting.fetch(Request("https://h.example/x", purpose=purpose))[0]
    assert fetched == (page.body if purpose == "document" else page.sent)
    assert setting.counters.bytes_fetched == len(page.sent) < 100


def test_each_line_of_the_log_is_written_at_once(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log", Secrets())
    log.write("GET", "http://a.example/b", 200, 5, 0.1, "")
    assert (tmp_path / "log").read_text().endswith(" GET 200 5 100 http://a.example/b\n")
    log.close()


def test_a_bucket_whose_host_does_not_exist_has_advice() -> None:
    message = connection_failure(socket.gaierror(), "b.s3.mars.amazonaws.com").message
    assert "could not be looked up. Check --region; another S3 service needs --endpoint-url." in message
