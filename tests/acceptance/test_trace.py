"""`stacpull trace` on the replica of Sentinel Hub: the notebook's month, other places, stops and failures."""

import asyncio
import csv
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from rasterio.warp import transform
from tests.acceptance.command import Running, environment, wait_until
from tests.ran import Ran
from tests.security.secrets import found_in

from stacpull import TraceReport
from stacpull.cli.main import execute
from stacpull.sync import trace
from stacpull_replicas import run_in_thread
from stacpull_replicas.faults import Stall, Status
from stacpull_replicas.http_messages import RequestInfo
from stacpull_replicas.sentinelhub import SentinelHubReplica
from stacpull_replicas.sentinelhub.captures import Archive
from stacpull_trace.report import DayState
from stacpull_trace.scene_map import OriginKind
from stacpull_trace.traced_area import TracedArea, area_of_bbox, area_of_geometry

METRES = 3


@dataclass(frozen=True)
class Judged:
    """Valid pixels by day, tile and scene value, and the NDWI by day: pixels, mean, min, max, deviation."""

    scenes: Counter[tuple[date, str, int]]
    ndwi: dict[date, tuple[int, float, float, float, float]]


def judge(archive: Archive, area: TracedArea, first: date, last: date) -> Judged:
    """Count with numpy, pixel by pixel, in the rasters of the replica.

    This shares only the grid with the client: tiles are drawn over each other, and PROJ (through rasterio)
    projects the pixels.
    """
    grid = area.grid
    across, down = grid.pixel
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    longitude = (grid.bbox[0] + columns * across).ravel()
    latitude = (grid.bbox[3] - rows * down).ravel()
    east, north = map(np.array, transform("EPSG:4326", "EPSG:32610", longitude, latitude))
    wanted = shapely.contains_xy(area.outline, longitude, latitude)
    scenes: Counter[tuple[date, str, int]] = Counter()
    ndwi = {}
    for day in sorted({c.day for c in archive.captures if first <= c.day <= last}):
        tile, pixels = _painted(archive, day, east, north)
        valid = wanted & (tile != "") & (pixels["cloud_mask"] == 1)
        for name in set(tile[valid]):
            counted = np.unique(pixels["scene_mask"][valid & (tile == name)], return_counts=True)
            for value, count in zip(*counted, strict=True):
                scenes[day, name, int(value)] += int(count)
        if valid.any():
            green, nir = (pixels[band][valid].astype(np.float64) for band in ("green", "nir"))
            index = ((green - nir) / (green + nir)).astype(np.float32).astype(np.float64)
            ndwi[day] = (index.size, index.mean(), index.min(), index.max(), index.std())
    return Judged(scenes, ndwi)


