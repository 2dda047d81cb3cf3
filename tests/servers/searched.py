"""Items for real search services, and what a selection keeps of them when walked as the command does."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import attrs
from tests.items import collection, feature

from stacpull.config.options import Options
from stacpull.engine.network import open_network, resolve_source
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.sources.source import PageSize

COLLECTIONS = ("scenes", "mosaics")


def collections() -> list[dict[str, Any]]:
    extent = {
        "spatial": {"bbox": [[-180, -90, 180, 90]]},
        "temporal": {"interval": [["2017-01-01T00:00:00Z", None]]},
    }
    return [collection(name, extent=extent) for name in COLLECTIONS]


def items(count: int) -> Iterator[dict[str, Any]]:
    """Yield `count` items of both collections, from a seed: scenes at an instant, mosaics over a month."""
    chance = random.Random(20)
    for number in range(count):
        mosaic = number % 5 == 0
        west, south = round(chance.uniform(-179, 175), 3), round(chance.uniform(-80, 78), 3)
        east, north = west + round(chance.uniform(0.1, 4), 3), south + round(chance.uniform(0.1, 2), 3)
        ring = [[west, south], [east, south], [(west + east) / 2, north], [west, south]]
        day = f"20{chance.randrange(17, 20)}-{chance.randrange(1, 13):02}"
        clock = f"{chance.randrange(24):02}:30:{chance.random() * 59:09.6f}"
        properties: dict[str, Any] = {
            "datetime": f"{day}-{chance.randrange(1, 29):02}T{clock}Z",
            "platform": chance.choice(["sentinel-2a", "sentinel-2b", "landsat-8"]),
            "gsd": chance.choice([10, 20, 30.5]),
        }
        if mosaic:
            properties |= {
                "datetime": None,
                "start_datetime": f"{day}-01T00:00:00Z",
                "end_datetime": f"{day}-28T23:59:59Z",
            }
        if chance.random() < 0.9:
            properties["eo:cloud_cover"] = round(chance.uniform(0, 100), chance.randrange(3))
        if chance.random() < 0.5:
            properties["night"] = chance.random() < 0.3
        yield feature(
            f"{'M' if mosaic else 'S'}_{number:05}_{chance.randrange(16**6):06x}",
            collection=COLLECTIONS[mosaic],
            geometry={"type": "Polygon", "coordinates": [ring]},
            bbox=[west, south, east, north],
            properties=properties,
            assets={"data": {"href": f"https://data.test/{number}.tif", "type": "image/tiff"}},
        )


@dataclass
class Walked:
    """What came of a walk: its items, the ids of those kept, and how it was had."""

    items: list[dict[str, Any]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    requests: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return len(self.items)


def walked(url: str, selection: Selection, *, push_down: bool = True, page_size: int = 1000) -> Walked:
    async def run() -> Walked:
        found = Walked()
        chosen = attrs.evolve(selection, push_down=push_down)
        keep = SelectionFilter.from_selection(chosen)
        options, address = resolve_source(url, Options(retries=1))
        async with open_network(address, options) as network:
            source = await open_source(address.url, network.reader)
            for start in await source.starts(chosen):
                async for page in source.pages(
                    start,
                    page_size=PageSize(page_size),
                    on_notice=lambda notice: found.warnings.append(notice.text),
                ):
                    found.items += page.items
                    found.kept += [i["id"] for i in page.items if keep.reason_left_out(i) is None]
            found.requests = network.counters.requests
        return found

    return asyncio.run(run())
