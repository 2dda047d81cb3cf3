"""What a walk picks becomes headers to read: the TIFFs among the assets, each with its place in the order.

Everything that was counted is saved with the position, so that a job that goes on reports the whole of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from stacpull.engine.picking import Picked, Picker
from stacpull.engine.position import Position
from stacpull.engine.sampling import MemorySample
from stacpull.engine.walking import Reached
from stacpull.filters.assets import AssetFilter, compile_assets
from stacpull.models import Asset, Failure, ItemId, Json, Selection
from stacpull.planning.items import Planned
from stacpull.planning.suffixes import suffix_of
from stacpull.redact import Secrets
from stacpull_headers.header_book import HeaderBook, RowBatch, key_of, key_prefix
from stacpull_headers.header_rows import HeaderJob

__all__ = ["HeaderCounts", "HeaderPlans", "TiffAssets"]

_TIFF_TYPES = frozenset({"image/tiff", "image/tif", "image/geotiff", "image/vnd.stac.geotiff"})
_TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".gtiff", ".geotiff", ".btf", ".tf8"})


class TiffAssets:
    """Keeps the assets that the selection keeps and that are TIFFs, by media type or suffix.

    With --asset or --media-type the user says which they are, and nothing is guessed.
    """

    def __init__(self, selection: Selection) -> None:
        self.others = 0
        """How many assets the selection would have kept that are no TIFFs."""
        self._chosen: AssetFilter = compile_assets(selection)
        self._guesses = not (selection.assets or selection.media_types)

    def keeps(self, key: str, asset: Json) -> bool:
        """Return True if the asset's header is wanted."""
        if not self._chosen.keeps(key, asset):
            return False
        if self._guesses and not is_tiff(asset):
            self.others += 1
            return False
        return True


def is_tiff(asset: Any) -> bool:
    """Tell a TIFF by its media type (its parameters do not count) or the suffix of its href."""
    if not isinstance(asset, dict):
        return False
    media_type, href = asset.get("type"), asset.get("href")
    if isinstance(media_type, str) and media_type.partition(";")[0].strip().lower() in _TIFF_TYPES:
        return True
    return isinstance(href, str) and suffix_of(href, None).lower() in _TIFF_SUFFIXES


@dataclass(frozen=True, slots=True)
class HeaderCounts:
    """What was counted up to a position."""

    place: int = 0
    """Rows, numbered in the walk's order."""
    items_seen: int = 0
    items_matched: int = 0
    items_without_label: int = 0
    assets_excluded: int = 0
    assets_not_tiff: int = 0

    def to_json(self, walk: Position, *, ended: bool) -> Json:
        """Return it with the position, as saved."""
        return {"walk": walk.to_json(), "ended": ended, **asdict(self)}

    @classmethod
    def from_json(cls, position: Json | None) -> HeaderCounts:
        """Return what `to_json` saved; nothing counted for None."""
        if position is None:
            return cls()
        return cls(**{field.name: position[field.name] for field in fields(cls)})


