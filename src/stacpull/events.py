"""What a run tells while it works. Consumers (progress bars, the log file, notebooks) get these values.

`Progress` comes a few times a second however many assets pass; the others as they happen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stacpull.models import FailureKind, ItemId

__all__ = ["AssetFailed", "Event", "Listener", "Notice", "Progress", "RunEnded", "RunStarted", "Stage"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins, or goes on with an earlier one (`resumed`). `source` has its credentials cut."""

    run: int
    source: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run stands: the counters of this selection (docs/json.md), sizes in bytes."""

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
    bytes_planned: int | None = None
    """Bytes of all planned assets, where the source tells sizes of all of them."""
    items_announced: int | None = None
    """Items the source announces for the walk, before any filter."""
    requests: int = 0
    retries: int = 0
    walk_ended: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know. `text` is one plain sentence without credentials."""

    level: Literal["debug", "info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class AssetFailed:
    """An asset failed for good in this run (`retry` tries it again)."""

    item: ItemId
    key: str
    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is over; `state` is what the ledger now says."""

    run: int
    state: Literal["complete", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a job stands that is no mirror: `done` of `total` steps of one stage (None: nobody knows yet)."""

    name: str
    done: int
    total: int | None


Event = RunStarted | Progress | Notice | AssetFailed | RunEnded | Stage
Listener = Callable[[Event], None]
"""Called on the event loop's thread; it must return quickly and never raise."""