def _painted(
    archive: Archive, day: date, east: np.ndarray, north: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw the tiles of a day over each other, the newest on top."""
    bands = ("green", "nir", "cloud_mask", "scene_mask")
    tile = np.full(east.shape, "", dtype=object)
    pixels = {band: np.zeros(east.shape, dtype=np.int16) for band in bands}
    for capture in sorted((c for c in archive.captures if c.day == day), key=lambda c: c.ingested):
        west, south, far_east, far_north = capture.square.bounds
        inside = np.flatnonzero((east >= west) & (east < far_east) & (north <= far_north) & (north > south))
        rows = ((far_north - north[inside]) // METRES).astype(np.int32)
        columns = ((east[inside] - west) // METRES).astype(np.int32)
        found = capture.read((*bands, "dataMask"), rows, columns)
        seen = found["dataMask"] == 1
        tile[inside[seen]] = capture.id
        for band in bands:
            pixels[band][inside[seen]] = found[band][seen]
    return tile, pixels


BOX = (-122.44, 37.75, -122.42293, 37.76989)
MONTH = "2023-11-01/2023-12-01"
NOTEBOOK = {
    "2023-11-02 19:00:03": -0.3058,
    "2023-11-07 18:21:45": -0.378623,
    "2023-11-08 19:05:05": 0.026967,
    "2023-11-16 19:21:41": -0.202325,
    "2023-11-17 19:01:57": -0.323913,
    "2023-11-18 19:02:03": -0.357332,
    "2023-11-22 19:06:27": -0.189824,
    "2023-11-23 19:22:30": -0.321991,
}
"""The table that Planet's notebook prints."""
UNMAPPED = {"2023-11-13": 202, "2023-11-24": 28, "2023-11-25": 202}
CLOUDED = {"2023-11-04", "2023-11-19", "2023-11-21", "2023-11-26"}

CORNER = (-122.2737, 37.7290)
"""Where four tiles meet."""
AROUND = (CORNER[0] - 0.0030, CORNER[1] - 0.0025, CORNER[0] + 0.0025, CORNER[1] + 0.0022)
SMALL = (CORNER[0] - 0.0010, CORNER[1] - 0.0010, CORNER[0] + 0.0010, CORNER[1] + 0.0010)
TRIANGLE = {
    "type": "Polygon",
    "coordinates": [
        [[AROUND[0], AROUND[1]], [AROUND[2], CORNER[1]], [CORNER[0], AROUND[3]], [AROUND[0], AROUND[1]]]
    ],
}


Command = Callable[..., Ran]
Library = Callable[..., TraceReport]
Make = Callable[..., SentinelHubReplica]


@pytest.fixture(scope="module")
def replica() -> Iterator[SentinelHubReplica]:
    """The default collection, read only."""
    with run_in_thread(SentinelHubReplica()) as found:
        yield found


@pytest.fixture
def own_replica() -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(run_in_thread(SentinelHubReplica(**options)))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Sets the environment to the account of a replica, and nothing of this machine's user."""

    def log_in(replica: SentinelHubReplica, **changes: str) -> None:
        home = str(tmp_path_factory.getbasetemp())
        for name, value in {**replica.exports(), "XDG_CONFIG_HOME": home, **changes}.items():
            monkeypatch.setenv(name, value)

    return log_in


@pytest.fixture
def library(account: Callable[..., None]) -> Library:
    return lambda replica, **options: account(replica) or trace(replica.collection_id, **options)


@pytest.fixture
def command(account: Callable[..., None], capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: the month and the box, unless options differ."""

    def call(
        replica: SentinelHubReplica, *more: str, changes: Mapping[str, str] | None = None, **options: Any
    ) -> Ran:
        account(replica, **(changes or {}))
        return Ran(execute(arguments(replica, *more, **options)), *capfd.readouterr())

    return call


def arguments(
    replica: SentinelHubReplica, *more: str, box: tuple[float, ...] = BOX, collection: str | None = None
) -> list[str]:
    sides = ",".join(map(str, box))
    base = ["trace", collection or replica.collection_id, f"--bbox={sides}", "--datetime", MONTH, "--json"]
    return [*base, *more]


def requests_to(replica: SentinelHubReplica, part: str) -> list[str]:
    return [record.target for record in list(replica.requests) if part in record.target]


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_the_notebooks_month(replica: SentinelHubReplica, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "november"
    ran = command(replica, "-o", str(out), "-vv")
    assert ran.code == 0, ran.err
    report = ran.report
    assert (report["width"], report["height"]) == (497, 739)
    assert (report["days_valid"], report["days_unmapped"]) == (11, 3)
    days = {day["date"]: day for day in report["days"]}
    assert {text for text, day in days.items() if day["state"] == "empty"} == CLOUDED
    table = {
        day["acquired"][:19].replace("T", " "): round(day["mean"], 6)
        for day in days.values()
        if day["state"] == "ok"
    }
    assert table == NOTEBOOK
    named = {
        text: (day["mode_index"], day["mode"]) for text, day in days.items() if day["state"] == "unmapped"
    }
    assert named == {text: (i, f"scene index {i} is not in the header") for text, i in UNMAPPED.items()}
    tables = {f"{table}.{suffix}" for table in ("scenes", "series") for suffix in ("csv", "parquet")}
    assert {path.name for path in out.iterdir()} == {".stacpull", "chart.png", "trace.json"} | tables
    assert (out / "chart.png").read_bytes().startswith(b"\x89PNG")
    for name, kind in (("series", 15), ("scenes", 32)):
        rows = table_of(out / f"{name}.csv")
        same = pq.read_table(out / f"{name}.parquet").to_pylist()
        assert len(rows) == len(same) == kind
        assert [row["date"] for row in rows] == [row["date"].isoformat() for row in same]
    assert report["scenes"][0]["name"] == "20231102_190003_53_2495"
    kept = json.loads((out / "trace.json").read_text())
    del report["files"], report["exit_code"]
    assert kept == report
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    everything = written + (ran.out + ran.err).encode()
    assert (found_in(everything, [replica.client_secret]), b"Bearer" in everything) == ([], False)


def test_the_second_of_november_is_split_over_its_two_scenes(replica, library):
    report = library(replica, bbox=BOX, datetime="2023-11-02")
    (day,) = report.days
    assert {row.index: row.pixels for row in report.scenes} == {233: 123_605, 10: 15_384, None: 228_294}
    assert (day.samples, day.valid) == (367_283, 138_989)
    written = datetime(2023, 11, 2, 19, 0, 3, 530_000, tzinfo=UTC)
    assert day.acquired is not None
    assert abs((day.acquired - written).total_seconds()) <= 0.005
    assert day.precision == 0.005
    assert day.mean == pytest.approx(-0.30580023709867454, abs=1e-7)
    assert day.st_dev == pytest.approx(0.3505539523621675, abs=1e-7)


def test_the_median_gives_the_notebooks_own_table_and_the_full_series(replica, library, tmp_path):
    out = tmp_path / "out"
    report = library(replica, bbox=BOX, datetime=MONTH, method="median", out=out)
    assert report.exit_code == 0
    assert {f"{row.date:%Y-%m-%d %H:%M:%S}": round(row.value, 6) for row in report.table} == NOTEBOOK
    assert report.notes == ()
    table = table_of(out / "median.csv")
    assert (list(table[0]), len(table)) == (["date", "ndwi"], 8)
    rows = {row["date"]: row for row in table_of(out / "series.csv")}
    assert len(rows) == 15
    times = {row["acquired"][:19].replace("T", " "): round(float(row["mean"]), 6)
             for row in rows.values() if row["acquired"]}  # fmt: skip
    assert times == NOTEBOOK
    untimed = {day: (row["state"], row["mode_index"]) for day, row in rows.items() if not row["acquired"]}
    assert untimed == {
        **dict.fromkeys(CLOUDED, ("empty", "")),
        **{day: ("unmapped", str(index)) for day, index in UNMAPPED.items()},
    }
    assert all(rows[day]["mean"] for day in UNMAPPED)
    assert {row["scenes"] for row in rows.values()} == {""}
    assert library(replica, bbox=BOX, datetime="2023-11-02", method="median", out=tmp_path / "x.csv").files
    assert [row["mode_index"] for row in table_of(tmp_path / "x.csv")] == ["233"]


def test_an_area_without_tiles_fails_and_writes_no_table(replica, command, tmp_path):
    nowhere = (0.0, 0.0, 0.001, 0.001)
    for _ in range(2):  # the second command resumes the first
        ran = command(replica, "--method", "median", "-o", str(tmp_path / "out"), box=nowhere)
        assert (ran.code, ran.report["days"]) == (1, [])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".stacpull"]
    estimated = command(replica, "--method", "median", "--dry-run", box=nowhere)
    assert (estimated.code, estimated.report["tiles"]) == (0, 0)
    for err in (ran.err, estimated.err):
        assert "Nothing matched: the collection has no tile in this area and period." in err


def test_samples_are_the_pixels_of_the_area_whatever_overlaps(replica, library):
    report = library(replica, geometry=json.dumps(TRIANGLE), datetime="2023-11-01/2023-11-12")
    pixels = area_of_geometry(json.dumps(TRIANGLE), 3).count_pixels()
    assert pixels < report.width * report.height
    assert {day.samples for day in report.days} == {pixels}
    assert max(day.clear_share for day in report.days) <= 1
    assert any(day.tiles > 1 and day.clear_share == day.valid / pixels for day in report.days)


def test_rows_of_a_day_whose_tiles_cover_the_area_add_up_to_it(replica, library):
    report = library(replica, bbox=(-122.29, 37.8, -122.25, 37.83), datetime="2023-11", resolution=30)
    pixels = Counter[date]()
    for row in report.scenes:
        pixels[row.date] += row.pixels
    assert {day.samples for day in report.days} == {max(pixels.values())} == {report.width * report.height}


@pytest.mark.parametrize(
    ("seed", "where", "area_of", "period"),
    [
        (7, {"bbox": AROUND}, area_of_bbox, "2023-11-01/2023-11-12"),
        (11, {"geometry": json.dumps(TRIANGLE)}, area_of_geometry, "2023-12-27/2024-01-05"),
        (3, {"bbox": (-122.36, 37.7037, -122.265, 37.705)}, area_of_bbox, "2024-06-01/2024-06-04"),
    ],
    ids=["a box", "a triangle over a new year", "2,793 pixels wide"],
)
def test_counts_equal_those_of_the_rasters(seed, where, area_of, period, own_replica, library):
    hub = own_replica(seed=seed)
    report = library(hub, datetime=period, **where)
    area = area_of(*where.values(), 3)
    expected = judge(hub.archive, area, *map(date.fromisoformat, period.split("/")))
    assert expected.scenes
    found = Counter(
        {(r.date, r.tile, r.index): r.pixels for r in report.scenes if r.kind is not OriginKind.MASKED}
    )
    assert found == expected.scenes
    means = {day.date: day for day in report.days if day.mean is not None}
    assert means.keys() == expected.ndwi.keys()
    for day, (pixels, *figures) in expected.ndwi.items():
        row = means[day]
        assert row.valid == pixels
        assert [row.mean, row.min, row.max, row.st_dev] == pytest.approx(figures, abs=2e-6)
        assert row.state in {DayState.OK, DayState.UNMAPPED}


def test_an_area_that_is_large_by_mistake_costs_nothing(own_replica, command):
    hub = own_replica()
    refused = command(hub, box=(-125.0, 36.0, -120.0, 39.0))
    assert (refused.code, "processing units: add -o OUT (in Python: out)" in refused.err) == (2, True), (
        refused.err
    )
    assert not [*requests_to(hub, "statistics"), *requests_to(hub, "byoc")]


def test_an_estimate_searches_once_and_is_what_the_service_then_charges(own_replica, command):
    hub = own_replica()
    coarse = ("--resolution", "12")
    ran = command(hub, *coarse, "--dry-run")
    assert ran.code == 0, ran.err
    kinds = Counter(part for part in ("search", "statistics", "byoc") for _ in requests_to(hub, part))
    assert kinds == {"search": 1}
    traced = command(hub, *coarse)
    units = f"up to {ran.report['processing_units']:,.2f} processing units"
    assert f"Nothing is stored without -o OUT (in Python: out): each run costs {units}." in traced.err
    spent = traced.report
    assert ran.report["processing_units"] == pytest.approx(spent["processing_units"], rel=0.03)
    assert ran.report["statistics_requests"] == spent["requests_statistics"] == 1
    assert ran.report["requests"] >= spent["requests"]
    assert ran.report["days_with_tiles"] == spent["days_found"] == 15
    fine = command(hub, "--resolution", "2.5", "--dry-run")
    finer = "--resolution 2.5 is finer than the pixels of the scenes (3 m): it shows no more, and costs up to"
    assert f"{finer} {fine.report['processing_units']:,.2f} processing units." in fine.err
    assert "is finer than" not in ran.err
    tiles = ("--resolution", "30", "--datetime", "2023-11-01/2023-11-10")  # which cover parts of the box
    most, spent = (
        command(hub, *tiles, *more, box=(-122.6, 37.6, -122.3, 37.9)).report["processing_units"]
        for more in (["--dry-run"], [])
    )
    assert spent <= most <= 1.5 * spent


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--resolution", "0"], 2, "metres above 0"),
        (["--resolution", "nan"], 2, "metres above 0"),
        (["--bbox=-122.4,37.7,-122.5,37.8"], 2, "antimeridian"),
        (["--bbox=-122.5,37.8,-122.4,37.7"], 2, "has S 37.8 above N 37.7: swap them"),
        (["--datetime", "2023-11-01/.."], 2, "both ends"),
        (["--datetime", "yesterday"], 2, "is not a valid time"),
        (["--index", "nope"], 2, "ndwi, ndvi"),
        (["--method", "mean"], 2, "mode"),
        (["--geometry", '{"type": "Point"}'], 2, "--bbox or --geometry, not both"),
        (["-o", "x.txt"], 2, ".parquet"),
        (["-o", "x.png", "--method", "median"], 2, "no chart"),
        (["-o", "/dev/null/x.csv"], 5, "/dev/null is not a directory"),
    ],
)
def test_bad_input_is_reported_before_any_request(more, code, words, replica, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = len(replica.requests)
    ran = command(replica, *more, changes={"SH_CLIENT_ID": ""} if code == 2 else {})
    assert ran.code == code
    assert words in ran.err
    assert len(replica.requests) == before
    assert list(tmp_path.iterdir()) == []


def test_an_evalscript_is_checked_and_then_computed(replica, command, tmp_path):
    from stacpull_trace.indices import INDICES  # noqa: PLC0415 - only the text of a script

    script = tmp_path / "mine.js"
    script.write_text(INDICES["ndvi"].evalscript.replace('id: "scenes"', 'id: "other"'))
    ran = command(replica, "--evalscript", str(script))
    assert (ran.code, "id scenes" in ran.err) == (2, True)
    script.write_text(INDICES["ndvi"].evalscript, encoding="utf-8-sig")  # as some editors of Windows do
    days = ("--datetime", "2023-11-02/2023-11-07")
    mine = command(replica, "--evalscript", str(script), *days).report
    named = command(replica, "--index", "ndvi", *days).report
    assert (mine["index"], named["index"]) == ("mine", "ndvi")
    assert [day["mean"] for day in mine["days"]] == [day["mean"] for day in named["days"]]
    script.write_text(re.sub("input: .*|cloud_mask", "input: BANDS,", INDICES["ndvi"].evalscript))
    hour = ("--datetime", "2023-11-02T10:00:00Z/2023-11-02T11:00:00Z")
    estimated = command(replica, "--evalscript", str(script), *hour, "--dry-run")
    for note in ("multiply the estimated cost", "does not read cloud_mask", "whole UTC days: 2023-11-02."):
        assert note in estimated.err
    script.write_text(INDICES["ndvi"].evalscript.replace("(sample)", "(sample"))
    refused = command(replica, "--evalscript", str(script))
    assert refused.code == 2
    assert "evalscript" in refused.err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"collection": "foreign"}, 3, "owner"),
        ({"collection": "no-such-collection"}, 2, "no collection"),
        ({"SH_CLIENT_SECRET": "wrong"}, 3, "SH_CLIENT_SECRET"),
        ({"SH_CLIENT_ID": ""}, 3, "SH_CLIENT_ID"),
        ({"SH_BASE_URL": "http://127.0.0.1:1", "SH_TOKEN_URL": "http://127.0.0.1:1/token"}, 4, "127.0.0.1"),
    ],
)
def test_an_error_that_stops_a_trace_is_one_sentence(change, code, words, replica, command):
    changes = dict(change)
    collection = changes.pop("collection", None)
    if collection == "foreign":
        collection = replica.foreign_collection_id
    ran = command(replica, "--retries", "0", changes=changes, collection=collection)
    assert ran.code == code, ran.err
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert replica.client_secret not in ran.err
    assert ran.out == ""


def test_a_spent_quota_stops_the_trace_and_keeps_paid_answers(own_replica, command, tmp_path):
    hub = own_replica(quota=0.6)
    more = ["-o", str(tmp_path / "out"), "--concurrency", "1", "--datetime", "2023-11-01/2023-11-20"]
    ran = command(hub, *more, box=AROUND)
    assert ran.code == 4
    assert "processing units" in ran.err
    paid = len(requests_to(hub, "/tiles/"))
    assert paid > 1
    hub.quota.left = None  # renewed
    again = command(hub, *more, box=AROUND)
    assert again.code == 0, again.err
    tiles = Counter(target for target in requests_to(hub, "/tiles/") if "/files/" not in target)
    assert sum(tiles.values()) <= len(tiles) + 1  # only the refused one is requested twice


def test_a_failed_day_is_reported_and_other_days_are_unaffected(replica, own_replica, command, tmp_path):
    hub = own_replica(failing_days=("2023-11-07", "2023-11-22"))
    short = ("-o", str(tmp_path / "x.csv"), "--datetime", "2023-11-02/2023-11-22", "--resolution", "12")
    ran = command(hub, *short)
    assert ran.code == 1
    failed = {day["date"]: day["problem"] for day in ran.report["days"] if day["state"] == "failed"}
    assert failed.keys() == {"2023-11-07", "2023-11-22"}
    assert all("EXECUTION_ERROR" in problem for problem in failed.values())
    assert "2023-11-07,failed" in (tmp_path / "x.csv").read_text()
    whole = {day["date"]: day for day in command(replica, *short[2:]).report["days"]}
    assert all(whole[day["date"]] == day for day in ran.report["days"] if day["date"] not in failed)
    first = len(requests_to(hub, "statistics"))
    again = command(hub, *short)
    assert again.code == 1
    assert first == 3  # the month, and each failed day once more
    assert len(requests_to(hub, "statistics")) == 5  # only the failed days


def test_a_missing_qa_file_is_named_and_read_when_it_is_there(own_replica, command, tmp_path):
    hub = own_replica()
    gone = next(c.id for c in hub.archive.captures if c.printed and c.day == date(2023, 11, 16))

    def match(request: RequestInfo) -> bool:
        return f"/tiles/{gone}/files" in request.path

    hub.inject(match, Status(404, {}, b'{"error":{"status":404,"code":"COMMON_NOT_FOUND"}}'), times=1000)
    ran = command(hub, "-o", str(tmp_path / "x.csv"), "--datetime", "2023-11-16/2023-11-18")
    assert ran.code == 1
    (failed,) = [day for day in ran.report["days"] if day["state"] == "failed"]
    assert failed["date"] == "2023-11-16"
    assert gone in failed["problem"]
    assert failed["mean"] == pytest.approx(NOTEBOOK["2023-11-16 19:21:41"], abs=1e-6)
    hub.clear_faults()
    before = len(hub.requests)
    again = command(hub, "-o", str(tmp_path / "x.csv"), "--datetime", "2023-11-16/2023-11-18")
    assert again.code == 0
    assert [day["state"] for day in again.report["days"]].count("ok") == 3
    targets = [record.target for record in list(hub.requests)[before:]]
    assert [f"/tiles/{gone}/files" in target for target in targets[2:]] == [True] * (len(targets) - 2)


def test_a_rate_limit_is_waited_for_in_milliseconds(own_replica: Make, library: Library) -> None:
    hub = own_replica()
    refusal = b'{"status":429,"reason":"Too Many Requests","message":"","code":"RATE_LIMIT_EXCEEDED"}'
    at: list[float] = []

    def match(request: RequestInfo) -> bool:
        if "statistics" not in request.path:
            return False
        at.append(time.monotonic())
        return True

    hub.inject(match, Status(429, {"retry-after": "2000"}, refusal), times=2)
    report = library(hub, bbox=BOX, datetime="2023-11-02")
    assert report.days[0].valid == 138_989
    assert (report.retries, report.requests_statistics) == (2, 3)
    assert 2 <= at[1] - at[0] < 85  # not 2000 s, nor what is waited without it


@pytest.mark.parametrize(
    ("number", "part", "count"),
    [
        (signal.SIGKILL, "/tiles/", 9),
        (signal.SIGKILL, "statistics", 3),
        (signal.SIGINT, "statistics", 1),
        (signal.SIGINT, "search", 1),
    ],
)
def test_a_trace_that_was_ended_resumes_and_requests_nothing_twice(
    number: signal.Signals, part: str, count: int, own_replica: Make, library: Library, tmp_path: Path
) -> None:
    hub = own_replica(latency_ms=5)
    out, when = tmp_path / "series.ndjson", "2023-12-25/2024-01-06"
    options = ["-o", str(out), "--concurrency", "1", "--datetime", when]
    env = environment(**hub.exports(), XDG_CONFIG_HOME=str(tmp_path))
    with Running(arguments(hub, *options, box=SMALL), env) as process:
        assert wait_until(lambda: len(requests_to(hub, part)) >= count)
        process.signal(number)
        ended = process.ended()
    if number == signal.SIGINT:
        assert (ended.code, ended.report["state"]) == (130, "interrupted")
    else:
        assert ended.code == -number
    assert not out.exists()
    before = len(requests_to(hub, "statistics"))
    ran = library(hub, bbox=SMALL, datetime=when, out=out)
    assert (ran.exit_code, ran.state, out.exists()) == (0, "complete", True)
    again = Counter(requests_to(hub, "/tiles/")).values()
    assert sum(n - 1 for n in again) <= 1  # what was under way at the kill
    fresh = library(hub, bbox=SMALL, datetime=when)
    assert (ran.days, ran.scenes) == (fresh.days, fresh.scenes)
    assert fresh.requests_statistics <= ran.requests_statistics + before <= fresh.requests_statistics + 1


def test_requests_given_up_are_counted(own_replica, library, monkeypatch):
    monkeypatch.setattr("stacpull_trace.trace.GRACE", 0.1)
    stop, hub, loops = asyncio.Event(), own_replica(), list[asyncio.AbstractEventLoop]()

    def is_computed(request: RequestInfo) -> bool:
        if found := "statistics" in request.path:
            loops[0].call_soon_threadsafe(stop.set)
        return found

    def note_loop(_event: object) -> None:
        loops.append(asyncio.get_running_loop())

    hub.inject(is_computed, Stall(after=0, seconds=60))
    report = library(hub, bbox=SMALL, datetime="2024-01-02", on_event=note_loop, stop=stop)
    assert re.match("Gave up . requests?: the service may charge for this again.", report.notes[0])


def test_another_query_for_the_same_output_is_refused_and_replaced_tables_named(replica, command, tmp_path):
    out, series = tmp_path / "x", tmp_path / "x/series.csv"
    for _ in range(2):
        assert "tables of" not in command(replica, "-o", str(out), "--datetime", "2023-11-02").err
    before = series.read_bytes()
    ran = command(replica, "-o", str(out), "--index", "ndvi")
    assert ran.code == 2
    assert "another query (different: index or evalscript)" in ran.err
    assert series.read_bytes() == before
    longer = command(replica, "-o", str(out), "--datetime", "2023-11-02/2023-11-07")
    assert longer.code == 0  # another period is the same question
    assert (len(table_of(series)), "tables of 2023-11-02/2023-11-02 in" in longer.err) == (3, True)
