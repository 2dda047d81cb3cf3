"""Sixty items as the real service wrote them, with real band files: mirrored, compared, opened."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import orjson
import pystac
import pytest
from tests.acceptance.trees import files_in
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer

from stacpull import MirrorReport, Options, sync

KEY = "real-hub-key"
COLLECTION = "bigearthnet_v1_source"
ITEMS_PATH = f"/mlhub/v1/collections/{COLLECTION}/items"
_RECORDED = b"https://api.radiant.earth"
_JSON = {"Content-Type": "application/json"}


class RealHub(WireServer):
    """Serves the recorded pages as they came; `bodies` is what must be mirrored, by file name.

    They were recorded with links that repeat from page to page: those of each page get its number.
    """

    def __init__(self, data: Path) -> None:
        super().__init__({})
        self.data = data
        self.bodies: dict[str, bytes] = {}
        self._pages: dict[str | None, bytes] = {}
        self._targets: dict[str, str] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        cursor = None
        for number in (1, 2):
            raw = self._recorded(f"{COLLECTION}_items_page{number}.json")
            raw = raw.replace(b"/download/dummy-", f"/download/page{number}-dummy-".encode())
            self._pages[cursor] = raw
            document = orjson.loads(raw)
            self._place(document["features"], number)
            cursor = document["links"][0]["href"].partition("next=")[2].partition("&")[0]
        self._pages[cursor] = b'{"features": [], "links": [], "type": "FeatureCollection"}'
        return self

    def _recorded(self, name: str) -> bytes:
        raw = (self.data / "mlhub" / "prod2021" / name).read_bytes()
        return raw.replace(_RECORDED, self.url("").encode())

    def _place(self, items: list[Mapping[str, object]], page: int) -> None:
        patches = sorted((self.data / "bigearthnet" / "s2").iterdir())
        for number, item in enumerate(items):
            patch = patches[(number + page) % len(patches)]
            name = str(item["id"]).removeprefix(COLLECTION + "_")
            assets: Mapping[str, Mapping[str, str]] = item["assets"]  # type: ignore[assignment]
            for band, asset in assets.items():
                self._targets[asset["href"].rpartition("/")[2]] = f"{name}_{band}.tif"
                path = patch / f"{patch.name}_{band}.tif"
                if path.exists():
                    self.bodies[f"{name}_{band}.tif"] = path.read_bytes()

    def _turn(self, request: ReceivedRequest) -> Answer:
        url = urlsplit(request.target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path.strip("/").split("/"):
            case [*_, "items"] if query.get("key") != KEY:
                return Answer(401, b"<title>401 Unauthorized</title>", {"Content-Type": "text/html"})
            case [*_, "items"]:
                return Answer(200, self._pages[query.get("next")], _JSON)
            case [*_, "collections", name]:
                return Answer(200, self._recorded(f"{name}_collection.json"), _JSON)
            case [*_, "download", link]:
                return Answer(302, headers={"Location": self.url(f"/blob/{self._targets[link]}")})
            case ["blob", name] if name in self.bodies:
                return Answer(200, self.bodies[name], {"Content-Type": "application/octet-stream"})
        return Answer(404, b"<Error><Code>BlobNotFound</Code></Error>")


@pytest.fixture
def hub(shared_data: Path) -> Iterator[RealHub]:
    with RealHub(shared_data) as running:
        yield running


def mirrored(hub: RealHub, dest: Path, options: Options) -> MirrorReport:
    return sync.mirror(hub.url(f"{ITEMS_PATH}?key={KEY}"), dest, options=options)


@pytest.mark.parametrize(
    ("layout", "path_of"),
    [
        pytest.param(
            "{collection}/{item}/{key}{ext}",
            lambda name, band: f"{COLLECTION}/{COLLECTION}_{name}/{band}.tif",
            id="default layout",
        ),
        pytest.param(
            "bigearthnet/{parent}/{filename}",
            lambda name, band: f"bigearthnet/{COLLECTION}_{name}/{name}_{band}.tif",
            id="layout of the notebook",
        ),
    ],
)
def test_sixty_real_items(hub, shared_data, tmp_path, layout, path_of):
    dest = tmp_path / "mirror"
    report = mirrored(hub, dest, Options(layout=layout))

    assert (report.state, report.items_seen, report.items_matched) == ("complete", 60, 60)
    assert (report.assets_done, report.assets_failed, report.assets_missing) == (720, 60, 60)
    assert {(f.key, f.status) for f in sync.failures(dest)} == {("B10", 404)}
    split = [name.removesuffix(".tif").rpartition("_") for name in hub.bodies]
    expected = {path_of(name, band): hub.bodies[f"{name}_{band}.tif"] for name, _, band in split}
    found = {name: path.read_bytes() for name, path in files_in(dest).items() if name.endswith(".tif")}
    assert len(expected) == 720
    assert found == expected

    catalog = pystac.Catalog.from_file(str(dest / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 60
    opened = {
        Path(asset.get_absolute_href()).resolve().relative_to(dest.resolve()).as_posix()
        for item in items
        for key, asset in item.assets.items()
        if key != "B10"
    }
    assert opened == expected.keys()

    page = shared_data / "mlhub" / "prod2021" / f"{COLLECTION}_items_page1.json"
    for recorded in orjson.loads(page.read_bytes())["features"]:
        written = orjson.loads((dest / COLLECTION / recorded["id"] / f"{recorded['id']}.json").read_bytes())
        for name in ("id", "type", "collection", "geometry", "bbox", "properties"):
            assert written[name] == recorded[name]
        assert written["assets"].keys() == recorded["assets"].keys()
        assert KEY not in orjson.dumps(written).decode()
