"""Stores the responses of the service in a file beside OUT or in memory, so that none is requested twice.

The file survives a kill at any moment. A key contains everything that an answer depends on: day, area, tile
and the creation time of the tile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import orjson

from stacpull.models import Json
from stacpull_raster.results import Result, Results
from stacpull_trace.hub.replies import ByocTile, Footprint, TileFile

Kept = tuple[Json, bool]
"""An answer, and whether it is complete: an incomplete one is requested again."""


class AnswerStore(Protocol):
    """Stores answers by key."""

    async def get(self, key: str) -> Kept | None:
        """Return the answer and whether it is complete; None if there is none."""
        ...

    async def get_all(self, keys: Iterable[str]) -> dict[str, Kept]: ...

    async def put(self, key: str, answer: Json, *, whole: bool = True) -> None:
        """Store an answer; it replaces one of the same key."""
        ...

    async def put_all(self, answers: Mapping[str, Kept]) -> None: ...


class MemoryAnswers:
    """Keeps the answers of one run in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    async def get(self, key: str) -> Kept | None:
        """Return the answer and whether it is complete; None if there is none."""
        return self._kept.get(key)

    async def put(self, key: str, answer: Json, *, whole: bool = True) -> None:
        """Store an answer; it replaces one of the same key."""
        self._kept[key] = (answer, whole)

    async def get_all(self, keys: Iterable[str]) -> dict[str, Kept]:
        return {key: self._kept[key] for key in keys if key in self._kept}

    async def put_all(self, answers: Mapping[str, Kept]) -> None:
        self._kept.update(answers)


class FileAnswers:
    """Keeps answers in a file of results. Each call writes one transaction, in a thread."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._turn = asyncio.Lock()

    async def get(self, key: str) -> Kept | None:
        """Return the answer and whether it is complete; None if there is none."""
        return (await self.get_all([key])).get(key)

    async def get_all(self, keys: Iterable[str]) -> dict[str, Kept]:
        async with self._turn:
            return await asyncio.to_thread(self._read, list(keys))

    async def put(self, key: str, answer: Json, *, whole: bool = True) -> None:
        """Store an answer. It replaces one with the key; answers that JSON cannot represent are left out."""
        await self.put_all({key: (answer, whole)})

    async def put_all(self, answers: Mapping[str, Kept]) -> None:
        """Store answers, all or none of them. Answers that JSON cannot represent are skipped."""
        async with self._turn:
            await asyncio.to_thread(self._write, answers)

    def _read(self, keys: Sequence[str]) -> dict[str, Kept]:
        found = filter(None, map(self._results.get, keys))
        return {result.key: (orjson.loads(result.value), result.ok) for result in found}

    def _write(self, answers: Mapping[str, Kept]) -> None:
        encoded = [(key, _encoded(one), whole) for key, (one, whole) in answers.items()]
        self._results.put([Result(key, one, ok=whole) for key, one, whole in encoded if one is not None])


def _encoded(answer: Json) -> bytes | None:
    """Return an answer as JSON; None if JSON cannot represent it, for example a lone surrogate."""
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:
        return None


def tile_to_json(tile: ByocTile) -> Json:
    return {
        "id": tile.id,
        "path": tile.path,
        "status": tile.status,
        "sensing_time": _written(tile.sensing_time),
        "created": _written(tile.created),
        "tile_geometry": tile.tile_geometry and list(tile.tile_geometry),
        "cover_geometry": tile.cover_geometry and list(tile.cover_geometry),
        "files": {name: list(file) for name, file in tile.files.items()},
    }


def tile_from_json(stored: Json) -> ByocTile:
    return ByocTile(
        id=stored["id"],
        path=stored["path"],
        status=stored["status"],
        sensing_time=_read(stored["sensing_time"]),
        created=_read(stored["created"]),
        tile_geometry=_footprint(stored["tile_geometry"]),
        cover_geometry=_footprint(stored["cover_geometry"]),
        files={name: TileFile(*file) for name, file in stored["files"].items()},
    )


def _written(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _read(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _footprint(stored: list[Any] | None) -> Footprint | None:
    return None if stored is None else Footprint(*stored)
