"""Assets that are handed over by the fast path."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from stacpull.clock import SystemClock
from stacpull.engine.fast_path import FastOrigin, FastTransfer
from stacpull.net.gate import Gate


async def test_any_number_of_queued_requests_can_be_handed_over_one_after_the_other() -> None:
    """None of them can be sent by the fast path any more: their credentials must be renewed."""
    handed_over = []
    gate = Gate("h", 1, SystemClock(), is_fixed=True)
    route: Any = SimpleNamespace(gate=gate, gets_credentials=False)
    rewrites: Any = SimpleNamespace(ready=lambda *_, **__: None)
    origin = FastOrigin("s3://b/", "http://h/b/", Any, route, rewrites, is_plain=False)
    path: Any = SimpleNamespace(is_closed=False, client=None, forget=lambda _: None)
    done = asyncio.Event()

    def fetch(job: Any, *_: object) -> None:
        handed_over.append(job)
        if len(handed_over) == 3000:
            done.set()

    pool: Any = SimpleNamespace(fetch=fetch)
    first: Any = SimpleNamespace(is_cancelled=lambda: False, on_permit=lambda: None)
    gate.admit(first)
    for number in range(3000):
        job: Any = number
        gate.admit(FastTransfer(path, pool, job, Any, origin, "s3://b/k", 0.0))
    gate.release()
    async with asyncio.timeout(20):
        await done.wait()
    assert handed_over == list(range(3000))
