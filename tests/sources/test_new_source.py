"""A walk only needs the interface `Source`."""

from __future__ import annotations

import asyncio

from tests.sources.example_source import ItemListSource
from tests.sources.memory import MemoryReader, item

from stacpull.clock import SystemClock
from stacpull.config.options import Options
from stacpull.engine.network import open_network, options_and_address
from stacpull.engine.walk import Position, Walk, WalkTask
from stacpull.events import Event
from stacpull.ledger.planner import PlanBatch
from stacpull.models import ItemId
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader

URL = "https://data.test/some.itemlist"
ITEMS = {f"https://data.test/{name}.json": item(name) for name in "abcde"}


class Taken:
    """Collects the items of a walk."""

    def __init__(self, before: int) -> None:
        self._before = before
        self.names: list[str] = []
        self.positions: list[str] = []

    @property
    def items_seen(self) -> int:
        return self._before + len(self.names)

    async def find_planned(self, _ids: object, _linked: bool) -> dict[ItemId, str | None]:
        return {}

    async def add_batch(self, batch: PlanBatch) -> int:
        self.names += [one.id.item for one in batch.items]
        if batch.reached.position is not None:
            self.positions.append(batch.reached.position)
        return len(batch.seen)

    async def restart(self) -> int:
        raise AssertionError("the cursor is not forgotten")


async def walked(position: Position, before: int = 0) -> Taken:
    reader = MemoryReader({URL: {"items": list(ITEMS)}, **ITEMS})
    source = ItemListSource(URL, reader)
    selection, events = Selection(), list[Event]()
    items = ItemReader(source.item, SystemClock())
    taken = Taken(before)
    options, address = options_and_address(URL, Options(page_size=2))
    async with open_network(address, options) as network:
        walk = Walk(WalkTask(source, items, network, selection, options, events.append), taken)
        await walk.run(position)
    assert not events
    assert walk.summary.whole
    return taken


def test_a_walk_of_a_new_source_is_complete_and_resumes() -> None:
    whole = asyncio.run(walked(Position()))
    assert whole.names == ["a", "b", "c", "d", "e"]
    for count, position in enumerate(whole.positions[:-1], 1):
        stored = Position.from_json(position)
        assert asyncio.run(walked(stored, 2 * count)).names == whole.names[2 * count :]
