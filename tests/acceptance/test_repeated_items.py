"""A source that lists an item more than once."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.small_api import SmallApi
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer, json_answer, read_request, wire_of

import stacpull
from stacpull import Selection
from stacpull.sync import headers, mirror, plan


class Updated(SmallApi):
    """Each of its pages lists newer versions. `href` is that of an asset, by item and number of the page."""

    def __init__(self, *pages: str, href: str = "{}", **options: Any) -> None:
        hrefs = {href.format(name, number) for number, page in enumerate(pages, 1) for name in page}
        super().__init__({"c": sorted(hrefs)}, **options)
        self.pages = pages
        self.href = f"/assets/c/{href}"

    def _listed(self, name: str, number: int) -> tuple[str, bool]:
        self.number = number
        return self.pages[number - 1], number < len(self.pages)

    def _item(self, collection: str, name: str) -> dict[str, Any]:
        updated = f"2024-01-0{self.number}T00:00:00Z"
        hrefs = {"data": self.url(self.href.format(name, self.number))}
        return feature(name, hrefs, properties={"datetime": updated, "updated": updated})


@pytest.mark.parametrize(("max_items", "ids"), [(2, {"a", "b"}), (None, {"a", "b", "c"})])
@pytest.mark.parametrize(("page_size", "days"), [(1, [1] * 10), (20, [1] * 10), (4, range(10, 20))])
def test_an_item_that_is_listed_again_does_not_count_for_max_items(tmp_path, max_items, ids, page_size, days):
    source = tmp_path / "items.ndjson"
    lines = []
    for name, day in zip("aaaaaababc", days, strict=True):
        (tmp_path / f"{name}.txt").write_text(name)
        times = {"datetime": "2024-01-01T00:00:00Z", "updated": f"2024-01-{day:02}T00:00:00Z"}
        lines.append(feature(name, {"text": f"./{name}.txt"}, collection="letters", properties=times))
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = stacpull.Options(page_size=page_size)
    report = mirror(source, tmp_path / "m", selection=Selection(max_items=max_items), options=options)
    assert (report.state, report.items_matched, report.assets_done) == ("complete", len(ids), len(ids))
    assert {path.parent.name for path in (tmp_path / "m").rglob("*.txt")} == ids


@pytest.mark.parametrize("page_size", [1, 10])
def test_the_newest_version_of_an_item_that_is_listed_twice_wins(tmp_path: Path, page_size: int) -> None:
    """`b` makes the first version of `a` complete before the second one is read."""
    days = ("02T00:00:00Z", None, "03T00:00:00+00:00", "03T00:00:00Z", "01T00:00:00Z")
    dates = [day and f"2024-01-{day}" for day in days]
    lines = []
    for number, (name, updated) in enumerate(zip("abaaa", dates, strict=True)):
        for key in ("kept", f"of{number}"):
            (tmp_path / f"{name}-{key}.txt").write_text(f"{name} {key}")
        properties = {"datetime": "2024-01-01T00:00:00Z", "updated": updated, "number": number}
        assets = {key: {"href": f"./{name}-{key}.txt"} for key in ("kept", f"of{number}")}
        lines.append(feature(name, collection="letters", properties=properties, assets=assets))
    source, dest = tmp_path / "items.ndjson", tmp_path / "m"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = mirror(source, dest, options=stacpull.Options(page_size=page_size))
    assert (report.state, report.items_matched, report.items_new) == ("complete", 2, 2)
    assert (report.items_changed, report.assets_skipped) == (0, 0)
    assert plan(source, selection=Selection(ids="a", where="number=0")).items_left_out == {"ids": 1}
    written = json.loads((dest / "letters" / "a" / "a.json").read_text())
    assert written["properties"]["number"] == 2
    assert written["assets"]["of2"]["href"].startswith("./")
    assert (dest / "letters" / "a" / written["assets"]["of2"]["href"]).read_text() == "a of2"
    again = mirror(source, dest, options=stacpull.Options(page_size=page_size))
    assert (again.state, again.assets_failed, again.items_matched) == ("complete", 0, 2)
    assert (again.items_changed, again.assets_skipped, again.assets_done) == (0, 4, 4)
    assert json.loads((dest / "letters" / "a" / "a.json").read_text())["properties"]["number"] == 2
    source.write_text(json.dumps(lines[0]))  # the newer ones are gone
    last = mirror(source, dest, options=stacpull.Options(page_size=page_size))
    assert (last.state, last.items_changed, last.items_matched) == ("complete", 1, 1)
    assert json.loads((dest / "letters" / "a" / "a.json").read_text())["properties"]["number"] == 0


@pytest.mark.parametrize("href", ["{}", "{}{}"])
def test_the_newer_version_wins_although_the_run_ended_before_its_page(tmp_path: Path, href: str) -> None:
    with Updated("a", "a", href=href, asset=lambda request: Answer(body=request.url.encode())) as api:
        for _ in range(2):  # at the start of the second run, the newer version is done
            api.refused = {"c:2": 500}
            with pytest.raises(stacpull.SourceError):
                mirror(api.url("/collections/c"), tmp_path, options=stacpull.Options(retries=0))
            api.refused = {}
            assert mirror(api.url("/collections/c"), tmp_path).state == "complete"
            written = json.loads((tmp_path / "c/a/a.json").read_text())
            assert written["properties"]["updated"] == "2024-01-02T00:00:00Z"
            assert (tmp_path / "c/a/data").read_text() == f"/assets/c/{href.format('a', 2)}"


@pytest.mark.parametrize("href", ["{}", "{}{}"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_page_with_newer_versions_of_the_items_of_an_earlier_one_counts(tmp_path, href, fails):
    """Although their assets are still in flight, and arrive (or fail) after those of the newer version."""

    class Waiting(Updated):
        async def _answer_one(self, reader, writer, number):
            request = await read_request(reader, number)
            answer = Answer(body=b"new")
            if not request.target.startswith("/assets/"):
                answer = self._turn(request)
            elif (name := request.target[10]) in newest:
                newest[name].set()
            else:
                newest[name] = asyncio.Event()
                await newest[name].wait()
                answer = Answer(404) if fails else Answer(body=b"old")
            writer.write(wire_of(answer))
            return True

    newest: dict[str, asyncio.Event] = {}
    with Waiting("ab", "ab", href=href) as api:
        options = stacpull.Options(retries=0, stall_timeout=60)
        report = mirror(api.url("/collections/c"), tmp_path, options=options)
    assert (report.exit_code, report.items_seen, report.items_matched, report.assets_done) == (0, 2, 2, 2)
    for name in "ab":
        assert (tmp_path / f"c/{name}/data").read_bytes() == b"new"
        written = json.loads((tmp_path / f"c/{name}/{name}.json").read_text())
        assert written["properties"]["updated"] == "2024-01-02T00:00:00Z"


def test_a_newer_version_does_not_get_the_bytes_of_another_item_with_its_href(tmp_path: Path) -> None:
    numbers = itertools.count()
    with Updated("ba", "b", "a", href="a", asset=lambda _: Answer(body=b"%d" % next(numbers))) as api:
        report = mirror(api.url("/collections/c"), tmp_path)
    assert (report.exit_code, report.assets_done, report.assets_skipped) == (0, 2, 0)
    assert (tmp_path / "c/a/data").read_bytes() != (tmp_path / "c/b/data").read_bytes()


async def test_documents_of_collections_are_requested_together(tmp_path: Path) -> None:
    class Waiting(SmallApi):
        async def _answer_one(self, reader, writer, number):
            request = await read_request(reader, number)
            if request.target in documents:
                await together.wait()
            writer.write(wire_of(self._turn(request)))
            return True

    together, documents = asyncio.Barrier(3), {f"/collections/{name}" for name in "abc"}
    async with Waiting({name: ["1"] for name in "abc"}) as api:
        options = stacpull.Options(retries=0, stall_timeout=20)
        selection = Selection(all_collections=True)
        await stacpull.mirror(api.url("/"), tmp_path, selection=selection, options=options)
    written = [json.loads((tmp_path / name / "collection.json").read_bytes()) for name in "abc"]
    assert [one["license"] for one in written] == ["CC0-1.0"] * 3


@pytest.mark.parametrize("command", [plan, mirror, headers])
def test_a_source_that_repeats_its_items_for_ever_is_left(tmp_path, command):
    """Each page lists the same five items in another order, and under a new cursor."""
    orders = itertools.permutations([feature(f"{n}") for n in range(5)])

    def page(_request: object) -> Answer:
        links = [{"rel": "next", "href": f"?from={len(api.requests)}"}]
        return json_answer({"type": "FeatureCollection", "features": next(orders), "links": links})

    with WireServer({"/collections/c/items": page}) as api:
        report = command(api.url("/collections/c/items"), tmp_path / "m.csv")
    assert (report.items_seen, len(api.requests) < 10) == (5, True)
