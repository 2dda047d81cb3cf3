"""What a run has found so far, so that it is not asked for again: in a file beside OUT, or in memory.

The file survives a kill at any moment. Keys name what was asked so closely (days, place, tiles and when they
were made) that an answer fits whoever asks under the same key.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Protocol

import orjson

from stacpull.ledger.results import Result, Results
from stacpull.models import Json
from stacpull.tracing.hub.values import ByocTile, Footprint, TileFile

__all__ = ["Answers", "FileAnswers", "MemoryAnswers", "tile_from_json", "tile_to_json"]


class Answers(Protocol):
    """Answers by key. `whole` is False for one that has to be asked for again, at least in part."""

    async def get(self, key: str) -> tuple[Json, bool] | None:
        """Return the answer and whether it is whole; None if there is none."""
        ...

    async def put(self, key: str, answer: Json, *, whole: bool = True) -> None:
        """Keep an answer; one of the same key is replaced."""
        ...


class MemoryAnswers:
    """Answers of this run only."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Json, bool]] = {}

    async def get(self, key: str) -> tuple[Json, bool] | None:
        """Return the answer and whether it is whole; None if there is none."""
        return self._kept.get(key)

    async def put(self, key: str, answer: Json, *, whole: bool = True) -> None:
        """Keep an answer; one of the same key is replaced."""
        self._kept[key] = (answer, whole)


class FileAnswers:
    """Answers in a file of results; its writing happens off the loop, one answer a transaction."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._turn = asyncio.Lock()

    async def get(self, key: str) -> tuple[Json, bool] | None:
        """Return the answer and whether it is whole; None if there is none.

        Raises:
            DestinationError: the file cannot be read.
        """
        async with self._turn:
            found = await asyncio.to_thread(self._results.get, key)
        return None if found is None else (orjson.loads(found.value), found.ok)

    async def put(self, key: str, answer: Json, *, whole: bool = True) -> None:
        """Keep an answer; one of the same key is replaced.

        Raises:
            DestinationError: the file cannot be written.
        """
        async with self._turn:
            await asyncio.to_thread(self._results.put, [Result(key, orjson.dumps(answer), ok=whole)])


def tile_to_json(tile: ByocTile) -> Json:
    """Return a tile as JSON."""
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
    """Return what `tile_to_json` wrote."""
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
