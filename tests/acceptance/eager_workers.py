"""Worker processes from the first job on, for tests of small mirrors; and workers that start quickly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from tests.acceptance.command import forker
from tests.acceptance.forked_command import ForkedProcess

from stacpull.engine import workers
from stacpull.engine.pool import Pool
from stacpull.python_process import python_environment


@contextmanager
def forked_workers() -> Iterator[None]:
    """Fork the worker processes of runs within this process instead of starting them (`forked_command`)."""
    with mock.patch.object(workers, "spawn", _fork):
        yield


def _fork(_module: str, *inherited: int) -> tuple[ForkedProcess, socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        return forker().fork_worker(python_environment(), theirs.fileno(), *inherited), ours


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
