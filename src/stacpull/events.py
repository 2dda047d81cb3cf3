"""The events that a run reports. Progress bars, the log file and notebooks get these values.

`Progress` is sent a few times per second, regardless of the number of assets; other events when they happen.
The events with a `tag` also pass between the processes of a run (`engine.messages`).
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec.structs import replace

from stacpull.models import FailureKind, ItemId, PublicValue
from stacpull.redact import Secrets

DamageKind = Literal["missing", "short", "altered", "unknown", "obstructed", "unreadable"]
"""`obstructed`: a link, directory or device has the name of a file."""


class RunStarted(PublicValue, frozen=True):
    """A run starts, or resumes (`resumed`). `source` contains no credentials."""

    run: int
    source: str
    resumed: bool


class HostProgress(PublicValue, frozen=True):
    """The state of the requests to one host (`host:port`, or `s3://bucket`)."""

    host: str
    bytes: int = 0
    """Bytes that this command received from the host."""
    active: int = 0
    """Requests in flight."""
    limit: int = 0
    """The current limit of simultaneous requests."""
    queued: int = 0
    """Requests that wait for another one to end."""
    wait: float = 0.0
    """Seconds of a pause, because the host throttles or does not answer; 0 if nothing waits for its end."""


class Counters(PublicValue, frozen=True):
    """The counters of a run and of its report (docs/json.md). Sizes in bytes, times in seconds.

    `assets_planned` = `assets_done` + `assets_failed` + `assets_pending`. `assets_done` includes
    `assets_skipped` (done before), and `assets_failed` includes `assets_missing` (gone: 404, 410).
    """

    items_seen: int = 0
    items_matched: int = 0
    items_done: int = 0
    assets_planned: int = 0
    assets_done: int = 0
    assets_skipped: int = 0
    assets_failed: int = 0
    assets_missing: int = 0
    assets_pending: int = 0
    bytes_done: int = 0
    bytes_fetched: int = 0
    seconds: float = 0.0
    requests: int = 0
    retries: int = 0


class Progress(Counters, frozen=True):
    """The progress of a run: the counters of its selection (docs/json.md)."""

    items_announced: int | None = None
    """Items that all collections announce; None if one announces none, or until the last one begins."""
    items_wanted: int | None = None
    """The maximum number of items (`--max-items`, `--sample`); None for no maximum."""
    hosts: tuple[HostProgress, ...] = ()
    files_in_flight: float = 0.0
    """The sum of the received shares, from 0 to 1, of long files that are being received."""
    walk_ended: bool = False
    noun: str = "file"  # or header

    @property
    def assets_expected(self) -> int | None:
        """The number of assets at the end: an estimate until the walk has ended; None if none is possible."""
        if self.walk_ended:
            return self.assets_planned
        parts = ((self.items_seen, self.items_announced), (self.items_matched, self.items_wanted))
        share = max((number / total for number, total in parts if total), default=0.0)
        if share == 0:
            return None
        return max(self.assets_planned, round(self.assets_planned / min(1.0, share)))


class Notice(PublicValue, frozen=True, tag=True):
    """Something the user should know. `text` is one plain sentence without credentials."""

    level: Literal["debug", "info", "warning"]
    text: str


class AssetFailed(PublicValue, frozen=True, tag=True):
    """An asset failed for good in this run (`retry` tries it again)."""

    item: ItemId
    key: str
    kind: FailureKind
    message: str


class ItemGone(PublicValue, frozen=True):
    """An item no longer exists at the source, and was `removed` or kept (`--prune`). `assets`: its files."""

    item: ItemId
    assets: int
    bytes: int
    removed: bool


class RunEnded(PublicValue, frozen=True):
    """The run has ended; `state` is its state in the ledger, `counts` are the counters of its report."""

    run: int
    state: Literal["complete", "interrupted", "failed"]
    counts: Mapping[str, float] = {}


class Checked(PublicValue, frozen=True):
    """The progress of `verify`: files and bytes checked, and those expected."""

    files: int
    bytes: int
    damaged: int
    seconds: float
    files_expected: int | None = None
    bytes_expected: int | None = None


class Damage(PublicValue, frozen=True):
    """A file in DEST that differs from the ledger. `path` is relative to DEST.

    `expected` and `found` are descriptions in words: "12345 bytes, sha256 0f…", "a link", "nothing".
    """

    path: str
    what: DamageKind
    expected: str
    found: str
    collection: str | None = None
    item: str | None = None
    key: str | None = None
    """The asset's key, empty for an item's JSON; None for a catalog or an unknown file."""


class Stage(PublicValue, frozen=True, tag=True):
    """A phase of a command other than the transfer. `total` is None if the number of steps is not known."""

    name: str
    done: int = 0
    total: int | None = None


Event = RunStarted | Progress | Notice | AssetFailed | ItemGone | RunEnded | Checked | Damage | Stage
Listener = Callable[[Event], None]
"""Called on the event loop's thread (by `export` and `report` on the writer's). Be quick and never raise."""


def masking_listener(listener: Listener | None, secrets: Secrets) -> Listener:
    """Return a listener that passes on events without any of `secrets`."""

    def pass_on(event: Event) -> None:
        if isinstance(event, AssetFailed | ItemGone):
            event = replace(event, item=ItemId(*map(secrets.masked, event.item)))
        if isinstance(event, AssetFailed):
            message = secrets.masked(event.message)
            event = replace(event, key=secrets.masked(event.key), message=message)
        elif isinstance(event, Notice):
            event = replace(event, text=secrets.masked(event.text))
        if listener is not None:
            listener(event)

    return pass_on


_EVENTS = 240  # about a minute of events, from which the remaining time is estimated
_MIN_SECONDS = 1.0  # for a rate
_MIN_FILES = 10  # for the remaining time; if long files are being received, one


class Rates:
    """Received bytes and finished files per second, over the last seconds and without existing files."""

    WINDOW_SECONDS = 10.0  # rates are measured over it; before its end, the remaining time is unknown

    def __init__(self) -> None:
        self._seen = deque[Progress](maxlen=_EVENTS)
        self._progressed_at = time.monotonic()

    def update(self, now: Progress) -> None:
        """Add an event; the events of a run come in order."""
        last = self._seen[-1] if self._seen else None
        if last is None or _received(now) != _received(last):
            self._progressed_at = time.monotonic()
        if last is None or now.seconds > last.seconds:
            self._seen.append(now)

    def per_second(self, value: Callable[[Progress], float]) -> float:
        """Return how fast a value grows: 0 if no event comes, as while a stopped run is saved."""
        if not self._seen or self.silence() >= self.WINDOW_SECONDS:
            return 0.0
        last = self._seen[-1]
        first = next(event for event in self._seen if event.seconds >= last.seconds - self.WINDOW_SECONDS)
        span = last.seconds - first.seconds
        return (value(last) - value(first)) / span if span >= _MIN_SECONDS else 0.0

    def remaining(self, finished: float, expected: int | None) -> float | None:
        """Return the remaining seconds, None until enough files were fetched for an estimate."""
        if expected is None or not self._seen or self.silence() >= self.WINDOW_SECONDS:
            return None
        last = self._seen[-1]
        without_files = [event for event in self._seen if not fetched(event)]
        first = [self._seen[0], *without_files][-1]
        files = fetched(last) - fetched(first)
        seconds = last.seconds - first.seconds
        minimum = 1 if last.files_in_flight else _MIN_FILES
        if files < minimum or seconds < self.WINDOW_SECONDS:
            return None
        return (expected - finished) * seconds / files

    def silence(self) -> float:
        """Return the seconds since the last byte of a file, or the last item, was received."""
        return time.monotonic() - self._progressed_at


def _received(now: Progress) -> tuple[float, ...]:
    return now.bytes_fetched, now.items_seen, fetched(now)


def fetched(now: Progress) -> float:
    """Return how many files have been fetched or have failed; a part of a file for long ones in flight."""
    return now.assets_done + now.assets_failed - now.assets_skipped + now.files_in_flight
