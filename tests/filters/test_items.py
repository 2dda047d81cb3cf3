"""Verdicts of each filter on items: tables, and broken items."""

from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.items import JSON

from stacpull.clock import parse_instant, parse_interval
from stacpull.errors import UsageError
from stacpull.filters.item_filters import CloudCoverFilter, ItemFilter, rank_of, read_boolean
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.selection import Selection

PATCH = "S2A_MSIL2A_20170613T101031_0_45"
ITEM = {
    "id": "a",
    "collection": "c",
    "properties": {
        "platform": "sentinel-2a",
        "gsd": 10,
        "gain": 1.5,
        "path": "042",
        "tiles": ["1_0", "1e1", "٣"],
        "proj:epsg": 32633,
        "online": True,
        "instruments": ["msi", 2],
        "proj": {"code": "EPSG:32633"},
        "a.b": "dotted",
        "nothing": None,
        "equation": "x=y",
        "huge": 10**400,
        "number": 2**53,
        "serial": float(12345678901234567890123),  # as JSON with such a number is read
        "digits": "20180102101031123",
    },
}


def judge(item: Any = ITEM, **selection: Any) -> str | None:
    return SelectionFilter.from_selection(Selection(**selection)).reason_left_out(item)


def test_a_filter_is_compiled_unless_its_option_is_off() -> None:
    class SwitchFilter(ItemFilter):
        fields = ("include_pages",)

    assert SwitchFilter.from_selection(Selection()) is None
    assert SwitchFilter.from_selection(Selection(include_pages=True)) is not None
    assert CloudCoverFilter.from_selection(Selection()) is None
    assert CloudCoverFilter.from_selection(Selection(max_cloud_cover=0)) is not None


@pytest.mark.parametrize(
    ("item_id", "wanted", "matches"),
    [
        (PATCH, (PATCH,), True),
        (f"bigearthnet_v1_labels_{PATCH}", (PATCH,), True),
        (f"bigearthnet_v1_labels_{PATCH}", (f" {PATCH} ",), True),
        (f"bigearthnet_v1_labels_{PATCH}", ("other", f"bigearthnet_v1_labels_{PATCH}"), True),
        ("bigearthnet_v1_labels_S2A_MSIL2A_20170613T101031_10_45", (PATCH,), False),
        ("patch_5_45", ("_45",), False),
        ("2025/04/02/S2A", ("S2A",), True),
        ("a", ("A",), False),
        (7, ("7",), False),
    ],
)
def test_items_match_by_id_or_by_its_ending(item_id, wanted, matches):
    assert judge({"id": item_id}, ids=wanted) == (None if matches else "ids")


@pytest.mark.parametrize(
    ("wanted", "seen", "note"),
    [
        (("a", "b"), ("a", "x_b"), None),
        (("a", "b"), ("a",), "The source listed no item for 1 of 2 ids, such as b."),
        (("a",), ("b",), "The source listed no item for 1 of 1 id, such as a."),
        (tuple("abcde"), (), "The source listed no item for 5 of 5 ids, such as a, b, c."),
        (("b", "a_b"), ("a_b", "a_b"), None),
        (("1",), ("a_1", "b_1"), "'1' is the end of several ids: all match."),
    ],
)
def test_unmatched_ids_are_reported_after_a_complete_walk(wanted, seen, note):
    selected = SelectionFilter.from_selection(Selection(ids=wanted, cloud_and_shadow=True))
    for name in seen:
        selected.reason_left_out({"id": name})
    assert selected.warnings({}, complete=True) == ([] if note is None else [note])
    assert not any("listed no item" in text for text in selected.warnings({}))


@cache
def shards(count):
    return [SelectionFilter.from_selection(Selection(shard=(n, count))) for n in range(1, count + 1)]


@given(item_id=st.text(max_size=20), count=st.integers(1, 9))
def test_every_item_is_in_one_shard(item_id, count):
    assert [shard.reason_left_out({"id": item_id}) for shard in shards(count)].count(None) == 1


