"""Static catalogs as people mirror them: from disk and from a web server, killed, resumed, damaged."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
from pathlib import Path

import pystac
import pytest
from tests.acceptance.command import Running, environment, run, wait_until
from tests.acceptance.static_tree import asset_of, write_tree
from tests.servers.nginx import Nginx, nginx

COLLECTIONS = 10
ITEMS = int(os.environ.get("STATIC_ITEMS", "400"))
"""The acceptance run has 5,000 (STATIC_ITEMS=5000)."""
EACH = ITEMS // COLLECTIONS
_READ_AGAIN = 400
"""Documents that a kill may cost: two pages of items, and 128 documents before the first link not read."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory):
    with nginx(tmp_path_factory.mktemp("web")) as server:
        write_tree(server.root / "tree", COLLECTIONS, EACH)
        yield server


def damage(dest: Path) -> list[str]:
    """Return the assets that are not what the tree has."""
    names = [f"col{c}-{n}" for c in range(COLLECTIONS) for n in range(EACH)]
    paths = {name: dest / name.rpartition("-")[0] / name / "data.bin" for name in names}
    return [name for name, path in paths.items() if not path.is_file() or path.read_bytes() != asset_of(name)]


def items_read(web: Nginx) -> int:
    return sum(status == 200 for status in web.answers("/files/tree/col")) if web.log.exists() else 0


def killed_and_resumed(source: str, dest: Path, *options: str) -> dict[str, int]:
    """Kill a mirror once 60 % of the items were seen, check what is there, resume; return the last report."""
    env = environment()
    with Running(["mirror", source, str(dest), *options], env) as process:
        done = lambda: sum(1 for _ in dest.glob("col*/*/*.bin")) > ITEMS * 0.6 or not process.is_alive()  # noqa: E731
        assert wait_until(done, timeout=120, pause=0.05)
        assert process.signal(signal.SIGKILL)
        process.ended()
    resumed = run(["resume", str(dest), *options, "--json"], env, timeout=180)
    assert resumed.code == 0, resumed.err
    assert not damage(dest)
    assert run(["verify", str(dest)], env).code == 0
    return resumed.report


def test_from_disk_killed_and_resumed(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "tree", COLLECTIONS, EACH)
    report = killed_and_resumed(str(source), tmp_path / "mirror")
    assert (report["state"], report["items_matched"], report["items_done"]) == ("complete", ITEMS, ITEMS)
    assert report["requests"] < 2 * ITEMS
    catalog = pystac.Catalog.from_file(str(tmp_path / "mirror" / "catalog.json"))
    assert sum(1 for _ in catalog.get_items(recursive=True)) == ITEMS
    assert {c.license for c in catalog.get_collections()} == {"CC0-1.0"}


def test_over_http_killed_and_resumed(web: Nginx, tmp_path: Path) -> None:
    before = len(web.answers("/files/tree/col"))
    report = killed_and_resumed(f"{web.url}/files/tree/catalog.json", tmp_path / "mirror")
    assert (report["state"], report["items_matched"], report["items_done"]) == ("complete", ITEMS, ITEMS)
    asked = len(web.answers("/files/tree/col")) - before
    assert asked < 2 * ITEMS + COLLECTIONS * 3 + 2 * _READ_AGAIN  # each item and asset once, but for the kill
    again = run(
        ["mirror", f"{web.url}/files/tree/catalog.json", str(tmp_path / "mirror"), "--json"], environment()
    )
    assert (again.code, again.report["assets_skipped"]) == (0, ITEMS)


def test_the_same_items_whatever_the_order_of_answers_and_stops(web: Nginx, tmp_path: Path) -> None:
    """--max-items takes the first in document order, also over a stop."""
    dest, source = tmp_path / "mirror", f"{web.url}/files/tree/catalog.json"
    ran = run(["mirror", source, str(dest), "--max-items", "130", "--json"], environment())
    assert ran.report["items_matched"] == 130
    first = [f"col{n // EACH}-{n % EACH}" for n in range(130)]
    assert {path.stem for path in dest.glob("col*/*/*.json")} == set(first)


def test_one_collection_of_a_tree(web: Nginx, tmp_path: Path) -> None:
    source = f"{web.url}/files/tree/catalog.json"
    ran = run(
        ["mirror", source, str(tmp_path / "m"), "-C", "col3", "--max-items", "5", "--json"], environment()
    )
    assert ran.code == 0, ran.err
    assert {path.name for path in (tmp_path / "m").glob("col*")} == {"col3"}
    unknown = run(["mirror", source, str(tmp_path / "n"), "-C", "coll3"], environment())
    assert unknown.code == 2
    assert "did you mean col3" in unknown.err
    listed = run(["collections", source, "--json"], environment())
    assert [one["id"] for one in listed.report["collections"]] == [f"col{n}" for n in range(COLLECTIONS)]


