"""The headers to read: the TIFFs among the selected assets, numbered in the order of the walk.

All counts are saved with the position, so that a resumed job reports totals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import msgspec
from msgspec.structs import asdict, replace

from stacpull.engine.pool import JobQueue
from stacpull.engine.walk import Position
from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.labels import NO_LABEL_IN_NOMENCLATURE
from stacpull.ledger.planner import PlanBatch
from stacpull.ledger.runs import ItemSet
from stacpull.models import Asset, Failure, ItemId, Json, PlannedItem
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.selection import Selection
from stacpull.threads import to_its_end
from stacpull_raster.header_book import HeaderBook, RowBatch, key_of, key_prefix
from stacpull_raster.header_rows import HeaderJob
from stacpull_raster.tiff import is_tiff


class TiffAssets:
    """Keeps the assets of the selection that are TIFFs, by media type or suffix.

    With --asset or --media-type, all matching assets are kept.
    """

    def __init__(self, selection: Selection) -> None:
        self.others = 0
        """Number of assets in the selection that are not TIFFs."""
        self._chosen = AssetFilter(selection)
        self._guesses = not (selection.assets or selection.media_types)

    def keeps(self, key: str, asset: Json) -> bool:
        """Return True if the asset's header is to be read."""
        if not self._chosen.keeps(key, asset):
            return False
        if self._guesses and not is_tiff(asset.get("type"), asset.get("href")):
            self.others += 1
            return False
        return True


class HeaderCounts(msgspec.Struct, frozen=True):
    """The counts up to a position."""

    place: int = 0
    """The number of the next row, in the walk's order."""
    items_seen: int = 0
    items_matched: int = 0
    items_without_label: int = 0
    assets_excluded: int = 0
    assets_not_tiff: int = 0

    def to_json(self, walk: str, *, ended: bool) -> Json:
        """Return the JSON to save: the counts and the position."""
        return {"walk": walk, "ended": ended, **asdict(self)}

    @classmethod
    def from_json(cls, position: Json | None) -> HeaderCounts:
        """Return the counts that `to_json` saved; zeros for None."""
        if position is None:
            return cls()
        return cls(**{name: position[name] for name in cls.__struct_fields__})


