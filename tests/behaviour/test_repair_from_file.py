"""A file of items as SOURCE: its items have no URL of their own, and `verify --repair` needs their hrefs."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.acceptance.command import stacpull
from tests.acceptance.static_tree import asset_of, write_tree
from tests.events import stopping_at
from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer, json_answer
from tests.serving import serving_files

from stacpull import Options, RunStarted, Selection, mirror, verify


def line(number: int, href: str) -> str:
    item = feature(f"item-{number}", {"x": href}, links=[{"rel": "collection", "href": "c.json"}])
    return json.dumps(item) + "\n"


def damage(dest: Path) -> list[Path]:
    files = sorted((dest / "c").rglob("*.bin"))
    for file in files:
        file.write_bytes(b"damaged")
    return files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    data = tmp_path / "source/data"
    data.mkdir(parents=True)
    for number in range(3):
        (data / f"{number}.bin").write_bytes(b"content %d" % number)
    return tmp_path / "source"


@pytest.mark.parametrize(("name", "later"), [("items.ndjson", "x"), ("items.json", "other")])
def test_files_beside_a_file_of_items_are_copied_again(tmp_path, source, name, later):
    (source / "c.json").write_text(json.dumps(collection(item_assets={"x": {"roles": ["data"]}})))
    lines = [line(number, f"data/{number}.bin") for number in range(3)]
    is_lines = name == "items.ndjson"
    (source / name).write_text("".join(lines) if is_lines else f'{{"features": [{",".join(lines)}]}}')
    dest = tmp_path / "m"
    for options in (["--role", "data"], ["--asset", later]):  # only the collection states the roles
        assert stacpull("mirror", source / name, dest, *options).code == 0
    damaged = damage(dest)
    assert len(damaged) == 3
    repaired = stacpull("verify", dest, "--repair")
    assert repaired.code == 0, repaired.out + repaired.err
    assert [file.read_bytes() for file in damaged] == [b"content 0", b"content 1", b"content 2"]


def test_a_web_page_that_the_item_states_is_repaired(tmp_path: Path) -> None:
    page = Answer(200, b"<!DOCTYPE html><html><body>report</body></html>", {"Content-Type": "text/html"})
    with WireServer({"/report.dat": [page]}) as site:
        asset = {"href": site.url("/report.dat"), "type": "text/html"}
        (tmp_path / "item.json").write_text(json.dumps(feature("i", assets={"x": asset})))
        options = ["--include-pages", "--allow-private-hosts"]
        assert stacpull("mirror", tmp_path / "item.json", tmp_path / "m", *options).code == 0
        (report,) = (tmp_path / "m").rglob("x.*")
        report.unlink()
        repaired = stacpull("verify", tmp_path / "m", "--repair", "--allow-private-hosts")
        assert (repaired.code, report.read_bytes()) == (0, page.body), repaired.err


def test_json_of_an_item_without_a_url_is_written_again_by_mirror(tmp_path: Path, source: Path) -> None:
    (source / "items.ndjson").write_text(line(0, "data/0.bin"))
    mirror_again = ("mirror", source / "items.ndjson", tmp_path / "m")
    assert stacpull(*mirror_again).code == 0
    (tmp_path / "m/c/item-0/item-0.json").write_bytes(b"{}")
    repaired = stacpull("verify", tmp_path / "m", "--repair")
    assert (repaired.code, "run `stacpull mirror SOURCE` again" in repaired.err) == (1, True), repaired.err
    assert (stacpull(*mirror_again).code, stacpull("verify", tmp_path / "m").code) == (0, 0)


def test_repairs_and_retries_record_the_checksum_that_the_run_was_given(tmp_path, source):
    (source / "items.json").write_text(json.dumps(feature("i", {"x": "data/0.bin", "y": "data/9.bin"})))
    dest = tmp_path / "m"
    given = ["--checksum", "crc64nvme", "--missing", "ok"]
    assert stacpull("mirror", source / "items.json", dest, *given).code == 0
    damage(dest)
    assert stacpull("verify", dest, "--repair").code == 0
    (source / "data/9.bin").write_bytes(b"content 9")
    assert stacpull("retry", dest).code == 0
    damage(dest)
    assert stacpull("verify", dest).out.count("expected 9 bytes, crc64nvme") == 2


@pytest.mark.parametrize("name", ["items.ndjson", "items.json"])
def test_an_asset_that_is_left_out_keeps_its_href_at_the_source(tmp_path, source, name):
    item = feature("i", {"x": "data/0.bin", "y": "data/1.bin"}, links=[{"rel": "license", "href": "terms"}])
    (source / name).write_text(json.dumps(item) + "\n")
    with serving_files(source) as url:
        assert stacpull("mirror", f"{url}/{name}", tmp_path / "m", "--asset", "x").code == 0
    stored = json.loads((tmp_path / "m/c/i/i.json").read_text())
    assert stored["assets"]["y"]["href"] == f"{url}/data/1.bin"
    assert stored["assets"]["x"]["alternate"]["origin"]["href"] == f"{url}/data/0.bin"
    assert {"rel": "license", "href": f"{url}/terms"} in stored["links"]


def test_unchanged_files_of_a_changed_item_are_not_copied_again(tmp_path, source):
    (source / "data/0.bin").write_bytes(bytes(1_000_000))
    for updated in ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"):
        item = feature("i", {"x": "data/0.bin", "y": "data/1.bin"}, properties={"updated": updated})
        (source / "items.json").write_text(json.dumps(item))
        ran = stacpull("mirror", source / "items.json", tmp_path / "m", "--json")
        (source / "data/1.bin").write_bytes(b"another 1")  # of the same size
    assert ran.report["bytes_fetched"] < 10_000
    assert (tmp_path / "m/c/i/y.bin").read_bytes() == b"another 1"


def test_hrefs_of_a_later_page_are_relative_to_it_and_blank_ones_are_none(tmp_path, source):
    later = feature("later", {"x": "1.bin", "y": " "}, links=[{"rel": "Self", "href": "later.json"}])
    (source / "data/items.json").write_text(json.dumps({"features": [later]}))
    with serving_files(source) as url:
        links = [{"rel": "next", "href": f"{url}/data/items.json"}]
        items = [feature("first", {"x": "data/0.bin"})]
        text = json.dumps({"type": "FeatureCollection", "features": items, "links": links})
        (source / "items.json").write_text(text)
        assert stacpull("mirror", f"{url}/items.json", tmp_path / "m").code == 1
    assert (tmp_path / "m/c/later/x.bin").read_bytes() == b"content 1"
    assert (
        "later y: item: The asset cannot be fetched: it has no href"
        in stacpull("failures", tmp_path / "m").out
    )
    links = json.loads((tmp_path / "m/c/later/later.json").read_text())["links"]
    assert {link["rel"] for link in links} == {"root", "parent", "collection"}


def test_files_of_standard_input_are_fetched_again(tmp_path: Path, source: Path) -> None:
    dest = tmp_path / "m"
    with serving_files(source) as url:
        text = "".join(line(number, f"{url}/data/{number}.bin") for number in range(3))
        assert stacpull("mirror", "-", dest, "--allow-private-hosts", given=text).code == 0
        damaged = damage(dest)
        repaired = stacpull("verify", dest, "--repair", "--allow-private-hosts")
    assert repaired.code == 0, repaired.out + repaired.err
    assert [file.read_bytes() for file in damaged] == [b"content 0", b"content 1", b"content 2"]


def test_a_damaged_file_is_fetched_once_its_source_is_there_again(tmp_path: Path, source: Path) -> None:
    """Its file was away, the repair was stopped, all of SOURCE was moved: nothing is called gone."""
    (source / "items.ndjson").write_text(line(0, "data/0.bin"))
    dest, there = tmp_path / "m", source / "data/0.bin"
    assert stacpull("mirror", source / "items.ndjson", dest).code == 0
    (damaged,) = damage(dest)
    there.rename(source / "moved")
    assert stacpull("verify", dest, "--repair").code == 1
    assert "signature" not in stacpull("failures", dest).out
    (source / "moved").rename(there)
    assert (stacpull("retry", dest).code, damaged.read_bytes()) == (0, b"content 0")
    damage(dest)
    left = asyncio.run(verify(dest, repair=True, **stopping_at(RunStarted)))
    assert (left.repair is not None and left.repair.assets_pending) == 1
    assert (stacpull("retry", dest).code, damaged.read_bytes()) == (0, b"content 0")
    damage(dest)
    source.rename(tmp_path / "moved")
    repaired = stacpull("verify", dest, "--repair")
    assert repaired.code == 4
    assert f"There is no file {source / 'items.ndjson'}. The assets of this disk stay pending" in repaired.err
    assert stacpull("mirror", tmp_path / "moved/items.ndjson", dest).code == 0
    assert damaged.read_bytes() == b"content 0"


def test_files_of_a_moved_tree_are_copied_from_its_new_place(tmp_path: Path) -> None:
    """The JSON of its items still has the old one, but the items can be read again."""
    dest = tmp_path / "m"
    assert stacpull("mirror", write_tree(tmp_path / "tree", 1, 1), dest).code == 0
    (tmp_path / "tree").rename(tmp_path / "moved")
    assert stacpull("mirror", tmp_path / "moved/catalog.json", dest).code == 0
    damaged = dest / "col0/col0-0/data.bin"
    damaged.write_bytes(b"damaged")
    repaired = stacpull("verify", dest, "--repair")
    assert repaired.code == 0, repaired.out + repaired.err
    assert damaged.read_bytes() == asset_of("col0-0")


def test_an_asset_of_a_collection_without_a_self_link_is_fetched_again(tmp_path: Path) -> None:
    items = {"type": "FeatureCollection", "features": [feature("x")]}
    routes = {"/collections/c/items": [json_answer(items)], "/t.png": [Answer(body=b"a thumbnail")]}
    with WireServer(routes) as api:
        document = collection(assets={"thumbnail": {"href": api.url("/t.png")}})
        routes["/collections/c"] = [json_answer(document)]
        options, selection = Options(allow_private_hosts=True), Selection(collection_assets=True)
        asyncio.run(
            mirror(api.url("/collections/c/items"), tmp_path / "m", selection=selection, options=options)
        )
        file = tmp_path / "m/c/thumbnail.png"
        file.write_bytes(b"damaged")
        assert asyncio.run(verify(tmp_path / "m", repair=True, options=options)).remaining == 0
    assert file.read_bytes() == b"a thumbnail"
