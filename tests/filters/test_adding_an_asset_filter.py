"""A new filter on assets takes two files: a field of `Selection`, and a line of `CONDITIONS`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.changed_copy import ChangedCopy
from tests.items import collection, feature

pytestmark = pytest.mark.behaviour

FIELD = """\
    titles: tuple[str, ...] = attrs.field(
        default=(),
        converter=arguments.texts,
        metadata=about("TEXT", name="title", narrows=True, help="Fetch only assets with this title."),
    )
"""
CONDITION = '    "title": lambda selection: selection.titles.__contains__ if selection.titles else None,\n'


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ChangedCopy:
    """A copy of the package with the new filter `--title`."""
    copy = ChangedCopy(tmp_path_factory.mktemp("copy"))
    copy.insert("selection.py", FIELD, before="    prefer: tuple")
    copy.insert("filters/asset_filter.py", CONDITION, before='    "type": _media_types,')
    assert copy.changed == {"selection.py": 5, "filters/asset_filter.py": 1}
    return copy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A collection with an item of three assets, the last of which only the collection gives a title."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.bin").write_text(name)
    item = feature("i", {key: f"{key}.bin" for key in "abc"})
    item["links"] = [{"rel": "collection", "href": "./collection.json"}]
    item["assets"]["a"]["title"], item["assets"]["b"]["title"] = "Red", "Blue"
    own = collection(item_assets={"c": {"title": "Red"}}, links=[{"rel": "item", "href": "./i.json"}])
    (folder / "i.json").write_text(json.dumps(item))
    (folder / "collection.json").write_text(json.dumps(own))
    return folder / "collection.json"


def mirrored(copy: ChangedCopy, source: Path, dest: Path, *arguments: str) -> tuple[Any, set[str]]:
    ran = copy.run("mirror", source, dest, "--json", *arguments)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout), {path.stem for path in dest.rglob("*.bin")}


def test_only_the_selected_assets_are_fetched(copy: ChangedCopy, source: Path, tmp_path: Path) -> None:
    assert "--title TEXT" in copy.output("mirror", "--help", "all")
    report, files = mirrored(copy, source, tmp_path / "m", "--title", "Red")
    assert (report["assets_done"], report["assets_excluded"], files) == (2, 1, {"a", "c"})
    _, files = mirrored(copy, source, tmp_path / "m", "--title", "Red", "--title", "Blue")
    assert files == {"a", "b", "c"}


def test_a_config_file_sets_it_and_plan_applies_it(copy: ChangedCopy, source: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('title = "Blue"\n')
    assert "assets   1; 2 left out (a: 1, c: 1)" in copy.output(
        "plan", source, "--config", tmp_path / "c.toml"
    )