class HeaderPlans:
    """Turns the selected items of a walk into jobs for the pool (an `engine.walk.WalkRecord`)."""

    def __init__(
        self,
        book: HeaderBook,
        queue: JobQueue[HeaderJob],
        assets: TiffAssets,
        saved: Json | None,
        seen: ItemSet,
    ) -> None:
        """Create the record. `seen` is empty: it gets the items that the walk reads."""
        self.tally = HeaderCounts.from_json(saved)
        self.ended = bool(saved and saved["ended"])
        self._book = book
        self._queue = queue
        self._assets = assets
        self._seen = seen
        self._saved_place = self.tally.place
        self.announced: int | None = None

    @property
    def items_seen(self) -> int:
        """Number of items that the walk has read."""
        return self.tally.items_seen

    async def find_planned(self, ids: Sequence[ItemId], _linked: bool) -> dict[ItemId, str | None]:
        """Return the `ids` that are already planned, on this page or on a complete one."""
        book, before = self._book, self._saved_place
        found = {item for item in ids if book.is_open(item)}
        prefixes = {key_prefix(item): item for item in ids if item not in found}
        if before and prefixes:
            known = await asyncio.to_thread(book.results.found_before, before, prefixes)
            found |= {prefixes[prefix] for prefix in known}
        return dict.fromkeys(found)

    async def add_batch(self, planned: PlanBatch) -> int:
        """Plan a batch and queue the assets without a row. Waits while the queue is full."""
        reached = planned.reached
        if reached.announced is not None:
            self.announced = reached.announced
        batch = RowBatch(frozenset(item.id for item in planned.items))
        jobs, failures = self._planned(planned, batch)
        known = await self._rows_of([*jobs, *(job for job, _ in failures)])
        jobs = [job for job in jobs if job.row not in known]
        failures = [(job, why) for job, why in failures if job.row not in known]
        new = await self._count(planned)
        walk = reached.position or (Position().to_json() if reached.walk_ended else None)
        if walk is not None:
            batch.position = self.tally.to_json(walk, ended=reached.walk_ended)
            self._saved_place = self.tally.place
        self.ended = self.ended or reached.walk_ended
        batch.open = len(jobs) + len(failures)
        self._book.begin(batch)
        for job, why in failures:
            self._book.give_up(job, why)
        await self._queue.put(jobs)
        return new

    async def _rows_of(self, jobs: Sequence[HeaderJob]) -> set[int]:
        keys = {key_of(job.item, job.key): job.row for job in jobs}
        return {keys[key] for key in await asyncio.to_thread(self._book.results.known, list(keys))}

    async def restart(self) -> int:
        """Reset all counts, and keep the existing rows.

        Waits until open rows are saved, so that items with rows can be recognized.
        """
        await self._book.all_saved()
        await to_its_end(self._seen.clear)
        self.tally = HeaderCounts()
        self._saved_place = 0
        self._assets.others = 0
        return 0

    def _planned(
        self, selected: PlanBatch, batch: RowBatch
    ) -> tuple[list[HeaderJob], list[tuple[HeaderJob, Failure]]]:
        """Return the jobs of a batch and its failures, numbered in the walk's order."""
        jobs: list[HeaderJob] = []
        failures: list[tuple[HeaderJob, Failure]] = []
        place = self.tally.place
        for planned in selected.items:
            for asset in planned.assets:
                jobs.append(_job(planned, asset, place, batch))
                place += 1
            for key, why in planned.problems:
                failures.append((_named(planned.id, key, place, batch), why))
                place += 1
        for item, why in _unread(selected):
            failures.append((_named(item, "", place, batch), why))
            place += 1
        self.tally = replace(self.tally, place=place)
        return jobs, failures

    async def _count(self, selected: PlanBatch) -> int:
        """Count a batch of the walk; return the number of its items that were not read before."""
        read = [*selected.seen, *chain.from_iterable(selected.left_out.values())]
        new = await to_its_end(partial(self._seen.add_all, read))
        without_label = new.intersection(selected.left_out.get(NO_LABEL_IN_NOMENCLATURE, ()))
        tally, others = self.tally, self._assets.others
        self._assets.others = 0
        excluded = sum(len(planned.excluded) for planned in selected.items)
        pages = sum(len(planned.pages) for planned in selected.items)
        self.tally = replace(
            tally,
            items_seen=tally.items_seen + len(new),
            items_matched=tally.items_matched + sum(p.parent is None for p in selected.items),
            items_without_label=tally.items_without_label + len(without_label),
            assets_excluded=tally.assets_excluded + excluded - others,
            assets_not_tiff=tally.assets_not_tiff + others + pages,
        )
        return len(new)


def _unread(selected: PlanBatch) -> Iterator[tuple[ItemId, Failure]]:
    """Yield the items that could not be read or planned."""
    yield from ((missed.id, missed.failure) for missed in selected.failed_items)
    yield from ((ItemId(odd.collection or NO_COLLECTION, odd.name), odd.failure) for odd in selected.unread)


def _named(item: ItemId, key: str, place: int, batch: RowBatch) -> HeaderJob:
    return HeaderJob(place, 0, 0, key, "", None, "", None, item=item, batch=batch)


def _job(item: PlannedItem, asset: Asset, place: int, batch: RowBatch) -> HeaderJob:
    stated = item.document["assets"][asset.key].get("file:header_size")
    return HeaderJob(
        place,
        0,
        0,
        asset.key,
        asset.href,
        item.href,
        asset.directory,
        None,
        item=item.id,
        batch=batch,
        header_size=stated if isinstance(stated, int) and not isinstance(stated, bool) else None,
        size=asset.size,
        checksum=asset.checksum,
        media_type=asset.media_type,
        alternates=asset.alternates,
    )
