import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.planning.hostile import NAMES

from stacpull.config.options import DEFAULT_LAYOUT
from stacpull.errors import UsageError
from stacpull.models import ItemId
from stacpull.planning.layout import Layout, final_name
from stacpull.planning.names import safe_segment

LABEL = ItemId("bigearthnet_v1_labels", "bigearthnet_v1_labels_S2A_0_45")
SOURCE = ItemId("bigearthnet_v1_source", "bigearthnet_v1_source_S2A_0_45")
DOCUMENT = {
    "properties": {
        "datetime": "2017-06-13T10:10:31Z",
        "platform": "Sentinel-2",
        "eo:cloud_cover": 3.5,
        "ok": True,
        "odd": ["x"],
        "slashed": "a/../b",
    }
}


def filled_in(template, *, item_id=SOURCE, parent=LABEL, document=DOCUMENT, key="B01", ext=".tif"):
    return Layout.parse(template).for_item(item_id, document, parent).path(key, ext)


@pytest.mark.parametrize(
    ("template", "directory", "name"),
    [
        (DEFAULT_LAYOUT, "bigearthnet_v1_source/bigearthnet_v1_source_S2A_0_45", "B01.tif"),
        ("{parent|removeprefix:bigearthnet_v1_labels_}/{key}{ext}", "S2A_0_45", "B01.tif"),
        ("{parent|removeprefix:x}/{key}", "bigearthnet_v1_labels_S2A_0_45", "B01"),
        ("{item|removeprefix:bigearthnet_|removeprefix:v1_}/{key}", "source_S2A_0_45", "B01"),
        ("{year}/{month}-{day}/{key|removeprefix:B}{ext}", "2017/06-13", "01.tif"),
        ("{platform}/{eo:cloud_cover}/{ok}/{key}", "Sentinel-2/3.5/true", "B01"),
        ("{missing}/{odd}/{key}", "unknown/unknown", "B01"),
        ("{slashed}/{key}", "a~2F..~2Fb", "B01"),
        ("{key}/data{ext}", "B01", "data.tif"),
        ("{{{key}}}", "", "~7BB01~7D"),
        ("{key|removeprefix:B01}x/{key}", "x", "B01"),
    ],
)
def test_a_layout_gives_directory_and_name(template, directory, name):
    assert filled_in(template) == (directory, name, None)


@pytest.mark.parametrize(
    ("template", "name_template", "filename", "name"),
    [
        ("bigearthnet/{parent}/{filename}", "{filename}", "S2A_0_45_B01.tif", "S2A_0_45_B01.tif"),
        ("a/{key}_{filename}", "B01_{filename}", "x.tif", "B01_x.tif"),
        ("a/{filename|removeprefix:S2A_}", "{filename|removeprefix:S2A_}", "S2A_0_45.tif", "0_45.tif"),
        ("a/{key}{{}}{filename}", "B01{{}}{filename}", "x", "B01~7B~7Dx"),
        ("a/{filename}", "{filename}", "../../etc/passwd", safe_segment("../../etc/passwd")),
        ("a/{filename}", "{filename}", "{key}.tif", "~7Bkey~7D.tif"),
    ],
)
def test_a_late_name_is_completed(template, name_template, filename, name):
    directory, *found = filled_in(template)
    assert found == [None, name_template]
    assert final_name(None, name_template, filename, directory) == name


@pytest.mark.parametrize(
    ("template", "place_or_word"),
    [
        ("", "a segment is empty"),
        ("/{key}", "the path is absolute"),
        ("a//{key}", "a segment is empty"),
        ("a/", "a segment is empty"),
        ("a/{key", "a brace is unmatched"),
        ("a/{{key}", "a brace is unmatched"),
        ("a/{ key}", "is not a field"),
        ("a/{key|upper}", "'upper' is not a filter"),
        ("a/{key|}", "'' is not a filter"),
        ("../{key}", "'..' is not allowed as a name"),
        ("data/$item", "it has no field, such as {item}"),
        (".stacpull/{key}", "'.stacpull' is not"),
        ("a\\b/{key}", "is not allowed as a name"),
        ("{key}/catalog.json", "'catalog.json' is not"),
        ("{filename}/{key}", "filename.* only in the file name"),
    ],
)
def test_invalid_layouts_are_rejected_with_the_position(template: str, place_or_word: str) -> None:
    with pytest.raises(UsageError, match=place_or_word) as error:
        Layout.parse(template)
    assert repr(template) in str(error.value)


@pytest.mark.parametrize(
    ("parent", "document", "directory"),
    [
        (None, DOCUMENT, "bigearthnet_v1_source_S2A_0_45/2017"),
        (
            LABEL,
            {"properties": {"datetime": None, "start_datetime": "2018-01-02T00:00:00Z"}},
            "bigearthnet_v1_labels_S2A_0_45/2018",
        ),
        (LABEL, {"properties": {"datetime": "soon"}}, "bigearthnet_v1_labels_S2A_0_45/unknown"),
        (LABEL, {"properties": None}, "bigearthnet_v1_labels_S2A_0_45/unknown"),
        (LABEL, {}, "bigearthnet_v1_labels_S2A_0_45/unknown"),
    ],
)
def test_parent_and_date_of_items_that_lack_them(parent, document, directory):
    assert filled_in("{parent}/{year}/{key}", parent=parent, document=document)[0] == directory


@pytest.mark.parametrize("name", ["S2A.json", "s2a.JSON"])
def test_an_asset_never_takes_the_name_of_the_items_document(name: str) -> None:
    found = filled_in("{collection}/{item}/{key}", item_id=ItemId("c", "S2A"), key=name)
    assert found[1] != name
    assert found[1].startswith(f"{name[:3]}~")
    assert final_name(None, None, name, "c/S2A") == found[1]
    assert final_name(None, None, name, "c/other") == name


FIELDS = ["collection", "item", "key", "ext", "parent", "year", "month", "day", "p", "key|removeprefix:a"]
PIECES = st.sampled_from([*(f"{{{field}}}" for field in FIELDS), "x", "_"])
SEGMENTS = st.lists(PIECES, min_size=1, max_size=3).map("".join)
TEMPLATES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join).filter(lambda text: "{" in text)
CHARACTERS = st.characters(codec=None, exclude_categories=())
VALUES = st.text(alphabet=CHARACTERS, max_size=20) | st.sampled_from(NAMES)


@given(template=TEMPLATES, values=st.lists(VALUES, min_size=5, max_size=5), late=st.booleans())
def test_no_value_adds_or_leaves_a_directory(template, values, late):
    collection, item, key, prop, filename = values
    layout = Layout.parse(template + "{filename}" if late else template)
    place = layout.for_item(ItemId(collection, item), {"properties": {"p": prop}}, None)
    directory, name, name_template = place.path(key, ".tif")
    name = final_name(None, name_template, filename, directory) if late else name
    segments = [*directory.split("/"), name] if directory else [name]
    assert len(segments) == template.count("/") + 1
    for segment in segments:
        assert segment not in ("", ".", "..")
        assert "/" not in segment
        assert len(segment.encode()) <= 255


@given(template=st.text(alphabet="{}|/ab:" + string.ascii_lowercase[:3], max_size=12))
def test_any_text_is_a_layout_or_a_usage_error(template):
    try:
        layout = Layout.parse(template)
    except UsageError:
        return
    directory, *_ = layout.for_item(ItemId("c", "i"), {}, None).path("k", "")
    assert directory.count("/") == max(template.count("/") - 1, 0)
