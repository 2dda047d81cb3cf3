"""`--sample`, `--shard` and what filters leave out, over small APIs, with stops."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from tests.acceptance.small_api import SmallApi
from tests.export.conftest import item

from stacpull import MirrorReport, Options, PlanReport, Selection, UsageError, headers, mirror, plan, status
from stacpull.engine import estimate
from stacpull.engine.producer import restored_candidates, sampled_item
from stacpull.engine.selector import Candidate, MemorySample
from stacpull.filters.ids import rank_of
from stacpull.ledger import walk_state
from stacpull.ledger.database import open_reader, open_writer
from stacpull.models import Failure, FailureKind, ItemId
from stacpull.redact import Secrets

pytestmark = pytest.mark.usefixtures("threaded_store")

IDS = [f"i{number:02}" for number in range(23)]


def smallest(ids: list[str], size: int, seed: int = 0) -> set[str]:
    return set(sorted(ids, key=lambda name: rank_of(seed, name))[:size])


def ranks_in(dest: Path) -> set[int]:
    """Return the ranks of the candidates that the ledger holds."""
    with closing(open_reader(dest)) as db:
        return set(walk_state.ranks(db))


def items_in(dest: Path) -> set[str]:
    return {path.parent.name for path in dest.glob("*/*/data")}


def mirrored(api: SmallApi, dest: Path, **selection: object) -> MirrorReport:
    """Mirror the whole API; a stop is an answer that ends the walk (`api.refused`)."""

    async def work() -> MirrorReport:
        async with api:
            return await mirror(
                api.url("/"),
                dest,
                selection=Selection(all_collections=True, **selection),  # type: ignore[arg-type]
                options=Options(retries=0),
            )

    return asyncio.run(work())


@pytest.mark.parametrize("order", [IDS, IDS[::-1], sorted(IDS, key=lambda name: name[::-1])])
@pytest.mark.parametrize("seed", [0, 5])
def test_the_sample_is_the_same_whatever_the_order(tmp_path, order, seed):
    report = mirrored(SmallApi({"a": order}), tmp_path, sample=7, seed=seed)
    assert items_in(tmp_path) == smallest(IDS, 7, seed)
    assert (report.state, report.items_seen, report.items_matched, report.assets_done) == (
        "complete",
        23,
        7,
        7,
    )
    assert ranks_in(tmp_path) == set()


def test_a_sample_is_drawn_over_all_collections(tmp_path):
    api = SmallApi({"a": IDS[:12], "b": IDS[12:]})
    mirrored(api, tmp_path, sample=6)
    assert items_in(tmp_path) == smallest(IDS, 6)


def test_a_sample_larger_than_the_collection_is_all_of_it(tmp_path):
    report = mirrored(SmallApi({"a": IDS}), tmp_path, sample=100)
    assert (report.items_matched, items_in(tmp_path)) == (23, set(IDS))


def test_a_sample_is_drawn_from_matching_items(tmp_path):
    wanted = IDS[::2]
    mirrored(SmallApi({"a": IDS}), tmp_path, sample=4, ids=tuple(wanted))
    assert items_in(tmp_path) == smallest(wanted, 4)


def test_drawing_a_sample_continues_after_an_interrupted_walk(tmp_path):
    """The source fails on its seventh page; the next run reads on from there, with what was drawn before."""

    async def work():
        async with SmallApi({"a": IDS}) as api:
            api.refused.add("a:7")
            settings = {"selection": Selection(all_collections=True, sample=5), "options": Options(retries=0)}
            with pytest.raises(Exception, match="404"):
                await mirror(api.url("/"), tmp_path, **settings)
            found, ranks = await asyncio.to_thread(lambda: (status(tmp_path), ranks_in(tmp_path)))
            assert (found.state, found.assets_planned, found.items_seen) == ("failed", 0, 12)
            assert ranks == {rank_of(0, name) for name in smallest(IDS[:12], 5)}
            api.refused.clear()
            api.requests.clear()
            report = await mirror(api.url("/"), tmp_path, **settings)
            pages = [one.target for one in api.requests if "/items" in one.target]
            return report, pages

    report, pages = asyncio.run(work())
    assert report.state == "complete"
    assert items_in(tmp_path) == smallest(IDS, 5)
    assert len(pages) == 6, "pages 7 to 12 only"


def test_a_drawn_sample_is_planned_after_a_stop_without_another_walk(tmp_path):
    """The mirror is stopped at its first asset, when the walk is over; nothing is walked again."""

    async def work():
        async with SmallApi({"a": IDS}) as api:
            stop = asyncio.Event()
            settings = {
                "selection": Selection(all_collections=True, sample=5),
                "options": Options(retries=0, concurrency=1),
            }

            def listen(event):
                if getattr(event, "items_matched", 0):
                    stop.set()

            for name in IDS:
                path = f"/assets/a/{name}"
                usual = api._routes[path]

                def stopping(request, usual=usual):
                    stop.set()
                    return usual(request)

                api._routes[path] = stopping
            first = await mirror(api.url("/"), tmp_path, on_event=listen, stop=stop, **settings)
            api.requests.clear()
            second = await mirror(api.url("/"), tmp_path, **settings)
            return first, second, [one.target for one in api.requests if "/items" in one.target]

    first, second, pages = asyncio.run(work())
    assert first.state == "interrupted"
    assert second.state == "complete"
    assert items_in(tmp_path) == smallest(IDS, 5)
    assert pages == []


def test_plan_and_headers_draw_the_same_sample(tmp_path):
    selection = Selection(all_collections=True, sample=5, assets=("data",))

    async def work() -> tuple[PlanReport, set[object]]:
        async with SmallApi({"a": IDS}) as api:
            planned = await plan(api.url("/"), selection=selection, options=Options(retries=0))
            rows: list[object] = []
            await headers(
                api.url("/"),
                selection=selection,
                options=Options(retries=0),
                on_row=lambda row: rows.append(row["item"]),
            )
            return planned, set(rows)

    planned, items = asyncio.run(work())
    assert (planned.items_seen, planned.items_matched, planned.assets) == (23, 5, 5)
    assert items == smallest(IDS, 5)


def test_shards_divide_a_collection_without_overlap(tmp_path):
    parts = []
    for number in (1, 2, 3):
        report = mirrored(SmallApi({"a": IDS}), tmp_path / str(number), shard=(number, 3))
        parts.append(items_in(tmp_path / str(number)))
        assert report.items_left_out == {"shard": 23 - len(parts[-1])}
    assert sorted(name for part in parts for name in part) == IDS


def test_filtered_items_are_counted_once_over_stops(tmp_path):
    async def work():
        async with SmallApi({"a": IDS}) as api:
            api.refused.add("a:7")
            settings = {
                "selection": Selection(all_collections=True, filter="id >= 'i10'", bbox=(0, 0, 1, 1)),
                "options": Options(retries=0),
            }
            with pytest.raises(Exception, match="404"):
                await mirror(api.url("/"), tmp_path, **settings)
            api.refused.clear()
            return await mirror(api.url("/"), tmp_path, **settings)

    report = asyncio.run(work())
    assert report.items_left_out == {"bbox": 13, "filter": 10}
    assert report.items_seen == 23


@pytest.mark.parametrize("selection", [{"filter": "id >"}, {"where": ("x",)}, {"intersects": "{}"}])
def test_an_invalid_selection_is_refused_before_any_request(tmp_path, selection):
    api = SmallApi({"a": IDS})
    with pytest.raises(UsageError):
        mirrored(api, tmp_path / "m", **selection)
    assert api.requests == []
    assert not (tmp_path / "m").exists()


# --- the pieces ------------------------------------------------------------------------------------------


def candidate(name: str, rank: int, href: str = "https://x/data") -> Candidate:
    item = {"id": name, "links": [], "assets": {"data": {"href": href}}}
    return Candidate(rank, ItemId("c", name), item, "https://x/collections/c/items?limit=2")


def test_a_sample_in_memory_keeps_the_smallest():
    sample = MemorySample(150)
    for start in range(0, 300, 100):
        sample.keep([candidate(str(rank), rank) for rank in range(start + 99, start - 1, -1)])
    assert [[one.rank for one in stretch] for stretch in sample.batches()] == [
        list(range(100)),
        list(range(100, 150)),
    ]


def test_a_sample_in_the_ledger_keeps_the_smallest_and_is_read_in_order(tmp_path):
    (tmp_path / ".stacpull").mkdir()
    db = open_writer(tmp_path)
    kept = [sampled_item(candidate(str(rank), rank), Secrets()) for rank in range(300)]
    walk_state.keep(db, kept[150:], 100)
    walk_state.keep(db, kept[:150], 100)
    assert sorted(walk_state.ranks(db)) == list(range(100))
    first = walk_state.candidates(db, None, 30)
    assert first == kept[:30]
    assert walk_state.candidates(db, first[-1], 1000) == kept[30:100]
    db.close()


class Reader:
    """Reads items again: those it knows."""

    def __init__(self, known):
        self.known = known
        self.requests = []

    async def read_many(self, hrefs):
        self.requests += hrefs
        gone = Failure(FailureKind.GONE, "It is not there any more.")
        return [self.known.get(href, gone) for href in hrefs]


def test_an_item_whose_links_were_signed_is_read_again():
    signed = candidate("a", 1, "https://x/data?X-Amz-Signature=abc")
    plain, gone = candidate("b", 2), candidate("c", 3, "https://x/data?sig=abc")
    kept = [sampled_item(one, Secrets()) for one in (signed, plain, gone)]
    assert [one.stale for one in kept] == [True, False, True]
    assert b"abc" not in b"".join(one.document for one in kept)
    reader = Reader({"https://x/collections/c/items/a": signed.item})
    again = asyncio.run(restored_candidates(kept, reader))
    assert reader.requests == ["https://x/collections/c/items/a", "https://x/collections/c/items/c"]
    assert again[:2] == [
        signed._replace(page_url=kept[0].page_url),
        plain._replace(page_url=kept[1].page_url),
    ]
    assert again[2].item == orjson.loads(kept[2].document)


def test_plan_requests_few_sizes_if_every_asset_has_its_own_key(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "_MOST_SIZED", 3)
    lines = []
    for size in range(1, 6):
        (tmp_path / f"{size}.tif").write_bytes(b"x" * size)
        lines.append(orjson.dumps(item(f"i{size}", assets={f"file-{size}": {"href": f"./{size}.tif"}})))
    (tmp_path / "items.ndjson").write_bytes(b"\n".join(lines))
    report = asyncio.run(plan(str(tmp_path / "items.ndjson")))
    assert (report.assets, report.bytes_sampled, report.bytes_basis) == (5, 3, "sampled")
    assert (report.bytes_total, report.unknown_keys) == (1 + 2 + 3 + 2 * 2, {})
