"""What a process sends of what it has received: how far the other end may be behind, and that all is sent."""

import asyncio
import socket

from tests.cancelling import until
from tests.engine.pools import job

from stacpull.engine import channel
from stacpull.engine.channel import Channel, OutcomeSender
from stacpull.engine.messages import Outcomes, decode_to_store
from stacpull.redact import Secrets
from stacpull.store.local_store import LocalStore
from stacpull.transfer.received import received_file


async def test_slots_stay_taken_while_nothing_is_read_and_bodies_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(channel, "_MAX_UNSENT", 10_000)
    rowids, errors = list[int](), list[BaseException]()

    def on_message(data: bytes) -> None:
        message = decode_to_store(data)
        assert isinstance(message, Outcomes)
        rowids.extend(one.rowid for one in message.files)

    channels = [Channel(on_message, errors.append) for _ in range(2)]
    for one, sock in zip(channels, socket.socketpair(), strict=True):
        await one.open(sock)
    resume = channels[1].pause()
    store = await asyncio.to_thread(LocalStore, tmp_path)
    send, broken = channels[0].send, errors.append
    sender = OutcomeSender(
        64, store.staged, send, Secrets(), max_size=10**6, digest_algorithm=None, on_error=broken
    )
    sender.take_slots(64)
    for rowid in range(64):
        made = job(rowid, name=f"{rowid}.tif")
        sender.put(made, received_file(made, 100_000, "f", None, body=b"x" * 100_000))
    await sender.flush()
    finished = asyncio.create_task(sender.wait_for_all_slots())
    await asyncio.sleep(0)
    assert (finished.done(), rowids) == (False, [])
    resume()
    await finished
    await until(lambda: rowids == list(range(64)))
    for one in channels:
        await one.close()
    store.close()
    assert errors == []
