"""A scheme is one module and one registration: a mirror from `mem://`, which only this test knows."""

import subprocess
import sys

import orjson
import pytest
from tests.items import feature
from tests.schemes import mem as module
from tests.schemes import tcp

from stacpull import Options, Selection, StacpullError, UsageError, failures, sync
from stacpull.schemes import SCHEMES
from stacpull_dask.cluster import key_variables

ITEM = feature(
    "one",
    {
        "beside": "files/beside%20it.tif",
        "absolute": "mem://other/deep/absolute.tif",
        "bands": "mem://other/bands/",
    },
)
OBJECTS = {
    "mem://demo/stac/catalog.json": orjson.dumps(
        {
            "type": "Catalog", "stac_version": "1.0.0", "id": "demo", "description": "d",
            "links": [{"rel": "item", "href": "./items/one.json"}],
        }
    ),
    "mem://demo/stac/items/one.json": orjson.dumps(ITEM),
    "mem://demo/stac/items/files/beside%20it.tif": b"beside",
    "mem://other/deep/absolute.tif": b"absolute",
    "mem://other/bands/B02.tif": b"blue",
    "mem://other/bands/qi/B03.tif": b"green",
}  # fmt: skip
SOURCE = "mem://demo/stac/catalog.json"


@pytest.fixture
def mem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMES, "mem", module.MEM)
    monkeypatch.setattr(module, "OBJECTS", OBJECTS)


def test_a_mirror_from_a_new_scheme(mem, tmp_path):
    dest = tmp_path / "mirror"
    selection = Selection(expand_prefix=True)
    assert sync.plan(SOURCE, selection=selection).assets == 4
    report = sync.mirror(SOURCE, dest, selection=selection)
    assert (report.state, report.assets_done, report.assets_failed) == ("complete", 4, 0)
    found = {path.name: path.read_bytes() for path in dest.rglob("*.tif")}
    assert found == {
        "beside.tif": b"beside",
        "absolute.tif": b"absolute",
        "B02.tif": b"blue",
        "B03.tif": b"green",
    }
    (item,) = dest.rglob("one.json")
    stored = orjson.loads(item.read_bytes())["assets"]
    assert stored["bands/B02.tif"]["alternate"]["origin"]["href"] == "mem://other/bands/B02.tif"


def test_a_scheme_reads_its_key_from_the_environment_and_messages_hide_it(mem, monkeypatch, tmp_path):
    monkeypatch.setitem(module.RIGHT, "key", "right-key")
    monkeypatch.setenv("MEM_KEY", "wrong-key")
    with pytest.raises(StacpullError, match="is not the key of") as caught:
        sync.mirror(SOURCE, tmp_path / "mirror")
    assert "wrong-key" not in str(caught.value)
    monkeypatch.setenv("MEM_KEY", "right-key")
    assert sync.mirror(SOURCE, tmp_path / "mirror").assets_done == 2


def test_dask_workers_get_the_key_of_a_scheme(mem: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEM_KEY", "right-key")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "of a neighbour")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("MEM_OTHER", "no key")
    monkeypatch.setenv("MEM_KEYRING", "no key")
    sent = key_variables()
    assert sent["MEM_KEY"] == "right-key"
    assert (sent["AWS_ACCESS_KEY_ID"], sent["AZURE_STORAGE_SAS_TOKEN"]) == ("key-id", "of a neighbour")
    assert not {"MEM_OTHER", "MEM_KEYRING", "AWS_SECRET_ACCESS_KEY"} & set(sent)


def test_without_expand_prefix_a_prefix_is_refused(mem, tmp_path):
    report = sync.mirror(SOURCE, tmp_path / "mirror")
    assert (report.assets_done, report.assets_failed) == (2, 1)


def test_prefixes_are_listed_beside_a_newer_version_of_a_planned_item(mem, monkeypatch, tmp_path):
    names = {"a": "mem://other/a.tif", "c": "mem://other/c.tif", "newer a": "mem://other/a.tif"}
    features = [
        {**feature(name[-1:], {"x": href}), "properties": {"updated": f"202{len(name)}-01-01T00:00:00Z"}}
        for name, href in names.items()
    ]
    features.append(feature("b", {"bands": "mem://other/bands/"}))
    objects = {"mem://demo/items.json": orjson.dumps({"type": "FeatureCollection", "features": features})}
    objects |= {"mem://other/a.tif": b"a", "mem://other/c.tif": b"c", "mem://other/bands/B02.tif": b"blue"}
    monkeypatch.setattr(module, "OBJECTS", objects)
    selection, options = Selection(expand_prefix=True, max_items=3), Options(page_size=2)
    report = sync.mirror("mem://demo/items.json", tmp_path, selection=selection, options=options)
    assert (report.assets_done, report.assets_failed) == (3, 0)


def test_a_transport_keeps_to_the_allowed_addresses(monkeypatch, tmp_path):
    monkeypatch.setitem(SCHEMES, "tcp", tcp.TCP)
    document = {"type": "FeatureCollection", "features": [feature("one", {"a": "tcp://127.0.0.1:9/a.tif"})]}
    source = tmp_path / "items.json"
    source.write_bytes(orjson.dumps(document))
    own = {"tcp://127.0.0.1:9/a.tif": b"content", "tcp://127.0.0.1:9/items.json": source.read_bytes()}
    monkeypatch.setattr(tcp, "FILES", own)
    refused = sync.mirror(source, tmp_path / "refused")
    assert (refused.assets_done, [failure.kind for failure in failures(tmp_path / "refused")]) == (
        0,
        ["address"],
    )
    allowed = Options(allow_private_hosts=True)
    assert sync.mirror(source, tmp_path / "allowed", options=allowed).assets_done == 1
    assert sync.mirror("tcp://127.0.0.1:9/items.json", tmp_path / "chosen").assets_done == 1


def test_without_the_registration_the_scheme_is_unknown(tmp_path):
    with pytest.raises(UsageError, match="unsupported URL scheme mem"):
        sync.mirror(SOURCE, tmp_path / "mirror")


def test_the_rules_of_schemes_import_no_transport() -> None:
    script = (
        "import sys, stacpull.schemes, stacpull.urls;"
        "print([m for m in sys.modules if m.startswith(('stacpull.net', 'stacpull.transfer', 'aiohttp'))])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
