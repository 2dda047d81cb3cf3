"""The bytes that `--clip` fetches of a COG at nginx, beside those that `rio clip` reads through /vsicurl.

The COG is a fifth of a Sentinel-2 band; `STACPULL_WHOLE_BAND=1` makes it one of 10,980 x 10,980 pixels.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from tests.items import feature
from tests.raster.tiff.clipping import clipped, degrees, raster
from tests.servers.nginx import Nginx, nginx

from stacpull import Options, Selection, sync

pytestmark = [
    pytest.mark.behaviour,
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.timeout(600),
]
UTM = CRS.from_epsg(32632)
SIDE = 10_980 if os.environ.get("STACPULL_WHOLE_BAND") else 2_196
WHERE = Affine(10, 0, 300_000, 0, -10, 5_200_020)
AREA = degrees(UTM, (304_000, 5_186_000, 311_500, 5_195_000))
"""A town: 7.5 by 9 km."""
HEADER = 64 * 1024


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="module", params=[512, 1024])
def band(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A band of uint16 in DEFLATE, kept from run to run."""
    kept = Path(tempfile.gettempdir()) / f"stacpull-band-{SIDE}-{request.param}.tif"
    if not kept.exists():
        made = raster(
            tmp_path_factory.mktemp("band"),
            size=(SIDE, SIDE), transform=WHERE, tile=request.param, compress="deflate", predictor=2,
        )  # fmt: skip
        new = kept.with_suffix(f".{os.getpid()}")
        new.write_bytes(made)
        new.replace(kept)
    return kept.read_bytes()


def sent(origin: Nginx, name: str) -> tuple[int, int]:
    found = re.findall(rf'^\d+ (\d+) "/files/{re.escape(name)}', origin.log.read_text(), re.MULTILINE)
    return len(found), sum(map(int, found))


def item(url: str, size: int) -> bytes:
    assets = {"nir": {"href": url, "type": "image/tiff", "file:size": size}}
    return json.dumps(feature("a", properties={"datetime": "2024-06-01T00:00:00Z"}, assets=assets)).encode()


def test_few_bytes_and_the_pixels_that_gdal_clips(tmp_path: Path, origin: Nginx, band: bytes) -> None:
    ours, theirs = origin.put("ours.tif", band), origin.put("theirs.tif", band)
    requests_before, bytes_before = sent(origin, ours)
    source = f"{origin.url}/files/{origin.put('item.json', item(f'{origin.url}/files/{ours}', len(band)))}"
    started = time.monotonic()
    report = sync.mirror(
        source, tmp_path / "m", selection=Selection(clip=AREA.bounds), options=Options(metadata="none")
    )
    seconds = time.monotonic() - started
    assert (report.assets_clipped, report.exit_code) == (1, 0)
    requests, fetched = (
        now - then for now, then in zip(sent(origin, ours), (requests_before, bytes_before), strict=True)
    )
    part = clipped(band, AREA)
    assert part is not None
    assert fetched <= 1.2 * part.tile_bytes + HEADER
    from rio_cogeo.cogeo import cog_validate  # noqa: PLC0415 - only for this

    found = tmp_path / "m/c/a/nir.tif"
    valid, errors, _ = cog_validate(found, quiet=True)
    assert valid, errors

    before = sent(origin, theirs)
    clip = tmp_path / "rio.tif"
    bounds = " ".join(map(str, AREA.bounds))
    rio = [
        Path(sys.executable).with_name("rio"), "clip",
        f"/vsicurl/{origin.url}/files/{theirs}", str(clip), "--bounds", bounds, "--geographic",
    ]  # fmt: skip
    environment = {**os.environ, "no_proxy": "127.0.0.1", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    started = time.monotonic()
    subprocess.run(rio, env=environment, check=True, capture_output=True)
    took = time.monotonic() - started
    rio_requests, rio_bytes = (now - then for now, then in zip(sent(origin, theirs), before, strict=True))
    sys.stdout.write(
        f"\n{SIDE} x {SIDE}, {len(band):,} bytes; tiles in the area {part.tile_bytes:,}"
        f"\nstacpull {requests} requests, {fetched:,} bytes, {seconds:.2f} s"
        f"\nrio clip {rio_requests} requests, {rio_bytes:,} bytes, {took:.2f} s\n"
    )
    with rasterio.open(found) as one, rasterio.open(clip) as other:
        left = round((other.transform.c - one.transform.c) / 10)
        top = round((one.transform.f - other.transform.f) / 10)
        same = one.read(1, window=Window(left, top, other.width, other.height))
        assert same.shape == (other.height, other.width)
        assert np.array_equal(same, other.read(1))
