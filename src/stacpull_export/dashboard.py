"""`mirror --dashboard`: a page that shows a run while it works.

    events of the run ─▶ Dashboard ─▶ one JSON text per second, if a browser is connected ─▶ browsers

The run never waits for the dashboard, which only listens to events; a slow browser misses states. At most 32
connections are open: another one closes the oldest. As in the report, the page loads nothing from elsewhere,
and texts of a source become text nodes only.

A loopback address needs no token, but requests must name this machine, so that no other site can read the
page through a browser (DNS rebinding). Any other address requires a token; the browser then has a cookie that
is valid for this run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import attrs
import orjson
from aiohttp import web
from msgspec.structs import asdict

from stacpull.errors import UsageError
from stacpull.events import (
    AssetFailed,
    Event,
    Listener,
    Notice,
    Progress,
    Rates,
    RunEnded,
    RunStarted,
    Stage,
    fetched,
)
from stacpull.models import FailureKind, Json
from stacpull.redact import Secret
from stacpull_export.html_page import PageTemplate, shown

_MAX_CONNECTIONS = 32
_EVERY = 1.0  # seconds between two states that a browser gets
_INTERVAL = 2.0  # seconds of an interval of the chart, until there are too many
_MAX_INTERVALS = 180
_MAX_HOSTS = 40
_MAX_COLOURS = 7  # hosts that the chart of rates shows each in a colour of its own
_MAX_SHOWN = 10  # failures and warnings that are shown, the latest
_MAX_FORM_SIZE = 4096
_PATIENCE = 0.5  # seconds that browsers have to read the last state, when the run has ended
_PAUSE = 0.05  # seconds before each answer: requests without end take little time from the run
_WRONG_TOKEN_COSTS = 1.0
_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SILENT = logging.getLogger(f"{__name__}.server")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _RateInterval(NamedTuple):
    """Bytes by host in an interval of a run, which starts at seconds since 1970."""

    started: float
    seconds: float
    hosts: Counter[str]


@asynccontextmanager
async def served_dashboard(
    address: tuple[str, int], token: Secret | None, dest: str, on_event: Listener | None
) -> AsyncIterator[Dashboard]:
    """Serve a dashboard in the block. It ends with the block; browsers then show the last state."""
    host, port = address
    name = f"[{host}]" if ":" in host else host
    names = _NAMES | {name} if ip_address(host).is_loopback else None
    if token is None and names is None:
        raise UsageError(
            f"--dashboard {name}:{port} can be reached from other machines, so it needs a token: set "
            "STACPULL_DASHBOARD_TOKEN, or leave the address out."
        )
    dashboard = Dashboard(dest, on_event)
    site = _DashboardSite(dashboard, await asyncio.to_thread(PageTemplate, "dashboard.js"), names, token)
    server = web.Server(site.handle, access_log=None, logger=_SILENT)

    def accept() -> asyncio.Protocol:
        opened = server.connections
        _abort([connection.transport for connection in opened[: max(0, len(opened) + 1 - _MAX_CONNECTIONS)]])
        return server()

    try:
        listening = await asyncio.get_running_loop().create_server(accept, host, port, backlog=8)
    except OSError as error:
        raise UsageError(
            f"--dashboard {name}:{port} cannot be used ({os.strerror(error.errno or 0)}): choose another "
            "port, or 0 for a free one."
        ) from error
    port = listening.sockets[0].getsockname()[1]
    site.cookie = f"stacpull-{port}"
    reachable = socket.gethostname() if ip_address(host).is_unspecified else name
    dashboard.url = f"http://{reachable}:{port}/"
    if on_event is not None:
        on_event(Notice("info", f"dashboard: {dashboard.url}"))
    try:
        yield dashboard
    finally:
        listening.close()
        dashboard.end()
        opened = [connection.transport for connection in server.connections]
        await server.shutdown(_PATIENCE)
        _abort(opened)


def _abort(transports: Sequence[asyncio.Transport | None]) -> None:
    for transport in transports:
        if transport is not None:
            transport.abort()


class Dashboard:
    """What a dashboard shows: a listener to the events of a run."""

    def __init__(self, dest: str, on_event: Listener | None) -> None:
        self.url = ""
        self.ended = asyncio.Event()
        self._on_event = on_event
        self._run: Json = {"dest": shown(dest), "state": "running", "source": "", "run": None}
        self._progress = Progress()
        self._stage: Stage | None = None
        self._rates = Rates()
        self._intervals: list[_RateInterval] = []
        self._since = Progress()
        """The counters at the end of the last interval."""
        self._failures: Counter[FailureKind] = Counter()
        self._failed: deque[list[str]] = deque(maxlen=_MAX_SHOWN)
        self._warnings: deque[list[str]] = deque(maxlen=_MAX_SHOWN)
        self._made = -_EVERY
        self._text = b""

    def __call__(self, event: Event) -> None:
        match event:
            case Progress():
                self._take(event)
            case Stage():
                self._stage = event
            case AssetFailed(item=item, key=key, kind=kind, message=message):
                self._failures[kind] += 1
                self._failed.append([shown(f"{item.collection}/{item.item}"), shown(key), shown(message)])
            case Notice("warning", text):
                self._warnings.append([_moment(), shown(text)])
            case RunStarted(run=run, source=source):
                self._run |= {"run": run, "source": shown(source)}
            case RunEnded(state=state):
                self._run["state"] = state
        if self._on_event is not None:
            self._on_event(event)

    def _rate_of(self, name: str) -> float:
        received = self._rates.per_second(lambda now: sum(h.bytes for h in now.hosts if h.host == name))
        return max(0.0, received)

    def _take(self, now: Progress) -> None:
        self._progress, self._stage = now, None
        self._rates.update(now)
        seconds = now.seconds - self._since.seconds
        if seconds < _INTERVAL:
            return
        before = {host.host: host.bytes for host in self._since.hosts}
        hosts = {shown(host.host): max(0, host.bytes - before.get(host.host, 0)) for host in now.hosts}
        self._intervals.append(_RateInterval(time.time() - seconds, seconds, Counter(hosts)))
        if len(self._intervals) > _MAX_INTERVALS:
            pairs = zip(self._intervals[::2], self._intervals[1::2], strict=False)
            self._intervals = [
                _RateInterval(one.started, one.seconds + other.seconds, one.hosts + other.hosts)
                for one, other in pairs
            ]
        self._since = now

    def end(self) -> None:
        if self._run["state"] == "running":
            self._run["state"] = "failed"  # before it could be recorded
        self._made = -_EVERY
        self.ended.set()

    def state(self) -> bytes:
        """Return the current state as JSON, made once per second at most."""
        now = time.monotonic()
        if now - self._made >= _EVERY:
            self._made, self._text = now, orjson.dumps(self._state())
        return self._text

    def _state(self) -> Json:
        now, is_live = self._progress, not self.ended.is_set()
        expected = now.assets_expected
        left = self._rates.remaining(now.assets_done + now.assets_failed, expected)
        waits = max((host.wait for host in now.hosts), default=0.0)
        busiest = sorted(now.hosts, key=lambda host: (-host.active, -host.queued, -host.bytes))[:_MAX_HOSTS]
        hosts = sorted(busiest, key=lambda host: -host.bytes)
        return {
            **self._run,
            "written": _moment(),
            "is_live": is_live,
            "progress": {name: value for name, value in asdict(now).items() if name != "hosts"},
            "stage": None if self._stage is None else asdict(self._stage),
            "expected": expected,
            "rate": self._rates.per_second(lambda progress: progress.bytes_fetched),
            "files_rate": self._rates.per_second(fetched),
            "left": left + waits if left is not None and is_live else None,
            "hosts": [
                {
                    **asdict(host),
                    "host": shown(host.host),
                    "rate": self._rate_of(host.host) if is_live else 0.0,
                }
                for host in hosts
            ],
            "hosts_left_out": len(now.hosts) - len(hosts),
            "rates": _rate_series(self._intervals),
            "failures": [
                [kind.meaning, number, kind.advice] for kind, number in self._failures.most_common()
            ],
            "failed": list(self._failed)[::-1],
            "warnings": list(self._warnings)[::-1],
        }


@attrs.define
class _DashboardSite:
    _dashboard: Dashboard
    _template: PageTemplate
    _names: frozenset[str] | None
    _token: Secret | None
    _session: str = attrs.field(factory=partial(secrets.token_urlsafe, 32))
    cookie: str = ""
    """The name of the cookie: other runs on this machine have their own."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(_PAUSE)
        with suppress(ConnectionError):
            return await self._answer(request)
        return web.Response(status=400)  # not read: the browser is gone

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._is_for_us(request):
            return _plain(403, "This dashboard answers to the names of its own machine only.")
        if (request.method, request.path) == ("POST", "/login"):
            return await self._login(request)
        if request.method != "GET":
            return _plain(405, "Only GET is answered.")
        if not self._is_known(request):
            return self._form(401, "This dashboard asks for a token.")
        match request.path:
            case "/":
                data = orjson.loads(self._dashboard.state())
                return self._page(data, "connect-src 'self'; form-action 'none'")
            case "/data.json":
                state = self._dashboard.state()
                return web.Response(body=state, content_type="application/json", headers=_HEADERS)
            case "/events":
                return await self._stream(request)
        return _plain(404, "There is no such page.")

    def _is_for_us(self, request: web.BaseRequest) -> bool:
        """Return True if a request names this machine and was not made by a page of another site."""
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1:
            return False
        name = re.sub(r":\d+\Z", "", hosts[0])
        if self._names is not None and name.lower() not in self._names:
            return False
        is_visit = request.path == "/" and request.method == "GET"
        return is_visit or request.headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}

    def _is_known(self, request: web.BaseRequest) -> bool:
        if self._token is None:
            return True
        with suppress(ValueError):  # not a valid cookie
            if _is_same(request.cookies.get(self.cookie, ""), self._session):
                return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and _is_same(given.strip(), self._token.reveal())

    async def _login(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read(_MAX_FORM_SIZE)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if self._token is None or not _is_same(given, self._token.reveal()):
            await asyncio.sleep(_WRONG_TOKEN_COSTS)
            return self._form(403, "That is not the token.")
        response = web.Response(status=303, headers={**_HEADERS, "Location": "/"})
        response.set_cookie(self.cookie, self._session, httponly=True, samesite="Strict", path="/")
        return response

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            is_last = self._dashboard.ended.is_set()
            await response.write(b"data: " + self._dashboard.state() + b"\n\n")
            if is_last:
                return response
            with suppress(TimeoutError):
                await asyncio.wait_for(self._dashboard.ended.wait(), _EVERY)

    def _form(self, status: int, text: str) -> web.Response:
        return self._page({"login": text}, "form-action 'self'", status)

    def _page(self, data: Json, allowed: str, status: int = 200) -> web.Response:
        body, policy = self._template.page("stacpull", data, allowed)
        headers = {**_HEADERS, "Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
        return web.Response(
            status=status, body=body, content_type="text/html", charset="utf-8", headers=headers
        )


def _is_same(given: str, wanted: str) -> bool:
    return compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=_HEADERS)


def _moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _rate_series(intervals: Sequence[_RateInterval]) -> Json:
    totals: Counter[str] = Counter()
    for interval in intervals:
        totals.update(interval.hosts)
    named = [host for host, _ in totals.most_common() if host][:_MAX_COLOURS]
    shown_hosts = [*named, ""] if len(totals) > len(named) else named
    rows: list[Any] = []
    for interval in intervals:
        counts = [interval.hosts.get(host, 0) for host in named]
        if shown_hosts != named:
            counts.append(sum(interval.hosts.values()) - sum(counts))
        rows.append([round(interval.started), max(0.1, round(interval.seconds, 1)), counts])
    return {"hosts": shown_hosts, "intervals": rows}