def test_shards_and_ranks_never_change():
    found = [
        [shard.reason_left_out({"id": name}) for shard in shards(4)].index(None)
        for name in ("a", "c", "S2A_0_45")
    ]
    assert found == [2, 1, 2]
    orders = [sorted("abcdef", key=partial(rank_of, seed)) for seed in (0, 1)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        (["platform=sentinel-2a"], True),
        ([" platform = sentinel-2a "], True),
        (["platform=Sentinel-2A"], False),
        (["gsd=10.0"], True),
        (["gain=1.50"], True),
        (["path=042"], True),
        (["path= 42.0 "], True),
        (["tiles=10"], False),
        (["tiles=1_0"], True),
        (["tiles=3"], False),
        (["gsd=1e1"], True),
        ([f"number={2**53}.0"], True),
        ([f"number={2**53 + 1}"], False),
        (["serial=12345678901234567890123"], True),
        (["digits=+20180102101031123"], True),
        (["digits=20180102101031124"], False),
        (["properties.proj:epsg=32633"], True),
        (["online=true"], True),
        (["instruments=msi"], True),
        (["proj.code=EPSG:32633"], True),
        (["a.b=dotted"], True),
        (["equation=x=y"], True),
        (["nothing=None"], False),
        (["nothing=x"], False),
        (["collection=c"], True),
        (["gsd=nan"], False),
        (["gsd=20", "gsd=10"], True),
        (["gsd=10", "platform=sentinel-2a"], True),
        (["gsd=10", "platform=landsat-8"], False),
    ],
)
def test_every_property_must_have_one_of_its_values(where, matches):
    assert judge(where=where) in ({None} if matches else {"where", "no property nothing"})


@pytest.mark.parametrize("condition", ["gsd", "=10", "gsd==10", "gsd>=10", "gsd=<10", "gsd!=10", "gsd<>10"])
def test_invalid_conditions_are_rejected(condition):
    with pytest.raises(UsageError, match="; --filter has other comparisons"):
        Selection(where=(condition,))


@pytest.mark.parametrize(
    ("cover", "reason"),
    [
        (20, None),
        (20.0001, "cloud cover"),
        ("12.5", None),
        ("99", "cloud cover"),
        (None, "unknown cloud cover"),
        ("cloudy", "unknown cloud cover"),
        (10**400, "unknown cloud cover"),
    ],
)
def test_only_a_known_cloud_cover_up_to_the_limit_is_kept(cover, reason):
    assert judge({"properties": {"eo:cloud_cover": cover}}, max_cloud_cover=20.0) == reason


def test_notes_name_what_was_left_out():
    selected = SelectionFilter.from_selection(
        Selection(nomenclature="ben19", seasonal_snow=False, max_cloud_cover=2, bbox=(0, 0, 1, 1))
    )
    reasons = ("unreadable flag", "no label in nomenclature", "unknown cloud cover", "no location")
    assert selected.warnings(dict(zip(reasons, (1, 1200, 2, 3), strict=True))) == [
        "1 item left out: cloud_and_shadow or seasonal_snow is not a valid flag.",
        "2 items left out: eo:cloud_cover is absent or not a number.",
        "1,200 items left out: they have no label in ben19.",
        "3 items left out: neither geometry nor bbox is valid.",
    ]
    assert selected.warnings({}) == []
    shown = SelectionFilter.from_selection(Selection(where="p=x"))
    shown.reason_left_out({"properties": {"p": "http://u:pw@h/a?sig=abc"}})
    assert shown.warnings({}, complete=True) == ["--where kept no item. Items have p=http://h/a."]
    assert judge({"properties": {"gsd": 10}}, filter="gsd > 30") == "filter"
    for text, names in {
        'platform = "s2a" OR gsd > 30': " Absent: s2a. Text takes single quotes: 'a'.",
        "gs <> 10": " Absent: gs; did you mean gsd?",
        "gsd='10'": " Numbers take no quotes. Text takes single quotes, a list 'TEXT' IN NAME (or --label).",
        "label:type = vector": " Absent: label:type, vector. Text takes single quotes: 'a'.",
    }.items():
        selected = SelectionFilter.from_selection(Selection(filter=text))
        assert selected.reason_left_out(ITEM) == "unknown to the filter"
        assert selected.warnings({"unknown to the filter": 1})[0].endswith(f"or of another type.{names}")


TRUE = [True, "true", "TRUE", "tRuE", 1, 1.0]
FALSE = [None, False, "false", "False", 0, 0.0]
UNREADABLE = ["", "yes", "0", "1", " true", 2, -1, 0.5, float("nan"), [], [True], {}, "null"]


@pytest.mark.parametrize(
    ("value", "meaning"),
    [*((value, True) for value in TRUE), *((v, False) for v in FALSE), *((v, None) for v in UNREADABLE)],
)
def test_values_of_flags(value, meaning):
    assert read_boolean(value) is meaning


