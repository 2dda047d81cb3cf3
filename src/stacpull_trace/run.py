"""One run of a trace: catalog, tiles, statistics, headers, and the days that result.

    search ─▶ tiles ─▶ pieces of the area ─▶ statistics ─▶ headers of the tiles that had pixels ─▶ days

Each stage sends many requests at once. Responses are stored (`answer_store.py`) and never requested again. A
failure is reported for its days, and the other days continue. Refused credentials and an exhausted quota stop
the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import date
from typing import TypeVar

import msgspec

from stacpull.events import Listener, Stage
from stacpull.net.transport import TransferError
from stacpull.threads import for_each
from stacpull_trace.answer_store import AnswerStore
from stacpull_trace.cover import tile_of
from stacpull_trace.daily import Count, DayCounts, merged
from stacpull_trace.days import TileDay
from stacpull_trace.hub.hub_client import Hub
from stacpull_trace.hub.replies import ByocTile, CatalogTile
from stacpull_trace.question import TraceQuestion
from stacpull_trace.request_plan import PlannedRequest, pieces_by_day, planned_requests, whole_area_requests
from stacpull_trace.scene_map import SceneMap, read_scene_map

_QA_FILE = "analysis_ready_ps_qa"
T = TypeVar("T")


class TraceResult(msgspec.Struct):
    days: dict[date, list[TileDay]] = {}
    tiles: int = 0
    notes: list[str] = []


class TraceRun:
    """Runs one question against a service. Call `tiles`, then one of the others."""

    def __init__(
        self,
        service: Hub,
        question: TraceQuestion,
        answers: AnswerStore,
        *,
        on_event: Listener | None = None,
        stop: asyncio.Event | None = None,
        at_once: int = 8,
    ) -> None:
        self._service = service
        self._question = question
        self._answers = answers
        self._on_event = on_event
        self._stop = stop
        self._at_once = at_once
        self.result = TraceResult()
        self._unknown: dict[str, str] = {}
        """The reason why a tile has no description."""

    @property
    def stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    async def tiles(self) -> list[CatalogTile]:
        """Return the tiles of the period and area, each once, in the catalog's order; after a stop, some."""
        question = self._question
        area = question.area
        tiles: dict[str, CatalogTile] = {}
        self._report("searching the catalog", 0, None)
        async for tile in self._service.search(
            question.collection,
            question.period.interval,
            bbox=area.grid.bbox if area.is_box else None,
            intersects=None if area.is_box else area.geometry,
        ):
            if tile.time.date() in question.period:
                tiles.setdefault(tile.id, tile)
            self._report("searching the catalog", len(tiles), None)
            if self.stopped:
                break
        self.result.tiles = len(tiles)
        note = await asyncio.to_thread(area.grid.size_note, question.resolution)
        self.result.notes += [*question.notes, *([note] if note else [])]
        return list(tiles.values())

    async def by_mode(self, catalog: Sequence[CatalogTile]) -> TraceResult:
        details = await self._details(catalog)
        placed = [tile_of(tile, details.get(tile.id), self._question.area) for tile in catalog]
        area, period = self._question.area, self._question.period
        planned = await asyncio.to_thread(
            lambda: [*planned_requests(area, period, pieces_by_day(area, placed))]
        )
        pixels = await asyncio.to_thread(
            lambda: [area.grid.count_pixels(request.window, request.mask) for request in planned]
        )
        created = {tile.id: tile.created.isoformat() if tile.created else "" for tile in placed}
        counts = await self._statistics(planned, created)
        parts: dict[tuple[date, str], list[Count]] = {}
        for request, inside, by_day in zip(planned, pixels, counts, strict=True):
            for day, count in by_day.items():
                parts.setdefault((day, request.tiles.get(day, "")), []).append(count.inside(inside))
        by_tile = {key: merged(pieces) for key, pieces in parts.items()}
        wanted = {tile for (_, tile), count in by_tile.items() if tile and count.counted}
        maps = await self._headers({tile: details.get(tile) for tile in sorted(wanted)})
        for (day, tile), count in sorted(by_tile.items()):
            scenes, problem = maps.get(tile, (None, None))
            self.result.days.setdefault(day, []).append(TileDay(day, tile, count, scenes, problem))
        return self.result

    async def by_median(self, catalog: Sequence[CatalogTile]) -> TraceResult:
        firsts: dict[date, CatalogTile] = {}
        names: dict[date, list[str]] = {}
        for tile in catalog:
            firsts.setdefault(tile.time.date(), tile)
            names.setdefault(tile.time.date(), []).append(tile.id)
        together = {day: ",".join(sorted(ids)) for day, ids in names.items()}
        planned = list(whole_area_requests(self._question.area, self._question.period, together))
        counts = await self._statistics(planned, {})
        by_day = {day: merged(c[day] for c in counts if day in c) for day in sorted(firsts)}
        wanted = {firsts[day].id for day, count in by_day.items() if count.valid}
        details = await self._details([tile for tile in firsts.values() if tile.id in wanted])
        maps = await self._headers({tile: details.get(tile) for tile in sorted(wanted)})
        for day, count in by_day.items():
            tile_id = firsts[day].id
            self.result.days[day] = [TileDay(day, tile_id, count, *maps.get(tile_id, (None, None)))]
        return self.result

    async def _details(self, catalog: Sequence[CatalogTile]) -> dict[str, ByocTile]:
        details: dict[str, ByocTile] = {}

        async def fetch(tile: CatalogTile) -> None:
            key = f"described/{tile.id}"
            kept = await self._answers.get(key)
            if kept is not None:
                details[tile.id] = msgspec.convert(kept[0], ByocTile)
                return
            try:
                description = await self._service.tile(self._question.collection, tile.id)
            except TransferError as error:
                self._unknown[tile.id] = error.failure.message.rstrip(".")
                return
            details[tile.id] = description
            await self._answers.put(key, msgspec.to_builtins(description))

        await self._each("reading tiles", catalog, fetch)
        return details

    async def _statistics(
        self, planned: Sequence[PlannedRequest], created: Mapping[str, str]
    ) -> list[dict[date, Count]]:
        counts: list[dict[date, Count]] = [{} for _ in planned]
        days = DayCounts(self._service, self._question, self._answers, created, lambda: self.stopped)

        async def fetch(place: int) -> None:
            counts[place] = await days.of(planned[place])

        await self._each("computing statistics", range(len(planned)), fetch)
        return counts

    async def _headers(
        self, tiles: Mapping[str, ByocTile | None]
    ) -> dict[str, tuple[SceneMap | None, str | None]]:
        maps: dict[str, tuple[SceneMap | None, str | None]] = {}

        async def fetch(tile: str) -> None:
            key = f"header/{tile}"
            kept = await self._answers.get(key)
            if kept is None or not kept[1]:
                tags, problem = await self._tags(tile, tiles[tile])
                await self._answers.put(key, {"tags": tags, "problem": problem}, whole=tags is not None)
            else:
                tags, problem = kept[0]["tags"], kept[0]["problem"]
            scene_map = read_scene_map(tags) if tags is not None else None
            self.result.notes += [
                f"tile {tile}: {line}" for line in (scene_map.problems if scene_map else ())
            ]
            maps[tile] = (scene_map, problem)

        await self._each("reading headers", list(tiles), fetch)
        return maps

    async def _tags(self, name: str, tile: ByocTile | None) -> tuple[dict[str, str] | None, str | None]:
        if tile is None:
            return None, f"its QA file could not be found: {self._unknown.get(name, 'the tile is not known')}"
        named = (name for name in sorted(tile.files) if "qa" in name.lower().split("_"))
        file = _QA_FILE if not tile.files or _QA_FILE in tile.files else next(named, None)
        if file is None:
            return None, "the tile has no QA file"
        try:
            header = await self._service.header(self._question.collection, tile, file)
        except TransferError as error:
            return None, f"its QA file could not be read: {error.failure.message.rstrip('.')}"
        return {name: text for name, text in header.tags.items() if "LAYER_2_VALUE" in name}, None

    async def _each(self, stage: str, items: Collection[T], work: Callable[[T], Awaitable[None]]) -> None:
        """Call `work` for all items concurrently, until done or stopped."""
        done = 0
        self._report(stage, done, len(items))

        async def work_and_report(item: T) -> None:
            nonlocal done
            if not self.stopped:
                await work(item)
                done += 1
                self._report(stage, done, len(items))

        await for_each(items, work_and_report, self._at_once)

    def _report(self, stage: str, done: int, total: int | None) -> None:
        if self._on_event is not None:
            units = self._service.processing_units
            spent = f" ({units:.2f} processing units)" if units else ""
            self._on_event(Stage(f"{stage}{spent}", done, total))
