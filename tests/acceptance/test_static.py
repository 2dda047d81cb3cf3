"""Static catalogs as people mirror them: from disk and from a web server, killed, resumed, damaged."""

import datetime as dt
import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pystac
import pytest
from tests.acceptance.command import Running, environment, run, wait_until
from tests.acceptance.static_tree import asset_of, write_tree
from tests.items import feature
from tests.servers.nginx import Nginx, nginx

from stacpull import Options, sync
from stacpull_replicas import S3Replica, run_in_thread

COLLECTIONS = 10
ITEMS = int(os.environ.get("STATIC_ITEMS", "300"))
"""The acceptance run has 5,000 (STATIC_ITEMS=5000)."""
EACH = ITEMS // COLLECTIONS


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory):
    with nginx(tmp_path_factory.mktemp("web")) as server:
        write_tree(server.root / "tree", COLLECTIONS, EACH)
        yield server


def damage(dest: Path) -> list[str]:
    names = [f"col{c}-{n}" for c in range(COLLECTIONS) for n in range(EACH)]
    paths = {name: dest / name.rpartition("-")[0] / name / "data.bin" for name in names}
    return [name for name, path in paths.items() if not path.is_file() or path.read_bytes() != asset_of(name)]


def test_from_disk_killed_and_resumed(tmp_path: Path) -> None:
    """Killed once some of the items are there."""
    source, dest, env = write_tree(tmp_path / "tree", COLLECTIONS, EACH), tmp_path / "mirror", environment()
    with Running(["mirror", str(source), str(dest)], env) as process:
        assert wait_until(lambda: any(dest.glob("col*/*/*.bin")) or not process.is_alive())
        assert process.signal(signal.SIGKILL)
        process.ended()
    resumed = run(["resume", str(dest), "--json"], env)
    assert resumed.code == 0, resumed.err
    assert not damage(dest)
    assert run(["verify", str(dest)], env).code == 0
    report = resumed.report
    assert (report["state"], report["items_matched"], report["items_done"]) == ("complete", ITEMS, ITEMS)
    assert report["requests"] < 2 * ITEMS
    catalog = pystac.Catalog.from_file(str(dest / "catalog.json"))
    assert sum(1 for _ in catalog.get_items(recursive=True)) == ITEMS
    assert {c.license for c in catalog.get_collections()} == {"CC0-1.0"}


def test_max_items_takes_the_first_items_of_a_tree(web: Nginx, tmp_path: Path) -> None:
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
    tree(base).save(kind, dest_href=str(directory))
    for item in directory.rglob("item*/item*.json"):
        (item.parent / "data.bin").write_bytes(item.stem.encode())
    assert sync.mirror(f"{base}/catalog.json", tmp_path / "m").exit_code == 0
    files = {path.parent.name: path.read_bytes() for path in (tmp_path / "m").rglob("data.bin")}
    assert files == {f"item{n}": f"item{n}".encode() for n in range(4)}


def tree(base: str) -> pystac.Catalog:
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


def test_broken_documents_are_reported_and_the_rest_is_mirrored(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "tree", 2, 5)
    (tmp_path / "tree" / "col0" / "col0-1" / "col0-1.json").unlink()
    (tmp_path / "tree" / "col0" / "col0-2" / "col0-2.json").write_text("<html>not JSON</html>")
    (tmp_path / "tree" / "col1" / "collection.json").write_text("{}")
    ran = run(["mirror", str(source), str(tmp_path / "m"), "--json"], environment())
    assert ran.code == 1
    assert (ran.report["state"], ran.report["items_done"], ran.report["items_failed"]) == ("complete", 3, 3)
    assert "3 entries of SOURCE cannot be read. The first: " in ran.err
    assert ran.err.count("col1/collection.json") == 1
    assert "stacpull retry" not in ran.err  # only `mirror` reads them again
    assert "to read the failed items again: repeat the `stacpull mirror` command" in ran.err
    failed = run(["failures", str(tmp_path / "m")], environment())
    for name in ("col0-1.json", "col0-2.json", "col1/collection.json"):
        assert name in failed.out


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("nowhere.json", 4, "There is no file"),
        ("nowhere.ndjson", 4, "There is no file"),
        (".", 4, "does not contain catalog.json"),
        ("broken.json", 4, "is not JSON. SOURCE must be a STAC document, or a .ndjson or .ndjson.gz file"),
        ("zipped.json.gz", 4, "zipped.json.gz is not JSON."),
        ("empty.json", 4, "empty.json is not JSON"),
        ("page.json", 4, "page.json is not JSON"),
        ("landing.json", 2, "use the API itself."),
        ("list.json", 4, "is not STAC"),
        ("image.tif", 4, "SOURCE is a TIFF: use a STAC item"),
        ("ftp://bucket/catalog.json", 2, "unsupported URL scheme ftp"),
        ("", 2, "SOURCE is empty"),
    ],
)
def test_an_unreadable_source_is_reported_in_one_sentence(tmp_path, source, code, message):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "empty.json").touch()
    (tmp_path / "image.tif").touch()
    (tmp_path / "zipped.json.gz").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "page.json").write_text("<!DOCTYPE html><html><body>Log in</body></html>")
    (tmp_path / "landing.json").write_text(json.dumps({"id": "api", "conformsTo": [], "links": []}))
    ran = run(["mirror", source, str(tmp_path / "m")], environment(), cwd=tmp_path)
    assert (ran.code, message in ran.err, "Traceback" in ran.err) == (code, True, False), ran.err


