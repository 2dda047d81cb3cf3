"""`stacpull headers` as a user runs it: right in every field, resumable anywhere, silent about secrets."""

import csv
import io
import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest
import tifffile
from tests.acceptance.command import SMALL, SOURCE, Running, environment, run, wait_until
from tests.security.secrets import ACCESS, KEY

from stacpull import HeadersReport, Options, S3Options, Secret, Selection, StacpullError, UsageError
from stacpull.events import RunStarted
from stacpull.sync import headers
from stacpull_replicas import MlhubReplica, Status, run_in_thread
from stacpull_replicas.dataset import Dataset

ITEMS = 12


def headers_of(replica: MlhubReplica, out: Path | None, *options: str) -> list[str]:
    """Arguments for the headers of all bands that there are; `options` may exclude others instead."""
    where = [] if out is None else ["-o", str(out)]
    excluded = [] if "--exclude-asset" in options else ["--exclude-asset", "B10"]
    return ["headers", replica.base_url, "-C", SOURCE, *excluded, *where, *options]


def read(replica: MlhubReplica, out: Path | None, how: Options | None = None, **more: Any) -> HeadersReport:
    given = {name: more.pop(name) for name in ("refresh", "on_row", "on_event") if name in more}
    options = attrs.evolve(
        how or Options(), query={"key": Secret(replica.key)}, s3=S3Options(endpoint_url=replica.s3_url)
    )
    selection = Selection(**{"collections": (SOURCE,), "exclude_assets": ("B10",), **more})
    return headers(
        replica.base_url, None if out is None else str(out), selection=selection, options=options, **given
    )


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def blobs(replica: MlhubReplica) -> Counter[str]:
    """How often each file was sent, or a piece of it, by name."""
    sent = (record for record in list(replica.requests) if record.kind in {"blob", "object"})
    return Counter(record.target.partition("?")[0].rpartition("/")[2] for record in sent)


# Right.


def files_of(dataset: Dataset) -> dict[tuple[str, str], bytes]:
    found = {}
    for patch in dataset.patches():
        for band in ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"):
            found[f"{SOURCE}_{patch.name}", band] = dataset.band(patch, band)
    return found


def by_tifffile(data: bytes) -> dict[str, Any]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        geo = page.geotiff_tags
        scale, (tie,) = geo["ModelPixelScale"], [geo["ModelTiepoint"]]
        return {
            "byte_order": file.byteorder,
            "bigtiff": file.is_bigtiff,
            "width": page.imagewidth,
            "height": page.imagelength,
            "bands": page.samplesperpixel,
            "dtype": page.dtype.name,
            "bits_per_sample": page.bitspersample,
            "compression_code": int(page.compression),
            "predictor": page.predictor,
            "photometric": page.photometric.name.lower(),
            "tiled": page.is_tiled,
            "block_width": page.tilewidth if page.is_tiled else page.imagewidth,
            "block_height": page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength),
            "overviews": [[one.imagewidth, one.imagelength] for one in list(file.pages)[1:]],
            "epsg": int(geo["ProjectedCSTypeGeoKey"]),
            "pixel_is_point": int(geo["GTRasterTypeGeoKey"]) == 2,
            "transform": [scale[0], 0.0, tie[3], 0.0, -scale[1], tie[4]],
            "nodata": page.tags[42113].value if 42113 in page.tags else None,
            "description": page.description or None,
            "datetime": page.datetime,
            "software": page.software or None,
        }


def test_every_field_of_every_band_equals_that_of_tifffile(tmp_path: Path) -> None:
    out = tmp_path / "headers.ndjson"
    with run_in_thread(MlhubReplica(items=ITEMS, seed=7)) as replica:
        ran = run(headers_of(replica, out, "--json"), environment(replica))
        files = files_of(replica.dataset)
    assert ran.code == 0, ran.err
    report = ran.report
    assert (report["state"], report["items_seen"], report["items_matched"]) == ("complete", ITEMS, ITEMS)
    assert (report["headers_done"], report["headers_failed"]) == (12 * ITEMS, 0)
    assert report["assets_excluded"] == ITEMS
    rows = rows_of(out)
    assert len(rows) == 12 * ITEMS
    assert {(row["item"], row["asset"]) for row in rows} == files.keys()
    for row in rows:
        data = files[row["item"], row["asset"]]
        theirs = by_tifffile(data)  # rasterio judges headers in tests/raster
        assert {name: row[name] for name in theirs} == theirs, (row["item"], row["asset"])
        assert row["size"] == len(data)
        assert (row["reads"], row["bytes_read"]) == (1, min(len(data), 16384))
        assert (row["failure"], row["error"]) == (None, None)


