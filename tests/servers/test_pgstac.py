"""The same answers pushed down to a real STAC API as filtered here: 20 selections.

500 items in the suite; `PGSTAC_ITEMS=10000` for the figure of issue 7.
"""

import os
from collections.abc import Sequence
from typing import Any

import attrs
import orjson
import pytest
from tests.servers.pgstac import Pgstac
from tests.servers.searched import COLLECTIONS, collections, items, walked

from stacpull.filters.selection_filter import SelectionFilter
from stacpull.selection import Selection

COUNT = int(os.environ.get("PGSTAC_ITEMS", "500"))
TRIANGLE = {"type": "Polygon", "coordinates": [[[-20, -30], [60, -30], [20, 50], [-20, -30]]]}
HOLED = {
    "type": "Polygon",
    "coordinates": [
        [[-100, -60], [100, -60], [100, 60], [-100, 60], [-100, -60]],
        [[-50, -40], [-50, 40], [50, 40], [50, -40], [-50, -40]],
    ],
}
MANY = {"type": "MultiPoint", "coordinates": [[x / 2, y] for x in range(-300, 300) for y in (-20, 20)]}
SELECTIONS: Sequence[Selection] = [
    Selection(bbox=(-10, -10, 40, 40)),
    Selection(bbox=(150, -60, -150, 60)),
    Selection(bbox=(-10, -10, 0, 40, 40, 9000)),
    Selection(bbox=(20, 0, 20, 60)),
    Selection(intersects=orjson.dumps(TRIANGLE).decode()),
    Selection(intersects=orjson.dumps({"type": "Feature", "geometry": HOLED, "properties": {}}).decode()),
    Selection(intersects=orjson.dumps(MANY).decode()),
    Selection(datetime="2018-06-01/2018-06-30"),
    Selection(datetime="2018-06-15"),
    Selection(datetime="2019-01-01T00:00:00Z/.."),
    Selection(datetime="../2017-03-01T12:00:00.5Z"),
    Selection(max_cloud_cover=15.0),
    Selection(filter="platform = 'landsat-8' AND \"eo:cloud_cover\" < 30"),
    Selection(filter="platform IN ('sentinel-2a', 'sentinel-2b') AND NOT gsd = 10"),
    Selection(filter='"eo:cloud_cover" BETWEEN 10 AND 20 OR night = TRUE'),
    Selection(filter="gsd > 20 AND platform LIKE 'sentinel%'"),
    Selection(filter='{"op": "<>", "args": [{"property": "properties.platform"}, "landsat-8"]}'),
    Selection(datetime="2018-01-01/2019-06-30", bbox=(-90, -60, 90, 60), max_cloud_cover=40.0),
    Selection(intersects=orjson.dumps(TRIANGLE).decode(), filter="night = FALSE", datetime="2017-05-01/.."),
    Selection(bbox=(-1, 89, 1, 90)),
]


@pytest.fixture(scope="module")
def url(real_api: Pgstac) -> str:
    real_api.load(collections(), items(COUNT))
    return real_api.url


@pytest.fixture(scope="module")
def everything(url: str) -> list[dict[str, Any]]:
    """What a walk without push-down gives, to be filtered here."""
    found = walked(url, Selection(collections=COLLECTIONS), push_down=False)
    assert len(found.items) == COUNT
    return found.items


@pytest.mark.parametrize("selection", SELECTIONS, ids=range(len(SELECTIONS)))
def test_push_down_gives_the_same_items(url, everything, selection):
    keep = SelectionFilter.from_selection(selection)
    pushed = walked(url, attrs.evolve(selection, collections=COLLECTIONS))
    assert sorted(pushed.kept) == sorted(i["id"] for i in everything if keep.reason_left_out(i) is None)
    assert pushed.warnings == []
    assert pushed.seen < COUNT, "nothing was pushed down"


@pytest.mark.parametrize("whole", [True, False])
def test_ids_are_searched_and_endings_filtered(url: str, whole: bool) -> None:
    names = [item["id"] for item in items(COUNT)][5:400:80]
    requested = tuple(name if whole else name[2:] for name in names)
    found = walked(url, Selection(collections=COLLECTIONS, ids=requested))
    assert sorted(found.kept) == sorted(names)
    assert found.seen == (len(names) if whole else COUNT)


def test_small_pages_give_the_same_items(url: str) -> None:
    for selection in (SELECTIONS[9], SELECTIONS[13]):
        everywhere = attrs.evolve(selection, all_collections=True)
        small, large = walked(url, everywhere, page_size=20), walked(url, everywhere)
        assert sorted(small.kept) == sorted(large.kept)
        assert small.requests > large.requests


def test_a_search_url(url: str) -> None:
    found = walked(
        f"{url}/search?collections=scenes&datetime=2018-01-01T00:00:00Z/..", Selection(max_cloud_cover=20.0)
    )
    plain = walked(
        url,
        Selection(collections=("scenes",), datetime="2018-01-01/..", max_cloud_cover=20.0),
        push_down=False,
    )
    assert sorted(found.kept) == sorted(plain.kept)
