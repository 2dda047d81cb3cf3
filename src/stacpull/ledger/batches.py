"""What is handed to the ledger to be planned, and what comes back (`ledger.planning`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stacpull.ledger.samples import SampledItem
from stacpull.models import Failure, ItemId, Job, PlannedItem

__all__ = ["Committed", "ItemFailure", "ItemRow", "PlanBatch", "UnreadLink"]


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A planned item as the ledger takes it: `document` is its JSON with all credentials cut."""

    item: PlannedItem
    document: bytes


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """A source item that could not be read."""

    id: ItemId
    href: str
    parent: ItemId
    failure: Failure


@dataclass(frozen=True, slots=True)
class UnreadLink:
    """A link of a tree that gave no item; `href` is absolute, credentials cut; `path` as in `Unread`."""

    collection: str
    href: str
    failure: Failure
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanBatch:
    """One batch: parents before the source items reached through them.

    `seen` are ids of the items read, `left_out` of those that a filter left out, by reason. `position` is
    None unless the batch ends its page.
    """

    items: Sequence[ItemRow] = ()
    failed_items: Sequence[ItemFailure] = ()
    seen: Sequence[ItemId] = ()
    left_out: Mapping[str, Sequence[ItemId]] = field(default_factory=dict)
    without_label: int = 0
    unplannable: int = 0
    unread: Sequence[UnreadLink] = ()
    """Those that can be read again; each is counted in `unplannable`, too."""
    position: str | None = None
    walked: str | None = None
    """The collection whose last page ends with this batch."""
    walk_ended: bool = False
    announced: int | None = None
    cut_short: str | None = None
    """Why the walk ended before the source did."""
    announced_by_all: int | None = None
    """With the end of the walk: how many items all its collections announced, if each of them did."""
    sampled: Sequence[SampledItem] = ()
    """Candidates of the run's sample."""
    drawn: bool = False
    """True if the sample is whole with this batch."""


@dataclass(slots=True)
class Committed:
    """What a commit did.

    Attributes:
        jobs: Those it opened.
        failures: What failed while planning: item, asset key ("" for the item itself), why.
        new_seen: How many of `PlanBatch.seen` and `PlanBatch.left_out` were new.
        matched: Primary items that this run planned for the first time.
        excluded: Assets that the selection leaves out.
        pages: Assets left out because they are web pages or endpoints.
        items_failed: Source items that could not be read.
        items_new: Items that the ledger did not have.
        items_changed: Items that it had, and that are different now.
        files_lost: Files of the mirror that are not in DEST any more.
    """

    jobs: list[Job] = field(default_factory=list)
    failures: list[tuple[ItemId, str, Failure]] = field(default_factory=list)
    new_seen: int = 0
    matched: int = 0
    excluded: int = 0
    pages: int = 0
    items_failed: int = 0
    items_new: int = 0
    items_changed: int = 0
    files_lost: int = 0
