"""`headers --tiles`: tile lists as columns, read with few requests and within limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import tifffile
from tests.acceptance.raster_host import RasterHost, raster_host
from tests.cli.conftest import Ran
from tests.tiff import made
from tests.tiff.made import Value, shorts, tiff

import stacpull
from stacpull import HeadersReport, Options, Selection, UsageError
from stacpull.tiff import MOST_BYTES_WITH_TILES

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RasterHost]:
    with raster_host() as host:
        host.files = {"/a.tif": tiled(tmp_path / "a.tif", 64), "/b.tif": b"no raster"}
        yield host


def tiled(path: Path, side: int) -> bytes:
    """Return a raster of `side` by `side` pixels in tiles of 16 by 16."""
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "DEFLATE"}
    given = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", **options}
    with rasterio.open(path, "w", **given) as file:
        file.write(np.random.default_rng(2).integers(0, 9, (1, side, side), dtype=np.uint8))
    return path.read_bytes()


def headers(host: RasterHost, out: Path, **options: Any) -> HeadersReport:
    """Read the headers of all files of the host as the assets of one item."""
    source = out.with_name("items.json")
    source.write_bytes(host.items({"i": {path.strip("/").partition(".")[0]: path for path in host.files}}))
    settings = {"selection": Selection(assets="*"), "tiles": True, **options}
    how = Options(allow_private_hosts=True, retries=0)
    return asyncio.run(stacpull.headers(str(source), out, options=how, **settings))


def test_tile_columns_are_lists_of_numbers_in_every_format(host: RasterHost, tmp_path: Path) -> None:
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets, counts = list(file.pages.first.dataoffsets), list(file.pages.first.databytecounts)
    for suffix in ("parquet", "ndjson", "csv"):
        assert headers(host, tmp_path / f"t.{suffix}").headers_failed == 1
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema.field("tile_offsets").type == pa.list_(pa.uint64())
    assert table["tile_offsets"].to_pylist() == [offsets, None]
    assert table["tile_byte_counts"].to_pylist() == [counts, None]
    rows = [json.loads(line) for line in (tmp_path / "t.ndjson").read_text().splitlines()]
    assert [(row["tile_offsets"], row["fill_order"]) for row in rows] == [(offsets, 1), (None, None)]
    assert json.dumps(offsets, separators=(",", ":")) in (tmp_path / "t.csv").read_text()


def test_a_table_keeps_its_columns_until_refreshed(host: RasterHost, tmp_path: Path) -> None:
    out = tmp_path / "t.ndjson"
    headers(host, out)
    with pytest.raises(UsageError, match="columns"):
        headers(host, out, tiles=False)
    rows: list[Any] = []
    headers(host, out, tiles=False, refresh=True, on_row=rows.append)
    assert not any("tile_offsets" in row for row in rows)
    headers(host, out, refresh=True, on_row=rows.append)
    assert [len(row["tile_offsets"] or ()) for row in rows[2:]] == [16, 0]


def test_short_tile_lists_cost_no_request_and_long_ones_one(host: RasterHost, tmp_path: Path) -> None:
    host.files = {"/near.tif": host.files["/a.tif"], "/long.tif": tiled(tmp_path / "long.tif", 1600)}
    rows: list[Any] = []
    headers(host, tmp_path / "t.ndjson", on_row=rows.append)
    near, long = rows
    assert (near["reads"], len(near["tile_offsets"])) == (1, 16)
    assert (long["reads"], len(long["tile_offsets"])) == (2, 10_000)
    assert long["bytes_read"] < 16 * 1024 + 8 * 10_000 + 4096 * 2


def test_tile_lists_over_the_limit_fail_without_being_read(host: RasterHost, tmp_path: Path) -> None:
    count = MOST_BYTES_WITH_TILES // 4 + 1
    claims = made.image(
        t256=Value(4, [2**30]), t257=Value(4, [2**20]), t273=None, t278=None, t279=None,
        t322=shorts(16), t323=shorts(16), t324=Value(4, [8], count=count, place=600),
    )  # fmt: skip
    host.files = {"/large.tif": tiff(claims).ljust(6 << 20, b"\1")}
    rows: list[Any] = []
    headers(host, tmp_path / "t.ndjson", on_row=rows.append)
    assert (rows[0]["failure"], rows[0]["tile_offsets"]) == ("format", None)
    assert "makes the header larger than 4194304 bytes" in rows[0]["error"]
    assert host.sent < 1 << 20


def test_the_command_reads_tile_lists(
    stacpull_command: Callable[..., Ran], host: RasterHost, tmp_path: Path
) -> None:
    source, out = tmp_path / "items.json", tmp_path / "t.ndjson"
    source.write_bytes(host.items({"i": {"a": "/a.tif"}}))
    ran = stacpull_command("headers", str(source), "--allow-private-hosts", "--tiles", "-o", str(out))
    assert ran.code == 0
    assert len(json.loads(out.read_text())["tile_offsets"]) == 16
