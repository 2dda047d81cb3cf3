"""A geometry of a few kilobytes can take hours to mend or to check: none holds a run."""

import asyncio
import math
import time
from pathlib import Path
from typing import Any

import pytest
from tests.net.memory import Answer
from tests.security.sources import Source, feature

from stacpull import MirrorReport, Options, Selection, mirror

AREA = {"type": "Polygon", "coordinates": [[[2, 2], [3, 2], [3, 3], [2, 3], [2, 2]]]}
SECONDS = 20
"""What each scenario may take of the processor; the old code took minutes or more."""


def square(at: float, side: float) -> list[list[float]]:
    return [[at, at], [at + side, at], [at + side, at + side], [at, at + side], [at, at]]


def star(vertices: int) -> dict[str, Any]:
    """A ring of which nearly every edge crosses every other."""
    turn = 2 * math.pi * ((vertices - 1) // 2) / vertices
    ring = [[10 * math.cos(turn * step), 10 * math.sin(turn * step)] for step in range(vertices)]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def nested(holes: int) -> dict[str, Any]:
    rings = [square(-1, 12), *(square(number * 1e-4, 10 - number * 2e-4) for number in range(holes))]
    return {"type": "Polygon", "coordinates": rings}


def deep(levels: int) -> dict[str, Any]:
    geometry: dict[str, Any] = {"type": "Point", "coordinates": [2.5, 2.5]}
    for _ in range(levels):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    return geometry


COMPLEX = {
    "star of 101": star(101),
    "star of 501": star(501),
    "star of 20,001": star(20_001),
    "6,000 nested holes": nested(6_000),
    "many stars": {"type": "MultiPolygon", "coordinates": [star(31)["coordinates"]] * 30},
    "60,000 points": {"type": "MultiPoint", "coordinates": [[number / 1e4, 2.5] for number in range(60_000)]},
    "stars in a collection": {"type": "GeometryCollection", "geometries": [star(51)] * 10},
}
SELECTIONS: dict[str, dict[str, Any]] = {
    "intersects": {"intersects": AREA},
    "filter": {"filter": "S_INTERSECTS(geometry, BBOX(2, 2, 3, 3))"},
    "bbox": {"bbox": (2, 2, 3, 3)},
}


def mirrored(dest: Path, geometry: Any, **selection: Any) -> tuple[MirrorReport, float]:
    """Mirror one item; return the report, and the longest pause of the event loop, in processor time."""

    async def course() -> tuple[MirrorReport, float]:
        longest, last, ended = 0.0, time.process_time(), False

        async def tick() -> None:
            nonlocal longest, last
            while not ended:
                await asyncio.sleep(0.02)
                longest, last = max(longest, time.process_time() - last), time.process_time()

        async with Source(others=lambda _: Answer(body=b"data")) as source:
            found = feature("i", {"a": source.url("/a")}, geometry=geometry, bbox=[0, 0, 5, 5])
            source.features.append(found)
            ticking = asyncio.create_task(tick())
            try:
                report = await mirror(
                    source.api, dest, selection=Selection(**selection), options=Options(retries=0)
                )
            finally:
                ended = True
                await ticking
        return report, longest

    return asyncio.run(course())


@pytest.mark.parametrize("how", SELECTIONS)
@pytest.mark.parametrize("name", COMPLEX)
def test_a_complex_geometry_is_compared_in_time(name: str, how: str, tmp_path: Path) -> None:
    began = time.process_time()
    report, longest = mirrored(tmp_path / "m", COMPLEX[name], **SELECTIONS[how])
    assert time.process_time() - began < SECONDS
    assert (report.state, report.items_matched) == ("complete", name != "6,000 nested holes")
    assert longest < 3


@pytest.mark.parametrize("how", SELECTIONS)
def test_a_geometry_nested_too_deeply_does_not_end_the_run(how: str, tmp_path: Path) -> None:
    for number, geometry in enumerate(
        [deep(110), deep(50), {"type": "Polygon", "coordinates": [[[1e308] * 2] * 4]}]
    ):
        report, _ = mirrored(tmp_path / f"m{number}", geometry, **SELECTIONS[how])
        assert report.state == "complete"
