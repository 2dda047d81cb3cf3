"""Worker processes from the first job on, for tests of small mirrors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stacpull.engine import workers
from stacpull.engine.pool import Pool


def start_early(patch: pytest.MonkeyPatch) -> None:
    """Start workers as soon as a single job waits."""
    patch.setattr(workers, "_WORTH_IT", 1)


def leave_all_to_workers(patch: pytest.MonkeyPatch) -> None:
    """Start workers as soon as a single job waits, and have them do all the jobs."""
    run = Pool.run

    async def after_workers(pool: Pool[Any, Any]) -> None:
        while not pool._fed:  # noqa: ASYNC110 -- a pool has no event for that
            await asyncio.sleep(0.01)
        await run(pool)

    start_early(patch)
    patch.setattr(Pool, "run", after_workers)
