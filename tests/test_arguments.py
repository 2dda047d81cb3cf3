import asyncio
import datetime as dt
import enum
import inspect
import json
from pathlib import Path
from typing import get_type_hints

import attrs
import numpy as np
import pandas as pd
import pytest

import stacpull
from stacpull import Options, S3Options, Secret, Selection, UsageError, arguments
from stacpull.reports import MirrorReport
from stacpull_logins.logins import FilledProfile

HERE = "http://127.0.0.1:1"
SQUARE = {"type": "Polygon", "coordinates": [[[7, 46], [8, 46], [8, 47], [7, 47], [7, 46]]]}
Mode = enum.Enum("Mode", {"ALL": "all"}, type=str)
UTC_PLUS_2 = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("labels", "Rice fields", ("Rice fields",)),
        ("labels", ["a", "b"], ("a", "b")),
        ("labels", None, ()),
        ("assets", {"red": 1}.keys(), ("red",)),
        ("assets", set("gfedcba"), tuple("abcdefg")),
        ("bbox", [7, 46, 8, 47], (7.0, 46.0, 8.0, 47.0)),
        ("bbox", " 170, -20 ,-170,10", (170.0, -20.0, -170.0, 10.0)),
        ("intersects", SQUARE, json.dumps(SQUARE, separators=(",", ":"))),
        ("clip", "7, 46, 8, 47.5", "7.0,46.0,8.0,47.5"),
        ("clip", [7, 46, 100, 8, 47.5, 900], "7.0,46.0,8.0,47.5"),
        ("clip", '{"type": "Polygon"}', '{"type":"Polygon"}'),
        ("intersects", {"coordinates": np.array([7, 46])}, '{"coordinates":[7,46]}'),
        ("filter", {"op": "<", "args": [np.int64(1), None]}, '{"op":"<","args":[1,null]}'),
        ("prefer", " S3 ,https", ("s3", "https")),
        ("datetime", "2018-01-01", "2018-01-01"),
        ("datetime", dt.date(2018, 1, 1), "2018-01-01"),
        ("datetime", dt.datetime(2018, 1, 1, 10), "2018-01-01T10:00:00Z"),  # noqa: DTZ001 - naive on purpose
        ("datetime", dt.datetime(2018, 1, 1, 10, tzinfo=UTC_PLUS_2), "2018-01-01T08:00:00Z"),
        ("datetime", dt.datetime(1, 1, 1, tzinfo=UTC_PLUS_2), "0001-01-01T00:00:00Z"),
        ("datetime", (np.datetime64("2018-01"), dt.date(2018, 3, 1)), "2018-01/2018-03-01"),
        ("datetime", [None, dt.date(2018, 3, 1)], "../2018-03-01"),
        ("where", "platform=sentinel-2a", ("platform=sentinel-2a",)),
        (
            "where",
            {"platform": ["a", "b"], "gsd": (10, 20.5)},
            ("platform=a", "platform=b", "gsd=10", "gsd=20.5"),
        ),
        (
            "where",
            {"gsd": np.array([10, 20]), "ok": True, "m": Mode.ALL},
            ("gsd=10", "gsd=20", "ok=true", "m=all"),
        ),
        ("label_mode", Mode.ALL, "all"),
        ("where", {}, ()),
        ("shard", "1/4", (1, 4)),
        ("shard", [1, 4], (1, 4)),
        ("max_items", "5", 5),
        ("seasonal_snow", "No", False),
        ("seasonal_snow", np.bool_(0), False),
        ("seed", -5, -5),
        ("max_cloud_cover", "20%", 20.0),
    ],
)
def test_a_selection_accepts_arguments_in_any_common_form(name: str, given: object, held: object) -> None:
    assert getattr(Selection(**{name: given}), name) == held


