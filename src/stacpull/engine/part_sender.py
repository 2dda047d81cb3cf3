"""Sends what a process has received to the process that publishes it, or to the next one on the way there.

    received ─┬▶ small body ─▶ batch ────────────▶ message with bodies
              └▶ any other ──▶ thread: part file ─▶ message with names

The network process of a run and each worker process have one. `engine.intake` says how much may wait where.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from stacpull.models import IncomingPart, Job, Received, incoming_part
from stacpull.store.protocol import Store
from stacpull.store.writer import BodyWriter

T = TypeVar("T")

LONGEST_TO_DIRECTORY = 32 << 10
"""Bytes of a body that is sent; copying a longer one costs more than writing it here."""
LONGEST_TO_BUCKET = 1 << 20
"""The same where the store process sends it on: it needs no file then."""
MOST_UNDER_WAY = 4 << 20
"""Bytes of bodies that were sent and that the store process has not confirmed."""
_BATCH = 64
_BATCH_SIZE = 1 << 20
"""Bytes."""
_GATHER = 0.002
"""Seconds that a body waits for others: each message costs both processes a system call."""


class PartSender:
    """Sends received assets. To be used on one event loop.

    Args:
        destination: Where bodies are written that are not sent.
        longest: Bytes of a body that is sent; a longer one is written.
        checksum: Algorithm of the digest that is recorded; None: none.
        send: Sends assets, all of them with their bodies or all without.
        on_safe: Called with how many assets are on the disk or with the store process.
        on_error: Called with what ends the writing thread early.
        durable: True to sync each part before it gets its name.
    """

    def __init__(
        self,
        destination: Store,
        *,
        longest: int,
        checksum: str | None,
        send: Callable[[list[IncomingPart]], None],
        on_safe: Callable[[int], None],
        on_error: Callable[[BaseException], None],
        durable: bool = False,
    ) -> None:
        self._longest = longest
        self._send = send
        self._on_safe = on_safe
        self._loop = asyncio.get_running_loop()
        self._batch: list[IncomingPart] = []
        self._batch_size = 0
        self._waiting: deque[tuple[list[IncomingPart], int]] = deque()
        """Batches to be sent, with their sizes in bytes."""
        self._sent: deque[int] = deque()
        """The sizes of those that were sent and not confirmed."""
        self._under_way = 0
        self._all_sent = asyncio.Event()
        self._writer = BodyWriter(
            destination,
            checksum=checksum,
            deliver=partial(self._on_loop, self._send_names),
            on_error=partial(self._on_loop, on_error),
            durable=durable,
        )

    def _on_loop(self, function: Callable[[T], None], value: T) -> None:
        """Call a function on the loop, from the writer's thread."""
        self._loop.call_soon_threadsafe(function, value)

    def start(self) -> None:
        """Start the thread that writes."""
        self._writer.start()

    def put(self, job: Job, received: Received) -> None:
        """Take an asset that came in."""
        if received.body is None or received.size > self._longest:
            self._writer.put(job, received)
            return
        self._batch.append(incoming_part(job, received, received.body))
        self._batch_size += received.size
        if len(self._batch) >= _BATCH or self._batch_size >= _BATCH_SIZE:
            self._end_batch()
        elif len(self._batch) == 1:
            self._loop.call_later(_GATHER, self._end_batch)

    def confirmed(self, count: int) -> None:
        """Note that the store process has the next batch, which has so many assets."""
        self._under_way -= self._sent.popleft()
        self._on_safe(count)
        self._send_waiting()

    async def all_sent(self) -> None:
        """Wait until no body waits to be sent any more."""
        self._end_batch()
        while self._waiting:
            self._all_sent.clear()
            await self._all_sent.wait()

    async def close(self) -> None:
        """Write and send everything that was put in; nothing may be put in after that."""
        await asyncio.to_thread(self._writer.close)
        self._end_batch()
        while self._waiting:
            self._send_next()

    def _send_names(self, parts: list[IncomingPart]) -> None:
        self._send(parts)
        self._on_safe(len(parts))

    def _end_batch(self) -> None:
        if self._batch:
            self._waiting.append((self._batch, self._batch_size))
            self._batch, self._batch_size = [], 0
            self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting and (
            not self._under_way or self._under_way + self._waiting[0][1] <= MOST_UNDER_WAY
        ):
            self._send_next()
        if not self._waiting:
            self._all_sent.set()

    def _send_next(self) -> None:
        batch, size = self._waiting.popleft()
        self._sent.append(size)
        self._under_way += size
        self._send(batch)
