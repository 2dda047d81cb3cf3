"""`--sample`, `--shard` and what filters leave out, over small APIs, with stops."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.small_api import SmallApi
from tests.export.conftest import item
from tests.net.memory import Answer

from stacpull import MirrorReport, Options, Selection, headers, mirror, plan, sync
from stacpull.engine import walk
from stacpull.filters.item_filters import rank_of
from stacpull.models import ItemId
from stacpull.planning.item_plan import ListedItem

pytestmark = pytest.mark.usefixtures("threaded_store")

IDS = [f"i{number:02}" for number in range(23)]


def smallest(ids: list[str], size: int, seed: int = 0) -> set[str]:
    return set(sorted(ids, key=lambda name: rank_of(seed, name))[:size])


def test_the_newest_document_of_a_drawn_item_is_kept() -> None:
    sample = walk.Sample(1, 7)

    def drawn_after(name: str, year: int) -> tuple[str, str | None]:
        document = {"id": name, "properties": {"updated": f"{year}-01-01T00:00:00Z"}}
        sample.offer(ListedItem(ItemId("c", name), document, ""))
        ((_, found, updated, *_),) = sample.lowest()
        return found.item, updated

    name, _ = [drawn_after(name, 2020) for name in "abc"][-1]  # more than are kept
    assert [drawn_after(name, year)[1][:4] for year in (2019, 2022, 2021)] == ["2020", "2022", "2022"]


def items_in(dest: Path) -> set[str]:
    return {path.parent.name for path in dest.glob("*/*/data")}


def mirrored(api: SmallApi, dest: Path, chosen: dict[str, Any], refused: str = "") -> MirrorReport:
    """Mirror the whole API; with `refused`, a page at which the first run fails."""

    selection = Selection(all_collections=True, **chosen)
    options = Options(retries=0)
    with api:
        if refused:
            api.refused[refused] = 404
            with pytest.raises(Exception, match="404"):
                sync.mirror(api.url("/"), dest, selection=selection, options=options)
            api.refused.clear()
        return sync.mirror(api.url("/"), dest, selection=selection, options=options)


@pytest.mark.parametrize(
    ("collections", "chosen", "expected"),
    [
        *(({"a": order}, {"sample": 7}, smallest(IDS, 7)) for order in (IDS, IDS[::-1])),
        ({"a": IDS}, {"sample": 7, "seed": 5}, smallest(IDS, 7, 5)),
        ({"a": IDS[:12], "b": IDS[12:]}, {"sample": 6}, smallest(IDS, 6)),
        ({"a": IDS}, {"sample": 100}, set(IDS)),
        ({"a": IDS}, {"sample": 4, "ids": tuple(IDS[::2])}, smallest(IDS[::2], 4)),
    ],
    ids=["an order", "another order", "another seed", "two collections", "all", "only matches"],
)
def test_the_sample_is_the_same_whatever_the_order(tmp_path, collections, chosen, expected):
    report = mirrored(SmallApi(collections), tmp_path, chosen)
    assert items_in(tmp_path) == expected
    assert (report.state, report.items_seen, report.items_matched) == ("complete", 23, len(expected))
    assert sum(report.items_left_out.values()) == 23 - len(expected)


async def test_a_sample_whose_planning_was_stopped_is_planned_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(walk, "ITEMS_AT_ONCE", 2)
    stop = asyncio.Event()
    selection = Selection(all_collections=True, sample=15)
    options = Options(retries=0, concurrency=1)

    def stopping(_request):
        stop.set()
        return Answer(body=b"data")

    async with SmallApi({"a": IDS}, asset=stopping) as api:
        first = await mirror(api.url("/"), tmp_path, stop=stop, selection=selection, options=options)
        second = await mirror(api.url("/"), tmp_path, selection=selection, options=options)
    assert first.state == "interrupted"
    assert first.items_matched < 15
    assert (second.state, second.items_matched, second.assets_done) == ("complete", 15, 15)
    assert items_in(tmp_path) == smallest(IDS, 15)


async def test_plan_and_headers_draw_the_same_sample(tmp_path: Path) -> None:
    selection = Selection(all_collections=True, sample=5, assets=("data",))
    async with SmallApi({"a": IDS}) as api:
        planned = await plan(api.url("/"), selection=selection, options=Options(retries=0))
        rows: list[object] = []
        await headers(
            api.url("/"),
            selection=selection,
            options=Options(retries=0),
            on_row=lambda row: rows.append(row["item"]),
        )
    assert (planned.items_matched, planned.assets, planned.items_left_out) == (5, 5, {"sample": 18})
    assert set(rows) == smallest(IDS, 5)


def test_filtered_items_are_counted_once_over_stops(tmp_path: Path) -> None:
    chosen = {"filter": "id >= 'i10'", "bbox": (0, 0, 1, 1)}
    report = mirrored(SmallApi({"a": IDS}), tmp_path, chosen, refused="a:7")
    assert [*report.items_left_out.items()] == [("filter", 10), ("no location", 13)]
    assert report.items_seen == 23


def test_plan_requests_few_sizes_if_every_asset_has_its_own_key(tmp_path, monkeypatch):
    monkeypatch.setattr("stacpull.engine.estimate._MAX_SIZED", 3)
    lines = []
    for size in range(1, 6):
        (tmp_path / f"{size}.tif").write_bytes(b"x" * size)
        lines.append(orjson.dumps(item(f"i{size}", assets={f"file-{size}": {"href": f"./{size}.tif"}})))
    (tmp_path / "items.ndjson").write_bytes(b"\n".join(lines))
    report = sync.plan(str(tmp_path / "items.ndjson"))
    assert (report.assets, report.bytes_sampled, report.bytes_basis) == (5, 3, "sampled")
    assert (report.bytes_total, report.unknown_keys) == (1 + 2 + 3 + 2 * 2, {})
    assert report.bytes_pending == report.bytes_total
    sync.mirror(str(tmp_path / "items.ndjson"), tmp_path / "m", selection=Selection(max_items=2))
    assert sync.plan(str(tmp_path / "items.ndjson"), tmp_path / "m").bytes_pending == 3 + 2 * 2


def test_only_assets_that_gave_a_size_count_as_sampled(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"abc")
    assets = {name: {"href": f"./{name}.tif"} for name in ("a", "missing")}
    (tmp_path / "items.ndjson").write_bytes(orjson.dumps(item("i", assets=assets)))
    report = sync.plan(str(tmp_path / "items.ndjson"))
    assert (report.bytes_total, report.bytes_sampled, report.unknown_keys) == (3, 1, {"missing": 1})
