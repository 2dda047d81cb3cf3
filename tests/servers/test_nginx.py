"""Files of a real web server (nginx), mirrored: names, redirects, slowness, and requests to slow down."""

import io
import random
from pathlib import Path
from urllib.parse import quote

import numpy as np
import orjson
import pytest
import tifffile
from attrs import evolve
from tests.net.conformance_objects import FILE_KEYS
from tests.raster.tiff.made import moved_to_the_end
from tests.servers.mirroring import OPTIONS, mirrored
from tests.servers.nginx import SLOW_RATE, Nginx
from tests.servers.process import wait_for
from tests.servers.stac_api import StacApi

from stacpull import sync


def test_files_with_any_name_are_fetched_directly_and_by_redirect(web: Nginx, stac: StacApi, tmp_path: Path):
    bodies = {f"k{number}": f"{name}|".encode() * 500 for number, name in enumerate(FILE_KEYS)}
    for name, body in zip(FILE_KEYS, bodies.values(), strict=True):
        web.put(f"odd/{name}", body)
    for place in ("files", "moved"):
        hrefs = [f"{web.url}/{place}/odd/{quote(name)}" for name in FILE_KEYS]
        stac.put(place, dict(zip(bodies, hrefs, strict=True)))
    result = mirrored(stac.api, tmp_path / "mirror")
    assert result.failed == {}
    assert result.files == {f"{p}/{k}": body for p in ("files", "moved") for k, body in bodies.items()}


def test_hrefs_that_are_not_encoded_are_sent_encoded(web: Nginx, stac: StacApi, tmp_path: Path) -> None:
    body = b"spaces and accents as they stand"
    web.put("raw/día one.tif", body)
    stac.put("item", {"raw": f"{web.url}/files/raw/día one.tif"})
    assert mirrored(stac.api, tmp_path / "mirror").files == {"item/raw": body}


def test_a_slow_server_is_not_stalled(web: Nginx, stac: StacApi, tmp_path: Path) -> None:
    """The whole takes longer than the stall timeout, but no silence does."""
    body = random.Random(2).randbytes(SLOW_RATE * 4)
    stac.put("item", {"data": f"{web.url}/slow/{web.put('slow.bin', body)}"})
    result = mirrored(stac.api, tmp_path / "mirror", evolve(OPTIONS, stall_timeout=3.0))
    assert result.files == {"item/data": body}
    assert result.report.retries == 0
    assert result.report.seconds > 3.0


@pytest.mark.slow
@pytest.mark.parametrize(("place", "status"), [("few", 429), ("busy", 503)])
def test_a_request_limit_is_obeyed_and_no_asset_fails(web, stac, tmp_path, place, status):
    bodies = {f"i{number:02}/data": random.Random(number).randbytes(500) for number in range(20)}
    for name, body in bodies.items():
        web.put(f"limited/{name}", body)
        stac.put(name[:3], {"data": f"{web.url}/{place}/limited/{name}"})
    result = mirrored(stac.api, tmp_path / "mirror")
    assert result.failed == {}
    assert result.files == bodies
    wait_for(lambda: web.answers(f"/{place}/limited/").count(200) == len(bodies), "its log is written")
    assert 0 < web.answers(f"/{place}/limited/").count(status) == result.report.retries


def test_headers_are_read_by_ranges(web: Nginx, stac: StacApi, tmp_path: Path) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((1500, 1500), np.uint8))
    body = moved_to_the_end(file.getvalue())  # as if its size had not been known in advance
    for name in ("a", "b"):
        stac.put(name, {"data": f"{web.url}/moved/{web.put(f'{name}.tif', body)}"})
    out = tmp_path / "headers.ndjson"
    report = sync.headers(stac.api, out, options=OPTIONS)
    assert (report.headers_done, report.exit_code) == (2, 0)
    rows = [orjson.loads(line) for line in out.read_text().splitlines()]
    assert [(row["width"], row["size"], row["reads"]) for row in rows] == [(1500, len(body), 2)] * 2
    assert web.answers("/files/a.tif") == [206, 206]
    assert report.bytes_fetched < 100_000
