"""Memory into which long bodies are received, and that is used again.

A transport that delivers bytes copies what it has read into a new object each time: 256 KB at most. Read into
large blocks, a long body needs a third of the calls, and no copy. The memory of a block returns to its pool
when nothing refers to what was received into it any more, so whoever has a piece of it may keep it.
"""

from __future__ import annotations

import asyncio
import ctypes
import weakref
from collections.abc import Callable

_LONG, _SHORT = 1 << 20, 1 << 18
"""Bytes of a block, and of one while many are in use."""
_MANY = 16
_PARTS = 4
"""A block is full when less than one part in so many is free: a call for less would not be worth it."""
_MOST_FREE = 8 << 20
"""Bytes that are kept to be used again."""


class BlockPool:
    """The blocks of all connections. Pieces of them may be given up in any thread."""

    def __init__(self) -> None:
        self._free: dict[int, list[bytearray]] = {_LONG: [], _SHORT: []}
        self._lent: dict[int, bytearray] = {}

    def __repr__(self) -> str:
        return f"<BlockPool {len(self._lent)} lent, {sum(map(len, self._free.values()))} free>"

    def take(self) -> memoryview:
        """Return a block; its memory is lent until the last view of it is gone."""
        size = _LONG if len(self._lent) < _MANY else _SHORT
        free = self._free[size]
        memory = free.pop() if free else bytearray(size)
        self._lent[id(memory)] = memory
        block = (ctypes.c_char * size).from_buffer(memory)  # all views of it refer to this object
        weakref.finalize(block, self._give_back, memory).atexit = False
        return memoryview(block).cast("B")

    def _give_back(self, memory: bytearray) -> None:
        del self._lent[id(memory)]
        free = self._free[len(memory)]
        if len(free) * len(memory) < _MOST_FREE:
            free.append(memory)


class BlockReceiver(asyncio.BufferedProtocol):
    """The protocol of a connection while a long body is received into blocks of `pool`.

    `receive` is called with each piece, and `lost` when the connection is closed.
    """

    def __init__(
        self, pool: BlockPool, receive: Callable[[memoryview], None], lost: Callable[[Exception | None], None]
    ) -> None:
        self._pool = pool
        self._receive = receive
        self._lost = lost
        self._room = memoryview(b"")
        self._least = 1

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the rest of the block, or a new one: TLS asks for as much as it has decrypted."""
        if len(self._room) < max(self._least, min(sizehint, _SHORT)):
            self._room = self._pool.take()
            self._least = len(self._room) // _PARTS
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        piece, self._room = self._room[:nbytes], self._room[nbytes:]
        self._receive(piece)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)
