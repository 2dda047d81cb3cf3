"""The command with worker processes (`--processes`) that do all the jobs of small mirrors.

It imports only what the command does, and can be forked (`forked_command`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stacpull.engine import workers
from stacpull.engine.pool import Pool

EAGER = f"""
import sys
sys.path.append({str(Path(__file__).resolve().parents[2])!r})
from tests.acceptance.eager_command import leave_all_to_workers
from stacpull.cli.entry import main
leave_all_to_workers(setattr)
main()
"""
"""A program for `python -c`, with the arguments of the command."""


def leave_all_to_workers(patch: Callable[[object, str, object], None]) -> None:
    """Start workers as soon as a single job waits, and have them do all the jobs.

    Args:
        patch: Replaces an attribute, as `setattr` does.
    """
    run = Pool.run

    async def after_workers(pool: Pool[Any, Any]) -> None:
        while not pool._queue._has_ended:  # noqa: ASYNC110 -- a queue has no event for that
            await asyncio.sleep(0.01)
        await run(pool)

    start_early(patch)
    patch(Pool, "run", after_workers)


def start_early(patch: Callable[[object, str, object], None]) -> None:
    """Start workers as soon as a single job waits.

    Args:
        patch: Replaces an attribute, as `setattr` does.
    """
    patch(workers, "_JOBS_TO_START", 1)
