"""Reading items by href: sharing of requests, and the cache."""

import asyncio
from collections import Counter

import pytest
from tests.cancelling import settle
from tests.sources.memory import failed, item
from tests.virtual_clock import VirtualClock

from stacpull.models import FailureKind
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.sources import item_reader
from stacpull.sources.item_reader import ItemReader


class Shelf:
    """Items by href. Each read waits until the gate is open; `gone` is refused."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()
        self.reads: Counter[str] = Counter()
        self.running = self.max_running = 0

    async def read(self, href: str) -> Document:
        self.reads[href] += 1
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if href == "gone":
            raise failed(FailureKind.GONE, 404)
        return Document(item(href, reading=self.reads[href]), 0, href, memory=100)


async def test_readers_of_one_item_share_a_request() -> None:
    shelf, clock = Shelf(), VirtualClock()
    reader = ItemReader(shelf.read, clock)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reader.read("a")) for _ in range(13)]
        await settle()
        shelf.gate.set()
    assert {task.result().read_at for task in tasks} == {0.0}
    assert (await reader.read("a")).document == item("a", reading=1)
    assert shelf.reads == {"a": 1}


async def test_a_failure_is_raised_in_all_waiting_readers_and_not_cached() -> None:
    shelf = Shelf()
    reader = ItemReader(shelf.read, VirtualClock())
    waiting = asyncio.gather(*(reader.read("gone") for _ in range(3)), return_exceptions=True)
    await settle()
    shelf.gate.set()
    errors = await waiting
    assert [isinstance(e, TransferError) and e.failure.kind for e in errors] == [FailureKind.GONE] * 3
    assert shelf.reads == {"gone": 1}
    with pytest.raises(TransferError):
        await reader.read("gone")
    assert shelf.reads == {"gone": 2}


async def test_the_next_reader_reads_if_the_first_is_cancelled() -> None:
    shelf = Shelf()
    reader = ItemReader(shelf.read, VirtualClock())
    async with asyncio.TaskGroup() as group:
        first = group.create_task(reader.read("a"))
        others = [group.create_task(reader.read("a")) for _ in range(3)]
        await settle()
        first.cancel()
        await settle()
        assert shelf.reads == {"a": 2}
        shelf.gate.set()
    assert ([t.result().document["id"] for t in others], shelf.reads) == (["a"] * 3, {"a": 2})


async def test_many_are_read_at_once_and_each_once() -> None:
    shelf = Shelf()
    reader = ItemReader(shelf.read, VirtualClock())
    hrefs = [f"i{n % 150}" for n in range(300)] + ["gone"]
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(reader.read_many(hrefs))
        await settle()
        assert shelf.max_running == 64
        shelf.gate.set()
    items = reading.result()
    assert getattr(items.pop("gone"), "kind", None) is FailureKind.GONE
    assert {href: i["id"] for href, i in items.items() if isinstance(i, dict)} == {i: i for i in hrefs[:-1]}
    assert set(shelf.reads.values()) == {1}
    assert await reader.read_many([]) == {}


@pytest.mark.parametrize(("memory", "read"), [(300, "abcd"), (200, "ab"), (100, "a"), (99, "")])
async def test_as_many_items_are_read_as_fit_into_memory_together(monkeypatch, memory, read):
    monkeypatch.setattr(item_reader, "_MAX_MEMORY", memory)
    items = await ItemReader(Shelf(is_open=True).read, VirtualClock()).read_many([*"abc", "gone"])
    assert [href for href, found in items.items() if isinstance(found, dict)] == [*read.replace("d", "")]
    too_large = [href for href in "abc" if getattr(items.get(href), "kind", None) is FailureKind.OVERLONG]
    assert too_large == ([] if read else [*"abc"])