WRONG = {
    "labels": (5, ["a", 5], {"a": 1}, "", "\udcff", np.array("a")),
    "filter": ("a = '\udcff'", 5, {"args": {1, 2}}),
    "where": (
        {"platform": None}, {"platform": []}, {"platform": ["a", None]}, {"platform": {"a": 1}},
        {"gsd": float("nan")}, {"platform": "\udcff"}, {"datetime": dt.date(2018, 1, 1)}, {5: "a"},
        {"a=b": "c"},
    ),
    "ids": ([], "@ids.txt", "/etc/hostname", iter(()), pd.DataFrame({"id": ["a"]})),
    "bbox": ((1, 2, 3), (1, 2, 3, "x"), (1, 2, 3, float("nan")), "-181,0,0,1", "0,10,1,5", "1,2,9,3,1,9"),
    "datetime": (2018, "", "June", "2019/2018", (None, None), ("2018-01-01",), ("2018-01-01", 5), pd.NaT),
    "intersects": (5, {"coordinates": {1, 2}}, "[1]", "@a.geojson"),
    "clip": (5, (1, 2, 3), (170, 46, 190, 47), "/etc/hostname"),
    "max_items": (True, 0, 2**63, np.array([1, 2]), "\N{SUPERSCRIPT TWO}"),
    "max_cloud_cover": ("much", 101),
    "shard": ((5, 4), "a/b", (1, 2**63), "0/3", "1"),
    "seed": (2**63, -(2**63), "x"),
    "label_mode": ("some", pd.NA), "prefer": ("ftp", "s3,"), "seasonal_snow": ("maybe", 1),
    "sortby": ("", "-", "a,b", "datetime desc", "datetime:asc"),
}  # fmt: skip


def test_fields_whose_types_hold_secrets_are_removed() -> None:
    secret = Secret("the-secret")
    known = {
        "headers": {"X-Token": secret},
        "query": {"key": secret},
        "filled_profile": FilledProfile("mine"),
        "dashboard_token": "the-secret-of-the-page",
    }
    hints = get_type_hints(Options) | get_type_hints(S3Options)
    assert {name for name, hint in hints.items() if "Secret" in str(hint)} == {
        *(known.keys() - {"filled_profile"}),
        "keys",
    }
    given = Options(layout="{key}", s3=S3Options(region="r", keys=(secret, secret)), **known)
    assert given.without_secrets() == Options(layout="{key}", s3=S3Options(region="r"))


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("concurrency", "8", 8),
        ("concurrency", "auto", None),
        ("stall_timeout", "30", 30.0),
        ("limit_rate", " 1.5k ", 1500.0),
        ("stop_after", "3h50m", 13800.0),
        ("stop_after", dt.timedelta(hours=3), 10800.0),
        ("max_page_size", "100M", 100_000_000),
        ("dashboard_token", "0123456789abcdef", Secret("0123456789abcdef")),
        ("dashboard", 8080, ("127.0.0.1", 8080)),
        ("dashboard", "localhost:65535", ("127.0.0.1", 65535)),
        ("dashboard", ("localhost", 8080), ("127.0.0.1", 8080)),
        ("dashboard", ("::1", 8080), ("::1", 8080)),
        ("dashboard", "[::1]:80", ("::1", 80)),
    ],
)
def test_an_option_takes_the_forms_of_the_command_line(name: str, given: object, held: object) -> None:
    assert getattr(Options(**{name: given}), name) == held


WRONG_OPTIONS = {
    "headers": ({"K": 5}, "K: V", {"Range": "bytes=0-1"}),
    "concurrency": (10_000, "many"), "retries": (-1, True), "per_host": (0,), "stall_timeout": (0, "nan"),
    "min_rate": (-1.0,), "limit_rate": (-5, "9e307G", "5T", True), "max_page_size": ("9e307G", 2.0**63),
    "stop_after": (f"{'9' * 309}d", -1, "-5", "-5s", "3h50", "h", "", "1h 5m x"),
    "requests_per_second": (float("nan"),), "metadata": ("xml",),
    "s3": ({"region": "us-west-2"},), "dashboard": ("65536", "::1:80", "name:80"),
    "dashboard_token": ("x" * 15,), "allow_local": ("",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "given"),
    [
        (kind, name, given)
        for kind, wrong in ((Selection, WRONG), (Options, WRONG_OPTIONS))
        for name, several in wrong.items()
        for given in several
    ],
)
def test_an_argument_of_the_wrong_type_is_named(kind: type, name: str, given: object) -> None:
    with pytest.raises(UsageError, match=f"^{name} (must |has |is not GeoJSON|')"):
        kind(**{name: given})