def test_from_a_bucket(tmp_path: Path) -> None:
    write_tree(tmp_path / "root" / "bucket" / "tree", 2, 10)
    source = "s3://bucket/tree/catalog.json"
    with run_in_thread(S3Replica(root=tmp_path / "root")) as replica:
        env = {**environment(), **replica.exports()}
        ran = run(["mirror", source, str(tmp_path / "m"), "--json"], env)
        assert ran.code == 0, ran.err
        files = {path.parent.name: path.read_bytes() for path in (tmp_path / "m").rglob("data.bin")}
        assert files == {
            name: asset_of(name) for name in (f"col{c}-{n}" for c in range(2) for n in range(10))
        }
        refused = run(["mirror", source, str(tmp_path / "n")], {**env, "AWS_SECRET_ACCESS_KEY": "wrong"})
        assert refused.code == 3
        missing = run(["mirror", "s3://bucket/nothing.json", str(tmp_path / "n")], env)
        assert missing.code == 4


def items_of(root: Path, base: str = ".") -> list[dict[str, Any]]:
    items = [json.loads(path.read_text()) for path in sorted(root.glob("col*/*/*.json"))]
    for item in items:
        item["assets"]["data"]["href"] = f"{base}/{item['collection']}/{item['id']}/data.bin"
        item["links"] = [{"rel": "collection", "href": f"./{item['collection']}/collection.json"}]
    return items


@pytest.mark.parametrize(
    ("form", "place"),
    [
        ("features.json", "http"),
        ("list.json", "disk"),
        ("items.ndjson", "disk"),
        ("items.ndjson", "http"),
        ("items.ndjson.gz", "http"),
        ("one.json", "disk"),
    ],
)
def test_items_in_a_file_with_assets_beside_it(form: str, place: str, web: Nginx, tmp_path: Path) -> None:
    root = web.root / f"{form}-{place}"
    write_tree(root, 2, 6)
    items = items_of(root)
    if form == "one.json":
        items = items[:1]
    (root / form).write_bytes(written(form, items))
    source = f"{web.url}/files/{root.name}/{form}" if place == "http" else str(root / form)
    one_at_a_time = Options(page_size=1, concurrency=1)  # SOURCE may still be open
    assert sync.mirror(source, tmp_path / "m", options=one_at_a_time).exit_code == 0
    files = {path.parent.name: path.read_bytes() for path in (tmp_path / "m").rglob("data.bin")}
    assert files == {item["id"]: asset_of(item["id"]) for item in items}
    known = json.loads((tmp_path / "m" / "col0" / "collection.json").read_text())
    assert known["license"] == "CC0-1.0"  # found by the items' own links


def written(form: str, items: list[dict[str, Any]]) -> bytes:
    if form == "one.json":
        return json.dumps(items[0]).encode()
    if form == "features.json":
        return json.dumps({"type": "FeatureCollection", "features": items}).encode()
    if form == "list.json":
        return json.dumps(items).encode()
    lines = "".join(json.dumps(item) + "\n" for item in items).encode()
    return gzip.compress(lines) if form.endswith(".gz") else lines