class HeaderPlans:
    """Takes what a walk picks (`engine.walking.Plans`) and feeds the queue of the pool."""

    def __init__(
        self,
        book: HeaderBook,
        queue: asyncio.Queue[HeaderJob | None],
        assets: TiffAssets,
        saved: Json | None,
        secrets: Secrets,
        *,
        sample_size: int | None = None,
    ) -> None:
        """Make it; `sample_size` is how many items are drawn before any is planned, if a sample is asked."""
        self._sample = MemorySample(sample_size) if sample_size else None
        self.tally = HeaderCounts.from_json(saved)
        self.ended = bool(saved and saved["ended"])
        self._book = book
        self._queue = queue
        self._assets = assets
        self._secrets = secrets
        self._saved_place = self.tally.place
        self.announced: int | None = None

    @property
    def items_seen(self) -> int:
        """Items that the walk met."""
        return self.tally.items_seen

    async def known(self, ids: Sequence[ItemId]) -> set[ItemId]:
        """Return those of `ids` that were planned before, on this page or on one that is whole."""
        book, before = self._book, self._saved_place
        found = {item for item in ids if book.is_open(item)}
        prefixes = {key_prefix(item): item for item in ids if item not in found}
        if before and prefixes:
            found |= {
                prefixes[prefix] for prefix in await asyncio.to_thread(book.results.begun, prefixes, before)
            }
        return found

    async def save(self, picked: Picked, reached: Reached) -> int:
        """Plan a batch; feed what has no row yet. Waits while the queue is full.

        While a sample is drawn nothing is planned or saved: a job that was stopped draws again.
        """
        if reached.announced is not None:
            self.announced = reached.announced
        if self._sample is not None:
            self._sample.keep(picked.candidates)
            self._count(picked)
            return len(picked.seen)
        return await self._plan(picked, reached)

    async def plan_sample(self, picker: Picker) -> None:
        """Plan what was drawn, if a sample was asked for; the walk has ended."""
        if self._sample is None:
            return
        for batch in self._sample.stretches():
            await self._plan(await picker.pick_drawn(batch), Reached())
        await self._plan(Picked(), Reached(walk_ended=True))

    async def _plan(self, picked: Picked, reached: Reached) -> int:
        batch = RowBatch(frozenset(planned.item.id for planned in picked.items))
        jobs, failures = self._planned(picked, batch)
        known = await self._rows_of([*jobs, *(job for job, _ in failures)])
        jobs = [job for job in jobs if job.place not in known]
        failures = [(job, why) for job, why in failures if job.place not in known]
        self._count(picked)
        walk = reached.position or Position(None, None)
        ends_page = reached.position is not None or reached.walk_ended
        if ends_page and walk.may_be_kept(self._secrets):
            batch.position = self.tally.to_json(walk, ended=reached.walk_ended)
            self._saved_place = self.tally.place
        self.ended = self.ended or reached.walk_ended
        batch.open = len(jobs) + len(failures)
        self._book.begin(batch)
        for job, why in failures:
            self._book.give_up(job, why)
        for job in jobs:
            await self._queue.put(job)
        return len(picked.seen)

    async def _rows_of(self, jobs: Sequence[HeaderJob]) -> set[int]:
        """Return the places of those of `jobs` that have a row."""
        keys = {key_of(job.item, job.key): job.place for job in jobs}
        return {keys[key] for key in await asyncio.to_thread(self._book.results.known, list(keys))}

    async def begin_again(self) -> int:
        """Count everything again from the start, so that nothing stays counted; rows that are there stay.

        What is open is waited for: an item that has its rows is told from one that has none.
        """
        await self._book.all_saved()
        self.tally = HeaderCounts()
        self._saved_place = 0
        self._assets.others = 0
        return 0

    def _planned(
        self, picked: Picked, batch: RowBatch
    ) -> tuple[list[HeaderJob], list[tuple[HeaderJob, Failure]]]:
        """Return the headers of a batch, and what cannot be read at all, numbered in the walk's order."""
        jobs: list[HeaderJob] = []
        failures: list[tuple[HeaderJob, Failure]] = []
        place = self.tally.place
        for planned in picked.items:
            for asset in planned.item.assets:
                jobs.append(_job(planned, asset, place, batch))
                place += 1
            for key, why in planned.problems:
                failures.append((_named(planned.item.id, key, place, batch), why))
                place += 1
        for item, why in _unread(picked):
            failures.append((_named(item, "", place, batch), why))
            place += 1
        self.tally = replace(self.tally, place=place)
        return jobs, failures

    def _count(self, picked: Picked) -> None:
        tally, others = self.tally, self._assets.others
        self._assets.others = 0
        excluded = sum(planned.item.excluded_assets for planned in picked.items)
        pages = sum(planned.item.pages for planned in picked.items)
        self.tally = replace(
            tally,
            items_seen=tally.items_seen + len(picked.seen),
            items_matched=tally.items_matched + sum(p.item.parent is None for p in picked.items),
            items_without_label=tally.items_without_label + len(picked.without_label),
            assets_excluded=tally.assets_excluded + excluded - others,
            assets_not_tiff=tally.assets_not_tiff + others + pages,
        )


def _unread(picked: Picked) -> Iterator[tuple[ItemId, Failure]]:
    """Yield the items that could not be read or planned at all."""
    yield from ((missed.id, missed.failure) for missed in picked.failures)
    yield from ((ItemId(odd.collection, odd.item), odd.failure) for odd in picked.problems)


def _named(item: ItemId, key: str, place: int, batch: RowBatch) -> HeaderJob:
    """Return a job that is not tried: it names the row."""
    return HeaderJob(place, item, key, "", None, batch)


def _job(planned: Planned, asset: Asset, place: int, batch: RowBatch) -> HeaderJob:
    item = planned.item
    told = item.document["assets"][asset.key].get("file:header_size")
    return HeaderJob(
        place,
        item.id,
        asset.key,
        asset.href,
        item.href,
        batch,
        header_size=told if isinstance(told, int) and not isinstance(told, bool) else None,
        size=asset.size,
        media_type=asset.media_type,
        alternates=asset.alternates,
    )
