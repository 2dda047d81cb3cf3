"""A new filter on items takes three files: its class, a line of `FILTERS`, and a field of `Selection`.

The class states the reason that reports show, and what is pushed down.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy
from tests.items import feature

pytestmark = pytest.mark.behaviour

FIELD = """\
    platforms: tuple[str, ...] = attrs.field(
        default=(),
        converter=arguments.texts,
        metadata=about(
            "NAME", name="platform", narrows=True, help="Keep items of this platform."
        ),
    )
"""
MODULE = '''
from stacpull.filters.item_checks import ItemCheck


class PlatformCheck(ItemCheck):
    """`--platform`: keeps the items of certain platforms."""

    fields = ("platforms",)
    explained = ("other platform", "of another platform.")

    def __init__(self, platforms):
        self._platforms = platforms

    def __call__(self, item, properties):
        return None if properties.get("platform") in self._platforms else "other platform"

    @classmethod
    def conditions(cls, selection):
        wanted = [{"op": "=", "args": [{"property": "platform"}, one]} for one in selection.platforms]
        return [{"op": "or", "args": wanted}] if len(wanted) > 1 else wanted
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ChangedCopy:
    """A copy of the package with the new filter `--platform`."""
    copy = ChangedCopy(tmp_path_factory.mktemp("copy"))
    copy.add("filters/platform.py", MODULE)
    copy.insert("selection.py", FIELD, before="    where: tuple")
    imported = "from stacpull.filters.platform import PlatformCheck\n"
    copy.insert("filters/item_filter.py", imported, before="FILTERS = (")
    copy.insert("filters/item_filter.py", "    PlatformCheck,\n", before="    LabelCheck,")
    assert copy.changed == {"filters/platform.py": None, "selection.py": 7, "filters/item_filter.py": 2}
    return copy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of three items, of two platforms."""
    path = tmp_path / "items.ndjson"
    time = {"datetime": "2020-01-01T00:00:00Z"}
    platforms = {"a": "s1", "b": "s2", "c": "s2"}
    items = (feature(name, properties={**time, "platform": one}) for name, one in platforms.items())
    path.write_text("\n".join(map(json.dumps, items)))
    return path


def test_the_command_has_applies_and_reports_it(copy: ChangedCopy, source: Path, tmp_path: Path) -> None:
    assert "--platform NAME" in copy.output("mirror", "--help", "all")
    ran = copy.run("mirror", source, tmp_path / "m", "--platform", "s1", "--json")
    report = json.loads(ran.stdout)
    assert (report["items_matched"], report["items_left_out"]) == (1, {"other platform": 2})
    assert "left out 2 items (other platform: 2)" in ran.stderr
    assert "2 items left out: of another platform." in ran.stderr
    assert json.loads(copy.output("status", tmp_path / "m", "--json"))["selection"]["platforms"] == ["s1"]


def test_a_config_file_sets_it_and_plan_and_headers_apply_it(copy, source, tmp_path):
    (tmp_path / "c.toml").write_text('platform = ["s2"]\n')
    assert "2 match" in copy.output("plan", source, "--config", tmp_path / "c.toml")
    report = copy.run("headers", source, "--platform", "s1", "--json", "-o", tmp_path / "h.csv")
    assert json.loads(report.stdout)["items_matched"] == 1


def test_it_is_pushed_down(copy: ChangedCopy) -> None:
    printed = copy.evaluated(
        "from stacpull import Selection\n"
        "from stacpull.filters.item_filter import narrowing\n"
        "print(narrowing(Selection(platforms='s1', max_cloud_cover=5)).condition)"
    )
    platform = {"op": "=", "args": [{"property": "platform"}, "s1"]}
    cloud = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 5.0]}
    assert printed.strip() == str({"op": "and", "args": [cloud, platform]})