def test_standard_input_is_stored_for_resume(web: Nginx, tmp_path: Path) -> None:
    root, dest = web.root / "stdin", tmp_path / "m"
    write_tree(root, 2, 60)
    lines = written("items.ndjson", items_of(root, f"{web.url}/slow/stdin"))
    first = piped(lines, dest, "--max-items", "1000", kill_at=20)
    assert first != 0
    moved = tmp_path / "moved"
    dest.rename(moved)
    resumed = run(["resume", str(moved), "--allow-private-hosts", "--json"], environment())
    assert resumed.code == 0, resumed.err
    assert resumed.report["items_done"] == 120
    assert len(list(moved.rglob("data.bin"))) == 120
    assert piped(lines, moved, "--max-items", "1000") == 0
    assert run(["status", str(moved), "--json"], environment()).report["source"].startswith("stdin:")


def piped(lines: bytes, dest: Path, *options: str, kill_at: int = 0) -> int:
    """Give lines to a mirror on standard input; kill it when there are `kill_at` files. Return its code."""
    arguments = ["mirror", "-", str(dest), "--allow-private-hosts", *options]
    with Running(arguments, environment(), given=lines) as process:
        if kill_at:
            assert wait_until(lambda: len(list(dest.rglob("data.bin"))) >= kill_at)
            process.signal(signal.SIGKILL)
        return process.ended().code


def test_an_encoded_href_may_be_longer_than_a_name(tmp_path: Path) -> None:
    name = "снимок" * 9 + ".txt"
    (tmp_path / name).write_text("there")
    (tmp_path / "b.txt").write_text("there")
    item = feature("i", {"encoded": f"./{quote(name)}", "slash": ".//b.txt"})
    (tmp_path / "items.ndjson").write_text(json.dumps(item))
    report = sync.mirror(str(tmp_path / "items.ndjson"), tmp_path / "m")
    assert (report.assets_done, report.assets_failed) == (2, 0)
    assert {file.read_text() for file in (tmp_path / "m/c/i").glob("*.txt")} == {"there"}


def test_items_that_several_catalogs_list_end_no_walk(tmp_path: Path) -> None:
    """Pages that bring nothing new are a circle in an API, and none in a tree."""
    source = write_tree(tmp_path / "tree", 1, 8)
    again = json.loads((tmp_path / "tree" / "col0" / "collection.json").read_text())
    again["links"] += [{"rel": "child", "href": "./more.json"}]
    (tmp_path / "tree" / "col0" / "twice.json").write_text(json.dumps(again | {"id": "twice"}))
    more = {"type": "Catalog", "id": "more", "links": [{"rel": "item", "href": "./new.json"}]}
    (tmp_path / "tree" / "col0" / "more.json").write_text(json.dumps(more))
    item = json.loads((tmp_path / "tree" / "col0" / "col0-0" / "col0-0.json").read_text())
    item |= {"id": "new", "assets": {"data": {"href": "./col0-0/data.bin"}}}
    (tmp_path / "tree" / "col0" / "new.json").write_text(json.dumps(item))
    root = json.loads(source.read_text())
    root["links"] += [{"rel": "child", "href": "./col0/twice.json"}]
    source.write_text(json.dumps(root))
    ran = run(["mirror", str(source), str(tmp_path / "m"), "--page-size", "1", "--json"], environment())
    assert (ran.code, ran.report["items_done"]) == (0, 9), ran.err
    assert "Reading ended" not in ran.err


def test_a_label_of_a_later_collection_is_not_refused(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "tree", 2, 3)
    for path in (tmp_path / "tree").glob("col*/*/*.json"):
        item = json.loads(path.read_text())
        label = "Water" if item["collection"] == "col1" else "Forest"
        item["properties"] |= {"labels": [label], "label:classes": [{"name": None, "classes": [label]}]}
        path.write_text(json.dumps(item))
    arguments = ["mirror", str(source), str(tmp_path / "m"), "--label", "Water", "--page-size", "2", "--json"]
    ran = run(arguments, environment())
    assert (ran.code, ran.report["items_matched"]) == (0, 3), ran.err
    assert "Other collections may have it" in ran.err
    refused = run([*arguments, "-C", "col0"], environment())
    assert refused.code == 2
