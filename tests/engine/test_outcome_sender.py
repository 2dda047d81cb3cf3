"""What a process sends of what it has received: how much is under way at once, and that nothing is left."""

from __future__ import annotations

import asyncio

from stacpull.engine import store_client
from stacpull.engine.messages import Arrivals
from stacpull.engine.store_client import OutcomeSender
from stacpull.models import Job
from stacpull.planning.layout import arrival_of
from stacpull.redact import Secrets
from stacpull.store.local_store import LocalStore


async def free_slots(sender: OutcomeSender) -> int:
    taken = await sender.take_slots(1000)
    sender.free_slots(taken)
    return taken


async def test_unconfirmed_bytes_are_limited_and_bodies_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(store_client, "_BATCH", 1)
    monkeypatch.setattr(store_client, "MOST_UNDER_WAY", 3 * 10 + 9)
    sent, errors = list[int](), list[BaseException]()

    def send(message: object) -> None:
        if isinstance(message, Arrivals):
            sent.extend(one.row for one in message.arrivals)

    store = await asyncio.to_thread(LocalStore, tmp_path)
    sender = OutcomeSender(
        store, send, Secrets(), longest=100, checksum="sha256", on_broken=errors.append, slots=64
    )
    assert await sender.take_slots(8) == 8
    for row in range(8):
        job = Job(row, 1, 0, "a", "https://b.example/a", None, "c/i", f"{row}.tif")
        sender.put(job, arrival_of(job, 10, "f", None, b"x" * 10))
    assert sent == [0, 1, 2]
    assert await free_slots(sender) == 64 - 8
    sender.bodies_written(1)
    sender.bodies_written(1)
    assert sent == [0, 1, 2, 3, 4]
    assert await free_slots(sender) == 64 - 6
    await sender.flush()
    store.close()
    assert (sent, errors) == (list(range(8)), [])  # at its end it sends the rest
