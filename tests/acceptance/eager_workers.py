"""Worker processes from the first job on, for tests of small mirrors; and workers that start quickly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.acceptance.command import forker

from stacpull.engine import workers
from stacpull.engine.pool import Pool


@contextmanager
def forked_workers() -> Iterator[None]:
    """Fork the worker processes of runs within this process instead of starting them (`forked_command`)."""
    with mock.patch.object(workers, "spawn", forker().spawn):
        yield


def start_early(patch: pytest.MonkeyPatch) -> None:
    """Start workers as soon as a single job waits."""
    patch.setattr(workers, "_WORTH_IT", 1)


_SITE = """import sys, types
if "mirror" in sys.orig_argv:
    from tests.acceptance.eager_workers import leave_all_to_workers
    leave_all_to_workers(types.SimpleNamespace(setattr=setattr))
"""
_ROOT = Path(__file__).resolve().parents[2]


def environment_with_eager_workers(env: Mapping[str, str], place: Path) -> dict[str, str]:
    """Return an environment in which the command leaves all jobs to workers (`--processes`).

    Args:
        env: The environment otherwise.
        place: A directory for what Python reads at its start.
    """
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(_SITE)
    return {**env, "PYTHONPATH": os.pathsep.join([str(place), str(_ROOT), env["PYTHONPATH"]])}


def leave_all_to_workers(patch: pytest.MonkeyPatch) -> None:
    """Start workers as soon as a single job waits, and have them do all the jobs."""
    run = Pool.run

    async def after_workers(pool: Pool[Any, Any]) -> None:
        while not pool._fed:  # noqa: ASYNC110 -- a pool has no event for that
            await asyncio.sleep(0.01)
        await run(pool)

    start_early(patch)
    patch.setattr(Pool, "run", after_workers)
