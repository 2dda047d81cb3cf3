"""Items without `updated`: a refresh compares their documents."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.items import feature
from tests.net.memory import Answer
from tests.security.sources import Source

from stacpull import MirrorReport, Options, Selection, sync


def offer(path: Path, *items: dict[str, Any], **properties: object) -> None:
    path.parent.mkdir(exist_ok=True)
    for item in items:
        item["properties"] = {"datetime": "2020-01-01T00:00:00Z", **properties}
    lines = [json.dumps(item) for item in items]
    collection = json.dumps({"type": "FeatureCollection", "features": items})
    path.write_text({"items.json": collection, "items.ndjson": "\n".join(lines)}.get(path.name, lines[0]))


def changes(report: MirrorReport) -> tuple[str, int, int, int]:
    return report.state, report.items_changed, report.assets_changed, report.assets_revalidated


def properties_in(dest: Path) -> Any:
    return json.loads((dest / "c/x/x.json").read_bytes())["properties"]


@pytest.mark.parametrize("name", ["items.json", "items.ndjson", "x.json"])
def test_another_document_is_another_version(tmp_path: Path, name: str) -> None:
    (tmp_path / "c.txt").write_text("c")
    for cover, changed in ((55, 0), (77, 1), (77, 0)):
        offer(tmp_path / name, feature("x", {"data": "./c.txt"}), **{"eo:cloud_cover": cover})
        report = sync.mirror(tmp_path / name, tmp_path / "m")
        assert changes(report) == ("complete", changed, 0, changed)
        assert properties_in(tmp_path / "m")["eo:cloud_cover"] == cover
    assert sync.verify(tmp_path / "m").damaged == 0


def test_updated_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("c")
    for cover in (55, 77):
        item = feature("x", {"data": "./c.txt"})
        offer(tmp_path / "items.json", item, updated="2024-01-01T00:00:00Z", cover=cover)
        assert changes(sync.mirror(tmp_path / "items.json", tmp_path / "m")) == ("complete", 0, 0, 0)
    assert properties_in(tmp_path / "m")["cover"] == 55
    for options in (Options(), Options(revalidate=True)):
        plan = sync.plan(tmp_path / "items.json", tmp_path / "m", options=options)
        assert (plan.assets_done, plan.assets_pending) == (not options.revalidate, options.revalidate)


@pytest.mark.parametrize("metadata", ["item", "ndjson"])
def test_an_item_that_is_served_elsewhere_is_the_same(tmp_path: Path, metadata: Any) -> None:
    """An asset is identified by its item and key, so another copy of its source can continue a mirror."""
    for top, other in (("sa", "./o.txt"), ("sb", (tmp_path / "sa/o.txt").as_uri())):
        hrefs = {"data": (tmp_path / top / "c.txt").as_uri(), "other": other}
        offer(tmp_path / top / "x.json", feature("x", hrefs))
        (tmp_path / top / "c.txt").write_text(top)
        options, selection = Options(metadata=metadata), Selection(exclude_assets=("other",))
        report = sync.mirror(tmp_path / top / "x.json", tmp_path / "m", selection=selection, options=options)
        assert changes(report) == ("complete", 0, 0, 0)
    assert (tmp_path / "m/c/x/data.txt").read_text() == "sa"
    document = (tmp_path / {"item": "m/c/x/x.json", "ndjson": "m/c/items.ndjson"}[metadata]).read_bytes()
    assert json.loads(document)["assets"]["other"]["href"] == (tmp_path / "sa/o.txt").as_uri()


class Varying(Source):
    """Signs its hrefs anew in each response, and answers with other links and another order of members."""

    def __init__(self) -> None:
        self.number, self.title = itertools.count(), "one"
        super().__init__(others=self._file)

    def _file(self, request: Any) -> Answer:
        is_same = request.headers.get("If-None-Match") == '"1"'
        return Answer(304 if is_same else 200, b"" if is_same else b"data", {"ETag": '"1"'})

    def _turn(self, request: Any) -> Any:
        number = next(self.number)
        token = f"gAAAAA{number:090}"
        hrefs = {"absolute": self.url(f"/a?X-Amz-Signature={number}"), "relative": f"/b?sig={number}"}
        item = feature("x", hrefs | {"path": self.url(f"/download/{token}")}, title=self.title)
        item["links"] = [{"rel": "self", "href": self.url("/collections/c/items/x")}] * (number % 2)
        item["links"] += [{"rel": "license", "href": self.url(f"/license?token={number}")}]
        self.features = [dict(reversed(item.items())) if number % 2 else item]
        return super()._turn(request)

    def files_requested(self) -> int:
        return sum(not one.target.startswith("/collections") for one in self.requests)


@pytest.mark.parametrize("metadata", ["item", "ndjson", "none"])
def test_a_document_that_differs_only_in_form_is_the_same(tmp_path: Path, metadata: Any) -> None:
    with Varying() as source:

        def mirrored() -> tuple[int, int, int]:
            before = source.files_requested()
            _, changed, _, revalidated = changes(sync.mirror(source.api, tmp_path, options=options))
            return source.files_requested() - before, changed, revalidated

        options = Options(metadata=metadata)
        assert mirrored() == (3, 0, 0)
        written = {path: path.stat().st_mtime_ns for path in (tmp_path / "c/x").iterdir()}
        for _ in range(3):
            assert mirrored() == (0, 0, 0)
        assert {path: path.stat().st_mtime_ns for path in written} == written
        source.title = "two"
        assert mirrored() == (3, 1, 3)  # each with its ETag
        assert mirrored() == (0, 0, 0)