@pytest.mark.parametrize(
    "kind",
    [
        pystac.CatalogType.SELF_CONTAINED,
        pystac.CatalogType.RELATIVE_PUBLISHED,
        pystac.CatalogType.ABSOLUTE_PUBLISHED,
    ],
)
@pytest.mark.parametrize("place", ["disk", "http"])
def test_trees_that_pystac_writes(kind: str, place: str, web: Nginx, tmp_path: Path) -> None:
    directory = web.root / f"{kind}-{place}".lower()
    base = f"{web.url}/files/{directory.name}" if place == "http" else str(directory)
    tree(base).save(
        kind, dest_href=str(directory) if kind != pystac.CatalogType.ABSOLUTE_PUBLISHED else None
    ) if (place == "disk") else tree_over_http(base, kind, directory)
    for item in directory.rglob("item*/item*.json"):
        (item.parent / "data.bin").write_bytes(item.stem.encode())
    ran = run(["mirror", f"{base}/catalog.json", str(tmp_path / "m"), "--json"], environment())
    assert ran.code == 0, ran.err
    files = {path.parent.name: path.read_bytes() for path in (tmp_path / "m").rglob("data.bin")}
    assert files == {f"item{n}": f"item{n}".encode() for n in range(4)}


def tree(base: str) -> pystac.Catalog:
    """A catalog in a catalog with a collection, and items with assets beside them."""
    catalog, middle = pystac.Catalog("cat", "a catalog"), pystac.Catalog("middle", "in between")
    time = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    extent = pystac.Extent(pystac.SpatialExtent([[0, 0, 1, 1]]), pystac.TemporalExtent([[time, None]]))
    collection = pystac.Collection("col", "a collection", extent)
    catalog.add_child(middle)
    middle.add_child(collection)
    for number in range(4):
        item = pystac.Item(f"item{number}", {"type": "Point", "coordinates": [0, 0]}, [0, 0, 0, 0], time, {})
        item.add_asset("data", pystac.Asset("./data.bin"))
        (collection if number else middle).add_item(item)
    catalog.normalize_hrefs(base)
    return catalog


class Written(pystac.StacIO):
    """Writes what has an http URL below a directory."""

    def __init__(self, base: str, directory: Path) -> None:
        super().__init__()
        self._base, self._directory = base, directory

    def read_text(self, source, *_args, **_kwargs):
        return Path(source).read_text()

    def write_text(self, dest, txt, *_args, **_kwargs):
        path = self._directory / str(dest).removeprefix(self._base).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(txt)


def tree_over_http(base: str, kind: str, directory: Path) -> None:
    tree(base).save(kind, stac_io=Written(base, directory))


def test_what_is_broken_is_named_and_the_rest_is_mirrored(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "tree", 2, 5)
    (tmp_path / "tree" / "col0" / "col0-1" / "col0-1.json").unlink()
    (tmp_path / "tree" / "col0" / "col0-2" / "col0-2.json").write_text("<html>not JSON</html>")
    (tmp_path / "tree" / "col1" / "collection.json").write_text("{}")
    ran = run(["mirror", str(source), str(tmp_path / "m"), "--json"], environment())
    assert ran.code == 1
    assert (ran.report["state"], ran.report["items_done"], ran.report["items_failed"]) == ("complete", 3, 3)
    for name in ("col0-1.json", "col0-2.json", "col1/collection.json"):
        assert name in ran.err


def test_nothing_outside_the_source_directory_is_copied(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "tree", 1, 3)
    (tmp_path / "secret.txt").write_text("secret")
    for number, href in enumerate(
        ["file:///etc/passwd", "../../../secret.txt", str(tmp_path / "secret.txt")]
    ):
        path = tmp_path / "tree" / "col0" / f"col0-{number}" / f"col0-{number}.json"
        item = json.loads(path.read_text())
        item["assets"]["data"]["href"] = href
        path.write_text(json.dumps(item))
    ran = run(["mirror", str(source), str(tmp_path / "m"), "--json"], environment())
    assert (ran.code, ran.report["assets_failed"], ran.report["assets_done"]) == (1, 3, 0)
    told = run(["failures", str(tmp_path / "m")], environment()).out
    assert told.count("is not below the directory of SOURCE") == 3
    assert not list((tmp_path / "m").rglob("*.txt"))


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("nowhere.json", 4, "There is no file"),
        (".", 4, "holds no catalog.json"),
        ("broken.json", 4, "is no JSON"),
        ("list.json", 4, "is not STAC"),
        ("gs://bucket/catalog.json", 2, "http, https, s3 and file are read"),
        ("", 2, "SOURCE is empty"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, source: str, code: int, said: str
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    ran = run(["mirror", source, str(tmp_path / "m")], environment(), cwd=tmp_path)
    assert (ran.code, said in ran.err, "Traceback" in ran.err) == (code, True, False), ran.err