def test_the_formats_have_the_same_contents(tmp_path, small_hub):
    pq = pytest.importorskip("pyarrow.parquet")
    tables = {}
    for kind in ("ndjson", "csv", "parquet"):
        out = tmp_path / f"t.{kind}"
        assert read(small_hub, out, Options(page_size=4), max_items=9).exit_code == 0
        tables[kind] = out
    lines = rows_of(tables["ndjson"])
    assert len(lines) == 9 * 12
    with tables["csv"].open(newline="") as file:
        texts = list(csv.DictReader(file))
    parquet = pq.read_table(tables["parquet"]).to_pylist()
    assert [list(row) for row in (texts[0], parquet[0])] == [list(lines[0])] * 2
    for text, typed, line in zip(texts, parquet, lines, strict=True):
        for name, value in line.items():
            if name == "href":
                continue  # other in each reply
            if isinstance(value, dict | list):
                assert json.loads(text[name]) == json.loads(typed[name]) == value
            else:
                assert (typed[name], text[name]) == (value, as_csv(value))


def as_csv(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


# Resumed.


def test_repeated_kills_lose_no_header_and_repeat_only_requests_in_flight(tmp_path: Path) -> None:
    out, items, draw = tmp_path / "t.ndjson", 40, random.Random(5)
    kills, slots = 2, 8
    secrets = {"key": KEY, "access": ACCESS, "era": "2021", "echo_key": True}  # the watch looks for them
    with run_in_thread(MlhubReplica(items=items, seed=7, latency_ms=4, record=True, **secrets)) as replica:
        env = environment(replica)
        arguments = headers_of(replica, out, "-vv", "--page-size", "20", "--concurrency", str(slots))
        for number in range(kills):
            target = blobs(replica).total() + draw.randrange(20, 150)
            with Running(arguments, env) as process:
                assert wait_until(lambda: blobs(replica).total() >= target or not process.is_alive())  # noqa: B023
                assert process.signal(signal.SIGKILL), f"it was done before kill {number}"
            assert not out.exists()
        last = run([*arguments, "--json"], env)
        requested = blobs(replica)
    assert last.code == 0, last.err
    assert last.report["headers_done"] == 12 * items
    assert last.report["headers_skipped"] > 0
    assert len(requested) == 12 * items
    assert requested.total() - 12 * items <= kills * slots
    assert b"sig=" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    rows = rows_of(out)
    assert len({(row["item"], row["asset"]) for row in rows}) == len(rows) == 12 * items


def test_a_signal_stops_and_the_same_command_completes(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    with run_in_thread(MlhubReplica(items=20, seed=7, latency_ms=60, record=True)) as replica:
        env, arguments = environment(replica), headers_of(replica, out, "--json")
        with Running(arguments, env) as process:
            assert wait_until(lambda: blobs(replica).total() > 100)
            assert process.signal(signal.SIGTERM)
            stopped = process.ended()
        assert stopped.code == 130
        assert stopped.report["state"] == "interrupted"
        assert 0 < stopped.report["headers_done"] < 12 * 20
        assert not out.exists()
        assert "Traceback" not in stopped.err
        resumed = run(arguments, env)
        requested = blobs(replica)
    assert resumed.code == 0, resumed.err
    assert resumed.report["headers_skipped"] == stopped.report["headers_done"]
    assert requested.total() == len(requested) == 12 * 20
    assert resumed.report["items_matched"] == 20
    assert out.exists()


def test_a_kill_between_the_last_row_and_the_table_repeats_no_request(tmp_path, small_hub):
    out = tmp_path / "t.ndjson"
    read(small_hub, out)
    whole = out.read_bytes()
    out.unlink()
    (tmp_path / ".t.ndjson.part").write_bytes(b"half a li")
    before = len(small_hub.requests)
    again = read(small_hub, out)
    assert (again.exit_code, again.requests) == (0, 0)
    assert len(small_hub.requests) == before
    assert out.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"t.ndjson", "t.ndjson.stacpull"}


def test_a_complete_table_is_refreshed_only_with_refresh(tmp_path: Path, small_hub: MlhubReplica) -> None:
    out = tmp_path / "t.ndjson"
    assert read(small_hub, out, max_items=3).headers_done == 36
    written, requested = out.stat().st_mtime_ns, blobs(small_hub).total()
    again = read(small_hub, out, max_items=3)
    assert (again.headers_done, again.headers_skipped, again.requests) == (36, 36, 0)
    assert (again.items_matched, again.state) == (3, "complete")
    assert out.stat().st_mtime_ns == written
    with pytest.raises(UsageError, match=r"another query \(different: selection\).* add --refresh"):
        read(small_hub, out, max_items=2)
    fresh = read(small_hub, out, max_items=3, refresh=True)
    assert (fresh.headers_done, fresh.headers_skipped) == (36, 0)
    assert blobs(small_hub).total() == requested + 36
    assert out.stat().st_mtime_ns > written


def test_failed_rows_of_a_complete_table_are_retried(tmp_path: Path, small_hub: MlhubReplica) -> None:
    out, no_retries = tmp_path / "t.ndjson", Options(retries=0)
    small_hub.inject(lambda request: request.server in {"blob", "s3"}, Status(500), times=5)
    first = read(small_hub, out, no_retries)
    assert (first.exit_code, first.headers_failed, first.state) == (1, 5, "complete")
    failed = [row for row in rows_of(out) if row["failure"]]
    assert [row["failure"] for row in failed] == ["server"] * 5
    assert all("500" in row["error"] and row["width"] is None for row in failed)
    order = [(row["item"], row["asset"]) for row in rows_of(out)]
    requested = blobs(small_hub).total()
    events: list[Any] = []
    second = read(small_hub, out, no_retries, on_event=events.append)
    assert [event.resumed for event in events if isinstance(event, RunStarted)] == [False]
    assert (second.exit_code, second.headers_done, second.headers_skipped) == (0, SMALL * 12, SMALL * 12 - 5)
    assert blobs(small_hub).total() == requested + 5
    assert [(row["item"], row["asset"]) for row in rows_of(out)] == order
    assert not [row for row in rows_of(out) if row["failure"]]


# Refused.


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("t.xlsx", 2, "use a name that ends with one of .parquet, .csv, .ndjson"),
        ("t", 2, "use a name that ends with one of"),
        ("mine.csv/t.csv", 5, "mine.csv is not a directory, but one is needed"),
        ("folder.csv", 5, "is a directory"),
        ("mine.csv", 2, "without results of stacpull beside it"),
    ],
)
def test_an_impossible_output_is_refused_before_any_request(tmp_path, small_hub, name, code, sentence):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "mine.csv").write_text("a,b\n")
    with pytest.raises(StacpullError, match=sentence) as reported:
        read(small_hub, tmp_path / name)
    assert reported.value.exit_code == code
    assert not small_hub.requests
    assert (tmp_path / "mine.csv").read_text() == "a,b\n"
    assert {path.name for path in tmp_path.iterdir()} == {"folder.csv", "mine.csv"}


def test_a_second_process_on_the_same_output_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    with run_in_thread(MlhubReplica(items=60, seed=7, latency_ms=200, record=True)) as replica:
        env = environment(replica)
        with Running(headers_of(replica, out), env) as process:
            assert wait_until(lambda: blobs(replica).total() > 10)
            second = run(headers_of(replica, out), env)
            assert second.code == 5
            assert "Another stacpull is working on" in second.err
            assert process.is_alive()


@pytest.mark.parametrize(
    ("option", "code"), [("--layout=none", 2), ("--metadata=none", 2), ("--clip=0,0,1,1", 0)]
)
def test_options_without_an_effect_are_refused_or_warned_of(small_hub: MlhubReplica, option: str, code: int):
    ran = run(headers_of(small_hub, None, option), environment(small_hub))
    assert (ran.code, "--clip and --expand-prefix have no effect on headers." in ran.err) == (code, not code)
