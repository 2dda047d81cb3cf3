"""Stores the responses of the service in a file beside OUT or in memory, so that none is requested twice.

The file survives a kill at any moment. A key contains everything that an answer depends on: day, area, tile
and the creation time of the tile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

import orjson

from stacpull.models import Json
from stacpull_raster.results import Result, Results

Kept = tuple[Json, bool]
"""An answer, and whether it is complete: an incomplete one is requested again."""


class AnswerStore:
    """Stores answers by key: in a file of results, or without one in memory.

    Each call writes one transaction, in a thread.
    """

    def __init__(self, results: Results | None = None) -> None:
        self._results = results
        self._kept: dict[str, Kept] = {}
        self._turn = asyncio.Lock()

    async def get_all(self, keys: Iterable[str]) -> dict[str, Kept]:
        if self._results is None:
            return {key: self._kept[key] for key in keys if key in self._kept}
        async with self._turn:
            get = self._results.get
            results = await asyncio.to_thread(lambda: [*filter(None, map(get, keys))])
        return {result.key: (orjson.loads(result.value), result.ok) for result in results}

    async def get(self, key: str) -> Kept | None:
        return (await self.get_all([key])).get(key)

    async def put(self, key: str, answer: Json, *, whole: bool = True) -> None:
        await self.put_all({key: (answer, whole)})

    async def put_all(self, answers: Mapping[str, Kept]) -> None:
        """Store answers, all or none of them; they replace those of the same key.

        Answers that JSON cannot represent are skipped.
        """
        if self._results is None:
            self._kept.update(answers)
            return
        rows = []
        for key, (answer, whole) in answers.items():
            with suppress(orjson.JSONEncodeError):  # a lone surrogate, for example
                rows.append(Result(key, orjson.dumps(answer), ok=whole))
        async with self._turn:
            await asyncio.to_thread(self._results.put, rows)
