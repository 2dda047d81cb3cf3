"""A run as a stream of its events, for notebooks: `async for event in stacpull.mirror_events(...)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from stacpull.config.options import Options
from stacpull.engine.api import mirror
from stacpull.engine.item_input import SourceLike
from stacpull.events import Event
from stacpull.reports import MirrorReport
from stacpull.selection import Selection


async def mirror_events(
    source: SourceLike,
    dest: str | Path,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
) -> AsyncGenerator[Event | MirrorReport]:
    """Run `stacpull.mirror` and yield its events; the last value is the `MirrorReport`.

    Leaving the loop early stops the run gracefully; the mirror can be resumed.

    Args:
        source: As for `mirror`.
        dest: As for `mirror`.
        selection: The items and assets to mirror; None for all.
        options: How to transfer; None uses the defaults.

    Raises:
        StacpullError: As for `mirror`.
    """
    news: asyncio.Queue[Event | None] = asyncio.Queue()
    stop = asyncio.Event()

    async def run() -> MirrorReport:
        try:
            return await mirror(
                source, dest, selection=selection, options=options, on_event=news.put_nowait, stop=stop
            )
        finally:
            news.put_nowait(None)

    # No task group: one around a `yield` would cancel the run instead of stopping it (PEP 789).
    running = asyncio.create_task(run())
    try:
        while (event := await news.get()) is not None:
            yield event
        yield await running
    finally:
        stop.set()
        try:
            await asyncio.wait([running])  # the ledger records how it ended
        finally:
            running.cancel()
        if not running.cancelled():
            running.exception()
