"""`--prune`: what the mirror holds and the source does not have any more, told and (with `--yes`) removed.

    walk, whole ─▶ items it did not meet ─▶ each asked for by its own URL ─▶ 404 or 410: gone ─▶ told, removed

Nothing goes because a page left it out: a walk may be wrong, so each item must be denied by itself; and a
service that denies an item which it has just listed is not believed at all. Only items that an earlier run of
the same source and selection brought are judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from stacpull.engine.publisher import Publisher
from stacpull.engine.together import unless_stopped
from stacpull.engine.walking import WalkSummary
from stacpull.events import ItemGone, Listener, Notice
from stacpull.ledger import changes, meta, pruning
from stacpull.ledger.database import Connection
from stacpull.ledger.pruning import Unmet
from stacpull.models import Failure, FailureKind, Json, Selection
from stacpull.sources.links import ItemReader

__all__ = ["Pruning", "is_gone", "why_not"]

T = TypeVar("T")
_STRETCH = 500
"""Items asked for, and removed, at a time."""
_DENIED = frozenset({404, 410, None})
"""None: a file that is not there. A 451 (GONE as well) is withheld, not gone."""


def is_gone(answer: Json | Failure) -> bool:
    """Return True if what answered under an item's own URL says that it is not there any more."""
    return isinstance(answer, Failure) and answer.kind is FailureKind.GONE and answer.status in _DENIED


def why_not(selection: Selection, summary: WalkSummary, *, whole: bool) -> str | None:
    """Return why nothing can be said to be gone after this walk, None if that can be asked.

    Args:
        selection: of the run.
        summary: of the walk, as far as this process has gone.
        whole: True if the walk came to the end and met all that was announced.
    """
    if selection.max_items is not None or selection.sample is not None:
        return "with --max-items or --sample the walk does not tell what is gone"
    if summary.cut_short:
        return "the walk was cut short"
    if summary.items_unseen:
        return "the source announced more items than it had on its pages"
    if not whole:
        return "parts of the walk were done by an earlier command; mirror once more with --prune"
    return None


class Pruning:
    """Looks for what is gone, after the walk of a run."""

    def __init__(
        self,
        publisher: Publisher,
        run: int,
        reader: ItemReader,
        on_event: Listener,
        stop: asyncio.Event,
    ) -> None:
        self._publisher = publisher
        self._run = run
        self._reader = reader
        self._on_event = on_event
        self._stop = stop

    async def run(self, selection: Selection, summary: WalkSummary, *, remove: bool) -> None:
        """Tell what is gone; with `remove`, remove it.

        Raises:
            InterruptedRunError: a stop came; what was removed is removed.
            CredentialsError, SourceError: the source cannot be asked.
            DestinationError: the mirror cannot be written.
        """
        why = await self._why_not(selection, summary)
        if why is not None:
            self._on_event(Notice("warning", f"Nothing was pruned: {why}."))
            return
        gone, nameless = 0, 0
        async for stretch in self._unmet():
            nameless += sum(one.href is None for one in stretch)
            found = await self._denied(stretch)
            gone += len(found)
            for one in found:
                self._on_event(ItemGone(one.id, one.assets, one.size, removed=remove))
            if found and remove:
                await self._remove([one.row for one in found])
        await self._call(lambda db: changes.put(db, self._run, "items_gone", gone))
        await self._tell_of_kept(nameless)

    async def _why_not(self, selection: Selection, summary: WalkSummary) -> str | None:
        """Return why nothing is gone, or can be said to be."""
        whole = summary.whole or await self._call(meta.walked_whole) == self._run
        why = why_not(selection, summary, whole=whole)
        if why is not None:
            return why
        example = await self._call(lambda db: pruning.met_example(db, self._run))
        if example is not None and is_gone((await self._asked([example]))[0]):
            return f"the source denies {example}, which it has just listed"
        return None

    async def _unmet(self) -> AsyncIterator[Sequence[Unmet]]:
        after = 0
        while True:
            start = after
            stretch = await self._call(lambda db: pruning.unmet(db, self._run, start, _STRETCH))  # noqa: B023 -- awaited at once
            if not stretch:
                return
            yield stretch
            after = stretch[-1].row

    async def _denied(self, stretch: Sequence[Unmet]) -> list[Unmet]:
        """Return those of which the source says itself that they are gone."""
        named = [one for one in stretch if one.href is not None]
        answers = await self._asked([one.href or "" for one in named])
        return [one for one, answer in zip(named, answers, strict=True) if is_gone(answer)]

    async def _asked(self, hrefs: Sequence[str]) -> list[Json | Failure]:
        return await unless_stopped(lambda: self._reader.read_many(hrefs), self._stop)

    async def _remove(self, rows: Sequence[int]) -> None:
        def remove(db: Connection) -> None:
            pruning.forget(db, self._run, rows)
            self._publisher.remove_listed()

        await self._call(remove)

    async def _tell_of_kept(self, nameless: int) -> None:
        unlisted = await self._call(lambda db: pruning.unlisted_assets(db, self._run))
        if nameless:
            text = f"{nameless:,} items were not met, and have no URL to ask if they are gone: they are kept."
            self._on_event(Notice("warning", text))
        if unlisted:
            text = f"{unlisted:,} files are kept that their items do not list any more."
            self._on_event(Notice("info", text))

    async def _call(self, function: Callable[[Connection], T]) -> T:
        return await self._publisher.call(lambda: function(self._publisher.db))