def test_an_error_about_headers_shows_no_value() -> None:
    with pytest.raises(UsageError) as caught:
        Options(headers={"Authorization": ["s3cr3t"]})
    assert "s3cr3t" not in str(caught.value)


NO_BUNDLE = Options(ca_bundle="/nowhere.pem", retries=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stacpull.plan(HERE, selection={"a": 1}), "^selection must be stacpull.Selection"),
        (lambda: stacpull.mirror(HERE, "d", options="x"), "^options must be stacpull.Options"),
        (lambda: stacpull.mirror(HERE, None), "^DEST must be a path, not NoneType"),
        (lambda: stacpull.collections("https://127.0.0.1:9", options=NO_BUNDLE), "--ca-bundle /nowhere.p"),
        (lambda: stacpull.profile_options(5, "planet"), "^options must be stacpull.Options"),
        (lambda: stacpull.profile_options(Options(), 5), "^name must be text in quotes, not 5"),
    ],
)
def test_an_argument_of_a_function_that_has_the_wrong_type_is_named(call, message):
    with pytest.raises(UsageError, match=message):
        asyncio.run(call())


def test_a_repr_shows_what_is_set():
    assert repr(stacpull.S3Options(keys=("id", "key"))) == "S3Options(keys=(Secret('***'), Secret('***')))"
    assert repr(Selection(labels="a", max_items=2)) == "Selection(labels=('a',), max_items=2)"
    report = MirrorReport(state="complete", items_seen=2)
    assert repr(report) == "MirrorReport(items_seen=2, state='complete', exit_code=0)"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\n \n", "the file is empty"),
        (b"# a list\nid\n", "finds no id"),
        (b"# id,cloud\na,20\n", "its only line has several values"),
        (b'["a", ', r"its list is not valid JSON \(Expecting value"),
        (b"\xff\xfe\0", "not UTF-8 text; give text"),
    ],
)
def test_a_file_without_ids_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "ids"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        arguments.load_ids(f"@{file}")
    with pytest.raises(ValueError, match="to read it, use @"):
        arguments.load_ids(str(file))


PATCH = "S2A_MSIL2A_20170613T101031_0_45"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("patch\na\nb\na\n", ("a", "b")),
        ("a\r\n\r\n b \n", ("a", "b")),
        ("\ufeff# a list\na\n  # b\nc", ("a", "c")),
        (f"{PATCH}\n{PATCH}_1\n", (PATCH, f"{PATCH}_1")),
        (f"{PATCH},S1A_1\nX;S1B_2\nY\tval\n", (PATCH, "X", "Y")),
        ('\n["a", "b",\n"c", "d,e"]\n', ("a", "b", "c", "d,e")),
        (',patch,split\n0,"a",train\n1,b,val\n', ("a", "b")),
        ("URN:FEATURE:DATA:1\n", ("URN:FEATURE:DATA:1",)),
    ],
)
def test_a_list_of_ids_is_read(tmp_path, text, ids):
    (tmp_path / "ids").write_text(text)
    assert arguments.load_ids(f"@{tmp_path / 'ids'}") == Selection(ids=tmp_path / "ids").ids == ids


def test_a_filter_is_read_from_a_path(tmp_path: Path) -> None:
    (tmp_path / "filter").write_text("gsd < 20\n")
    assert Selection(filter=tmp_path / "filter").filter == "gsd < 20"


@pytest.mark.parametrize("kind", [Selection, Options])
def test_help_names_the_type_of_each_field(kind):
    help_text, names = inspect.getdoc(kind) or "", {field.name for field in attrs.fields(kind)}
    unnamed = {name for name in names if f"\n    {name} (" not in help_text}
    internal = {"credential_names", "credentials_for", "credential_error", "filled_profile", "dask_client"}
    assert unnamed <= internal


@pytest.mark.parametrize(
    ("first", "written", "expected"),
    [(0, "auto", (6, 10)), (0, "auto/10", (6, 10)), (1, "auto/10", (5, 10)), (3, "auto/10", (5, 10))],
)
def test_the_part_of_a_slurm_task(monkeypatch, first, written, expected):
    """An array from 0 has the same parts with and without the number of tasks."""
    for name, number in {"ID": 5, "MIN": first, "COUNT": 10}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(number))
    assert Selection(shard=written).shard == expected
