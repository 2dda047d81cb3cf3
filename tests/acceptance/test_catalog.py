"""The mirror as a STAC catalog: pystac opens it and finds every asset; source links stay in the mirror."""

import hashlib
import json
import shutil
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pystac
import pytest
from tests.acceptance.asset_host import AssetHost, item_collection, quick
from tests.acceptance.command import LABELS, SOURCE, environment, mirror_of, run
from tests.acceptance.trees import expected_files

import stacpull
from stacpull import sync
from stacpull_replicas import MlhubReplica

COUNT = 12


@pytest.fixture(scope="module", params=["notebook", "default"])
def mirror(
    request: pytest.FixtureRequest, hub: MlhubReplica, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    dest = tmp_path_factory.mktemp("catalog") / "a mirror"  # with a space in its path
    layout = ["--layout", "{collection}/{item}/{key}{ext}"] if request.param == "default" else []
    ran = run(mirror_of(hub.base_url, dest, "--max-items", str(COUNT), *layout), environment(hub))
    assert ran.code == 0, ran.err
    return dest


def test_pystac_finds_every_asset(mirror: Path, hub: MlhubReplica) -> None:
    catalog = pystac.Catalog.from_file(str(mirror / "catalog.json"))
    assert {child.id for child in catalog.get_children()} == {LABELS, SOURCE}
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 2 * COUNT
    found = {}
    for item in items:
        if item.collection_id == SOURCE:  # left out by mirror_of
            assert urlsplit(item.assets.pop("B10").href).scheme == "http"
        for key, asset in item.assets.items():
            path = Path(asset.get_absolute_href() or "").resolve()
            data = found[item.id, key] = path.read_bytes()
            assert path.is_relative_to(mirror.resolve())
            assert asset.extra_fields["alternate"]["origin"]["href"].startswith(hub.base_url)
            assert asset.extra_fields["file:size"] == len(data)
            assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(data).hexdigest()
        url = f"{hub.base_url}/collections/{item.collection_id}/items/{item.id}"
        assert {link.rel: link.href for link in item.links}["via"] == url
        assert {link.rel: link.href for link in item.links}["canonical"] == url
        assert any(name.endswith("/file/v2.1.0/schema.json") for name in item.stac_extensions)
    expected = expected_files(hub.dataset, range(COUNT)).values()
    assert {name: len(data) for name, data in found.items()} == {
        (f.item_id, f.asset): f.size for f in expected
    }


def test_a_mirror_of_a_mirror_does_not_depend_on_its_source(hub: MlhubReplica, tmp_path: Path) -> None:
    """No path in a copy leads to the mirror that it was made from: that may be deleted."""
    mirrors = [tmp_path / name for name in ("mirror", "a copy", "copy2")]
    first = run(mirror_of(hub.base_url, mirrors[0], "--max-items", "3"), environment(hub))
    assert first.code == 0, first.err
    original = assets_of(mirrors[0])
    for here, there in pairwise(mirrors):
        command = ["mirror", str(here / "catalog.json"), str(there), "--all-collections"]
        ran = run([*command, "--exclude-asset", "B10"], environment(hub))  # it keeps its remote href
        assert ran.code == 0, ran.err
        assert assets_of(there) == original
        test_every_relative_link_refers_to_a_file_of_the_mirror(there)
    for gone in mirrors[:2]:
        shutil.rmtree(gone)
    assert assets_of(mirrors[2]) == original
    assert len(original) == 3 * 13
    documents = [path for path in mirrors[2].glob("*/*/*.json") if path.stem == path.parent.name]
    assert len(documents) == 6
    for path in documents:
        text = path.read_text()
        assert (str(tmp_path) in text, f'"origin":{{"href":"{hub.base_url}' in text) == (False, True)
    test_source_links_lead_to_the_local_source_items(mirrors[2])
    assert run(["verify", str(mirrors[2])], environment(hub)).code == 0


def assets_of(dest: Path) -> dict[tuple[str, str, str], bytes]:
    return {
        (item.collection_id or "", item.id, key): Path(asset.get_absolute_href() or "").read_bytes()
        for item in pystac.Catalog.from_file(str(dest / "catalog.json")).get_items(recursive=True)
        for key, asset in item.assets.items()
        if not urlsplit(asset.href).scheme
    }


def test_every_relative_link_refers_to_a_file_of_the_mirror(mirror: Path) -> None:
    assert (mirror / "catalog.json").is_file()  # else nothing is compared
    for path in mirror.glob("**/*.json"):
        if path.name.endswith("_labels_metadata.json") or path.name == "labels.json":
            continue
        document = pystac.StacIO.default().read_json(str(path))
        for link in document["links"]:
            if not urlsplit(link["href"]).scheme:
                assert (path.parent / link["href"]).is_file(), (path, link)


def test_source_links_lead_to_the_local_source_items(mirror: Path) -> None:
    catalog = pystac.Catalog.from_file(str(mirror / "catalog.json"))
    labels = catalog.get_child(LABELS)
    assert labels is not None
    for item in labels.get_items():
        (link,) = [link for link in item.links if link.rel == "source"]
        href = link.get_absolute_href()
        assert href is not None
        source = pystac.Item.from_file(href)
        assert (source.collection_id, source.id) == (SOURCE, item.id.replace(LABELS, SOURCE))
        assert Path(href).resolve().is_relative_to(mirror.resolve())


@pytest.mark.parametrize("why", ["excluded", "failed"])
def test_an_asset_outside_the_mirror_keeps_its_remote_href(tmp_path: Path, why: str) -> None:
    with AssetHost() as host:
        remote = {
            "https": (f"{host.url}/gone/a.tif?v=2", f"{host.url}/gone/a.tif?v=2"),
            "s3": ("s3://bucket/a.tif", "s3://bucket/a.tif"),
            "signed": (f"{host.url}/gone/a.tif?x=1&sig=SIGNATURE", f"{host.url}/gone/a.tif?x=1"),
            "password": (f"http://u:pw@127.0.0.1:{host.port}/gone/b.tif", f"{host.url}/gone/b.tif"),
        }
        assets = {key: {"href": href} for key, (href, _) in remote.items()}
        source = tmp_path / "items.json"
        collection = json.loads(item_collection([f"{host.url}/assets/data"]))
        collection["features"][0]["assets"] |= assets
        source.write_text(json.dumps(collection))
        dest = tmp_path / "mirror"
        excluded = tuple(assets) if why == "excluded" else ("s3",)
        selection = stacpull.Selection(exclude_assets=excluded, all_collections=True)
        options = quick(metadata="item", retries=0)
        sync.mirror(str(source), dest, selection=selection, options=options)
        for _ in range(2):  # what is stored again, from what is in the mirror, is the same
            (item,) = pystac.Catalog.from_file(str(dest / "catalog.json")).get_items(recursive=True)
            expected = {"data": "./data.tif"} | {key: cut for key, (_, cut) in remote.items()}
            assert {key: asset.href for key, asset in item.assets.items()} == expected
            assert "SIGNATURE" not in Path(item.get_self_href() or "").read_text()
            sync.retry(dest, options=options)
