"""`--follow REL`: items behind links of other relations than `source` are fetched as source items are."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.asset_host import AssetHost, quick
from tests.items import feature

import stacpull
from stacpull import sync
from stacpull.cli.main import execute

RELATED = {"related": ["rel-0", "rel-1"], "SOURCE": ["src-0"], "Derived_from": ["rel-0"]}


class LinkedHost(AssetHost):
    """The items at `/collections/c/items/NAME`: `label` links to others by several relations.

    The item `refused` answers 404.
    """

    refused = ""

    def item(self, name: str) -> dict[str, Any]:
        linked = RELATED if name == "label" else {"related": ["further"]}
        links = [
            {"rel": rel, "href": f"{self.url}/collections/c/items/{one}"}
            for rel, names in linked.items()
            for one in names
        ]
        return feature(
            name,
            {"data": f"{self.url}/assets/{name}"},
            properties={"updated": "2020-01-01T00:00:00Z"},
            links=[{"rel": "self", "href": f"{self.url}/collections/c/items/{name}"}, *links],
        )

    def content(self, path: str) -> tuple[str, bytes]:
        where, _, name = path.rpartition("/")
        if name == self.refused:
            return "404 Not Found", b"{}"
        if where.endswith("/items"):
            return "200 OK", json.dumps(self.item(name)).encode()
        return super().content(path)

    def source(self, directory: Path) -> str:
        path = directory / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [self.item("label")]}))
        return str(path)


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({}, {"label", "src-0"}),
        ({"follow": "related"}, {"label", "src-0", "rel-0", "rel-1"}),
        ({"follow": ("related",), "source_links": False}, {"label", "rel-0", "rel-1"}),
        ({"follow": ("related", "derived_from")}, {"label", "src-0", "rel-0", "rel-1"}),
        ({"follow": "derived_FROM", "source_links": False}, {"label", "rel-0"}),
    ],
)
def test_items_behind_other_links_are_fetched(tmp_path, selection, names):
    with LinkedHost() as host:
        dest = tmp_path / "m"
        report = sync.mirror(
            host.source(tmp_path),
            dest,
            selection=stacpull.Selection(**selection),
            options=quick(metadata="item"),
        )
    assert (report.state, report.items_matched, report.assets_failed) == ("complete", 1, 0)
    assert {path.parent.name for path in dest.glob("c/*/data*")} == names
    label = json.loads((dest / "c/label/label.json").read_text())
    for link in label["links"]:
        if link["rel"] in RELATED:
            name = link["href"].rpartition("/")[2].removesuffix(".json")
            assert link["href"].startswith("http") == (name not in names), link


def test_the_command_takes_several_relations_and_plan_counts_them(tmp_path, capsys, monkeypatch):
    with LinkedHost() as host:
        source = host.source(tmp_path)
        follow = ["--follow", "related", "--follow", "derived_from", "--allow-private-hosts"]
        assert execute(["plan", source, "--json", *follow]) == 0
        planned = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (planned["source_items"], planned["assets"]) == (3, 4)
        host.refused = "rel-1"
        assert execute(["plan", source, "--no-progress", *follow]) == 1
        printed = capsys.readouterr()
        part = str(tmp_path / "part")
        assert execute(["mirror", source, part, "--no-progress", *follow]) == 1
        assert execute(["report", part, "-o", str(tmp_path / "report.html")]) == 0
        assert "JSON" not in capsys.readouterr().out  # of an item that was never read
        host.refused = ""
        assert "\nunread   1 item, whose assets are not counted\n" in printed.out
        assert "the first is The source item rel-1 could not be read" in printed.err
        assert execute(["mirror", source, str(tmp_path / "m"), "--no-progress", *follow]) == 0
        before = len(host.requests)
        assert execute(["mirror", source, str(tmp_path / "m"), "--no-progress", *follow]) == 0
        assert not [path for path in host.requests[before:] if path.startswith("/assets/")]
        monkeypatch.setitem(RELATED, "related", ["rel-0", "rel-1", "rel-2"])  # and `updated` stays
        assert execute(["mirror", host.source(tmp_path), str(tmp_path / "m"), "--no-progress", *follow]) == 0
    label = json.loads((tmp_path / "m/c/label/label.json").read_text())
    mirrored = [one["href"] for one in label["links"] if one["rel"] == "related"]
    assert mirrored == [f"../{name}/{name}.json" for name in ("rel-0", "rel-1", "rel-2")]


def test_a_newer_version_on_a_page_replaces_the_linked_one_in_the_same_run(tmp_path):
    with LinkedHost() as host:
        others = [feature(f"other-{number}") for number in range(100)]  # `label` is in an earlier batch
        newer = {**host.item("src-0"), "properties": {"updated": "2030-01-01T00:00:00Z"}}
        newer["assets"] = {"new": {"href": f"{host.url}/assets/new"}}
        collection = {"type": "FeatureCollection", "features": [host.item("label"), *others, newer]}
        (path := tmp_path / "items.json").write_text(json.dumps(collection))
        report = sync.mirror(path, tmp_path / "m", options=quick(metadata="item"))
    assert (report.items_matched, report.source_items) == (102, 0)
    assert (tmp_path / "m/c/src-0/new").exists()