@pytest.mark.parametrize(
    ("properties", "cloud", "snow", "reason"),
    [
        ({}, False, False, None),
        ({}, True, None, "cloud and shadow"),
        ({"cloud_and_shadow": "true"}, False, None, "cloud and shadow"),
        ({"cloud_and_shadow": "true"}, True, None, None),
        ({"seasonal_snow": 1}, None, False, "seasonal snow"),
        ({"cloud_and_shadow": "maybe"}, True, None, "unreadable flag"),
        ({"cloud_and_shadow": "maybe"}, None, None, None),
        ({"cloud_and_shadow": True, "seasonal_snow": "maybe"}, False, False, "unreadable flag"),
        ({"cloud_and_shadow": True, "seasonal_snow": True}, False, False, "cloud and shadow"),
        (None, False, None, None),
    ],
)
def test_verdicts_by_flags(properties, cloud, snow, reason):
    assert judge({"properties": properties}, cloud_and_shadow=cloud, seasonal_snow=snow) == reason


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2017-06-13", "2017-06-13T00:00:00Z", "2017-06-13T23:59:59.999999Z"),
        ("2017-06-13T12:10:31+02:00", "2017-06-13T10:10:31Z", "2017-06-13T10:10:31Z"),
        ("2020-02", "2020-02-01T00:00:00Z", "2020-02-29T23:59:59.999999Z"),
        ("../2018", "..", "2018-12-31T23:59:59.999999Z"),
        ("2017-07/..", "2017-07-01T00:00:00Z", ".."),
        ("/2017-06-14", "..", "2017-06-14T23:59:59.999999Z"),
        ("0001-01-01/9999-12-31", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        ("2016-10-08 19:25:32Z/..", "2016-10-08T19:25:32Z", ".."),
    ],
)
def test_intervals_are_parsed(text, start, end):
    ends = (None if one == ".." else datetime.fromisoformat(one) for one in (start, end))
    assert parse_interval(text) == tuple(ends)


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "0000",
        "2017-02-30",
        "2017-06-14/2017-06-13",
        "2017-06-13/2017-06-14/2017-06-15",
        "2017-06-13T10",
    ],
)
def test_invalid_intervals_are_rejected(text):
    with pytest.raises(UsageError, match="datetime") as error:
        judge(datetime=text)
    assert str(error.value).split("'")[1] in text


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2016-10-08 19:25:32Z", datetime(2016, 10, 8, 19, 25, 32, tzinfo=UTC)),
        ("2017-06-13t16:50:43z", datetime(2017, 6, 13, 16, 50, 43, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2016-12-31T15:59:60-08:00", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2020-01-01T00:00:00.123456789Z", datetime(2020, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("2020-01-01", datetime(2020, 1, 1, tzinfo=UTC)),
        (5, None),
    ],
)
def test_item_times_are_read_leniently(value, instant):
    assert parse_instant(value) == instant


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"datetime": "2017-06-13T00:00:00Z"}, None),
        ({"datetime": "2017-06-14T23:59:59.5Z"}, None),
        ({"datetime": "2017-06-15T00:00:00Z"}, "datetime"),
        ({"datetime": "9999-12-31T23:59:59-14:00"}, "datetime"),
        ({}, "unknown time"),
        ({"datetime": "yesterday"}, "unknown time"),
        ({"datetime": None, "start_datetime": "2017-01-01", "end_datetime": "2018-01-01"}, None),
        ({"start_datetime": "2017-06-15T00:00:00Z", "end_datetime": "2018-01-01T00:00:00Z"}, "datetime"),
        ({"start_datetime": "2017-01-01T00:00:00Z"}, None),
        (
            {"datetime": "2017-01-01T00:00:00Z", "start_datetime": "2017-06-13", "end_datetime": "2018"},
            "datetime",
        ),
    ],
)
def test_verdicts_by_time(properties, reason):
    assert judge({"properties": properties}, datetime="2017-06-13/2017-06-14") == reason


# --- all filters together ---------------------------------------------------------------------------------

MEMBERS = ["labels", "label:overviews", "cloud_and_shadow", "seasonal_snow", "datetime", "start_datetime"]
GEOMETRY = st.fixed_dictionaries(
    {"type": st.sampled_from(["Point", "Polygon", "MultiPolygon", "GeometryCollection"])},
    optional={"coordinates": JSON, "geometries": JSON},
)


@given(
    item=st.fixed_dictionaries(
        {},
        optional={
            "id": JSON,
            "geometry": JSON | GEOMETRY,
            "bbox": JSON | st.lists(st.floats(), max_size=6),
            "properties": JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, JSON)),
        },
    ),
    selection=st.sampled_from(
        [
            Selection(labels=("a",), label_property="labels", seasonal_snow=False, ids=("a",)),
            Selection(exclude_labels=("a",), nomenclature="ben19", where=("a=b",), max_cloud_cover=3),
            Selection(bbox=(0, 0, 10, 10)),
            Selection(intersects='{"type": "Point", "coordinates": [0, 0]}'),
            Selection(datetime="../2017-06-13"),
        ]
    ),
)
def test_no_malformed_item_raises(item, selection):
    assert isinstance(SelectionFilter.from_selection(selection).reason_left_out(item), str | None)
