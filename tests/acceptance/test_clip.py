"""`--clip`: only the tiles in an area come over the network, and what the ledger promises holds for them."""

import asyncio
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.crs import CRS
from tests.acceptance.command import Running, environment, run, wait_until
from tests.acceptance.raster_host import RasterHost
from tests.events import warnings
from tests.raster.tiff.clipping import clipped, degrees, raster

import stacpull
from stacpull import FailureKind, MirrorReport, Options, S3Options, Selection, sync
from stacpull.catalog.item import PROJECTION_EXTENSION
from stacpull.errors import DestinationError
from stacpull.store.partial_downloads import PartialDownload
from stacpull_replicas import MemoryStore, S3Access, S3Replica, run_in_thread

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
UTM = CRS.from_epsg(32632)
AREA = degrees(UTM, (603_000, 5_093_500, 607_000, 5_097_500))
BESIDE = degrees(UTM, (604_280, 5_093_500, 608_280, 5_097_500))
"""It needs as many tiles as `AREA`, and shares most of them."""
OTHER = degrees(UTM, (601_000, 5_091_500, 602_400, 5_092_900))
BOX = AREA.bounds
OUTSIDE = (0.0, 0.0, 1.0, 1.0)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(300)


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return raster(tmp_path_factory.mktemp("cog"), compress="deflate")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One of which a part has more than stays in memory."""
    path = tmp_path_factory.mktemp("large")
    return raster(path, size=(1200, 1000), cog=False, dtype="float64", count=2)


@pytest.fixture
def host(cog: bytes) -> Iterator[RasterHost]:
    with RasterHost() as one:
        one.files["/scene.tif"] = cog
        one.files["/thumb.png"] = PNG
        one.stated = {
            "data": {
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "file:size": len(cog),
                "file:checksum": "1220" + hashlib.sha256(cog).hexdigest(),
                "proj:shape": [1000, 1200],
                "proj:geometry": {"type": "Point", "coordinates": [600_000, 5_100_000]},
            },
            "thumbnail": {"type": "image/png"},
        }
        yield one


def listed(host: RasterHost, **assets: str) -> str:
    host.files["/items.json"] = host.items({"a": assets or {"data": "/scene.tif"}})
    return host.url("/items.json")


def mirrored(
    source: str, dest: Path, clip: Any, received: list[Any] | None = None, **options: Any
) -> MirrorReport:
    events = received.append if received is not None else None
    return sync.mirror(
        source, dest, selection=Selection(clip=clip), options=Options(**options), on_event=events
    )


def asset(dest: Path, key: str = "data") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((dest / "scenes/a/a.json").read_text())["assets"][key]
    return found


def bytes_of(dest: Path) -> bytes:
    return (dest / "scenes/a/data.tif").read_bytes()


def same_tiles(found: bytes, data: bytes, area: Any = AREA) -> bool:
    """Tell if a file is what is in an area of a raster, but for the area's digest, which is of its text."""
    part = clipped(data, area)
    assert part is not None
    return len(found) == len(part.data) and found[200:] == part.data[200:]


def is_sound(dest: Path) -> bool:
    return sync.verify(dest).exit_code == 0


def test_only_the_tiles_of_the_area_are_fetched(tmp_path: Path, host: RasterHost, cog: bytes) -> None:
    source = listed(host)
    report = mirrored(source, tmp_path, BOX)
    assert (report.exit_code, report.assets_done, report.assets_clipped) == (0, 1, 1)
    assert same_tiles(bytes_of(tmp_path), cog)
    part = clipped(cog, AREA)
    assert part is not None
    assert host.sent < 1.2 * part.tile_bytes + 16 * 1024 + len(host.files["/items.json"])
    assert report.bytes_done == part.plan.size
    assert is_sound(tmp_path)


@pytest.mark.parametrize("epsg", [{}, {"proj:epsg": 32632}])
def test_the_item_describes_the_clipped_file_and_not_the_whole(tmp_path, host, cog, epsg):
    host.stated["data"] |= epsg
    mirrored(listed(host), tmp_path, BOX)
    stated, data = asset(tmp_path), bytes_of(tmp_path)
    assert "proj:geometry" not in stated
    assert stated.items() >= (epsg or {"proj:code": "EPSG:32632"}).items()
    assert ("proj:code" in stated) == (not epsg)
    extensions = json.loads((tmp_path / "scenes/a/a.json").read_text())["stac_extensions"]
    assert (PROJECTION_EXTENSION in extensions) == (not epsg)
    with rasterio.open(tmp_path / "scenes/a/data.tif") as file:
        assert stated["proj:shape"] == [file.height, file.width] != [1000, 1200]
        assert stated["proj:transform"] == list(file.transform)[:6]
        assert stated["proj:bbox"] == pytest.approx(list(file.bounds))
    assert stated["file:size"] == len(data)
    assert stated["file:checksum"] == "1220" + hashlib.sha256(data).hexdigest()
    origin = stated["alternate"]["origin"]
    assert (origin["href"], origin["file:size"]) == (host.url("/scene.tif"), len(cog))


@pytest.mark.parametrize("checksum", ["crc64nvme", "none"])
def test_an_upstream_checksum_is_never_stated_of_a_part(tmp_path, host, checksum):
    mirrored(listed(host), tmp_path, BOX, checksum=checksum)
    assert "file:checksum" not in asset(tmp_path)
    assert asset(tmp_path)["file:size"] == len(bytes_of(tmp_path))
    assert is_sound(tmp_path)


def test_a_part_that_could_not_be_finished_is_not_ended_again(tmp_path, host, large, monkeypatch):
    host.files["/scene.tif"] = large
    parked: list[PartialDownload] = []

    async def finish(part: PartialDownload, *_: object, **__: object) -> str:
        await part.remove()
        raise DestinationError("The disk is full.")

    async def park(part: PartialDownload) -> None:
        parked.append(part)

    monkeypatch.setattr(PartialDownload, "finish", finish)
    monkeypatch.setattr(PartialDownload, "keep", park)
    host.stated = {}
    with pytest.raises(DestinationError, match="The disk is full"):
        mirrored(listed(host), tmp_path / "m", BOX)
    assert parked == []


def test_rasters_on_this_disk(tmp_path: Path, host: RasterHost, cog: bytes) -> None:
    (tmp_path / "items.json").write_bytes(host.items({"a": {"data": "/scene.tif"}}, "."))
    (tmp_path / "scene.tif").write_bytes(cog)
    source = str(tmp_path / "items.json")
    report = mirrored(source, tmp_path / "m", BOX)
    assert report.assets_clipped == 1
    assert mirrored(source, tmp_path / "m", BOX, revalidate=True).assets_revalidated == 1
    assert same_tiles(bytes_of(tmp_path / "m"), cog)


def test_rasters_in_a_bucket(tmp_path: Path, host: RasterHost, cog: bytes) -> None:
    store = MemoryStore({"scenes": {"scene.tif": cog}})
    access = S3Access("key", "secret", anonymous=True)
    with run_in_thread(S3Replica(store=store, access=access)) as replica:
        (tmp_path / "items.json").write_bytes(host.items({"a": {"data": "/scene.tif"}}, "s3://scenes"))
        s3 = S3Options(endpoint_url=replica.s3_url, no_sign_request=True)
        source, dest = str(tmp_path / "items.json"), tmp_path / "m"
        report = mirrored(source, dest, BOX, s3=s3, allow_private_hosts=True)
        again = mirrored(source, dest, BOX, s3=s3, allow_private_hosts=True, revalidate=True)
    assert (again.assets_revalidated, again.assets_clipped) == (1, 1)
    assert report.assets_clipped == 1
    assert same_tiles(bytes_of(tmp_path / "m"), cog)
    assert report.bytes_fetched < len(cog) * 0.8


def test_files_that_are_not_rasters_are_fetched_whole_and_warned_of_once(tmp_path, host):
    images = {f"image{number}": "/thumb.png" for number in range(8)}
    received = list[Any]()
    report = mirrored(listed(host, data="/scene.tif", **images), tmp_path, BOX, received)
    assert (report.assets_done, report.assets_clipped, report.exit_code) == (9, 1, 0)
    assert {path.read_bytes() for path in tmp_path.glob("scenes/a/image*")} == {PNG}
    whole, zeros = sorted(warnings(received))
    assert whole.startswith("Some assets cannot be clipped and are fetched whole. The first is scenes/a/i")
    assert whole.endswith(": it is not a TIFF.")
    assert zeros.startswith("Some assets have no nodata value. The first is scenes/a/data: outside the area")


def strips(path: Path) -> bytes:
    return raster(path, cog=False, tiled=False)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("strips", "it has strips, not tiles"),
        ("no ranges", "its server does not serve ranges"),
        ("no validators", "its server names neither an ETag nor a date for it"),
        ("damaged", "the directory at byte"),
    ],
)
def test_a_raster_that_cannot_be_clipped_is_fetched_whole(tmp_path, host, cog, what, why):
    received, data = list[Any](), cog
    host.stated = {}
    if what == "strips":
        data = host.files["/scene.tif"] = strips(tmp_path)
    if what == "damaged":
        data = host.files["/scene.tif"] = cog[:4] + b"\xff\xff\xff\x7f" + cog[8:]
    host.ranges, host.etags = what != "no ranges", what != "no validators"
    report = mirrored(listed(host), tmp_path / "m", BOX, received)
    assert (report.assets_done, report.assets_clipped) == (1, 0)
    assert bytes_of(tmp_path / "m") == data
    (warning,) = warnings(received)
    assert why in warning
    assert is_sound(tmp_path / "m")


def test_a_raster_outside_the_area_is_reported_and_is_no_failure(tmp_path: Path, host: RasterHost) -> None:
    host.files["/strips.tif"] = strips(tmp_path)  # cannot be clipped, but is not needed either
    away = mirrored(listed(host, data="/strips.tif"), tmp_path / "strips", OUTSIDE)
    assert (away.assets_done, away.assets_outside, away.exit_code) == (0, 1, 0)
    verified = run(["verify", str(tmp_path / "strips")], environment()).out.splitlines()
    assert (verified[0][-24:], len(verified)) == ("strips: OK, 3 files verified"[-24:], 2)
    source = listed(host)
    report = mirrored(source, tmp_path, OUTSIDE, max_failures=0)
    assert (report.assets_failed, report.assets_outside, report.exit_code) == (1, 1, 0)
    assert [one.kind for one in stacpull.failures(tmp_path)] == [FailureKind.OUTSIDE]
    assert host.sent < 40_000
    assert not (tmp_path / "scenes/a/data.tif").exists()
    assert asset(tmp_path)["href"] == host.url("/scene.tif")
    assert stacpull.status(tmp_path).assets_outside == 1
    host.raster_requests()
    assert mirrored(source, tmp_path, OUTSIDE).assets_outside == 1
    assert host.raster_requests() == [("/items.json", None)]  # known: not requested again
    assert mirrored(source, tmp_path, BOX).assets_clipped == 1
    assert is_sound(tmp_path)


@pytest.mark.parametrize("first", [BOX, None], ids=["clipped", "whole"])
def test_a_file_outside_of_a_later_area_stays_as_it_is(tmp_path, host, first):
    host.stated["data"]["proj:code"] = None
    source = listed(host)
    mirrored(source, tmp_path, first)
    before, host.version = (asset(tmp_path), bytes_of(tmp_path)), 2
    report = mirrored(source, tmp_path, OUTSIDE, revalidate=True)
    assert (report.exit_code, report.assets_outside, report.assets_kept) == (0, 1, 1)
    assert (asset(tmp_path), bytes_of(tmp_path)) == before
    assert is_sound(tmp_path)


@pytest.mark.parametrize("first", [BOX, None], ids=["clipped", "whole"])
def test_a_raster_that_was_mirrored_is_neither_requested_nor_clipped_again(tmp_path, host, cog, first):
    source = listed(host)
    mirrored(source, tmp_path, first)
    before = bytes_of(tmp_path)
    host.raster_requests()
    report = mirrored(source, tmp_path, BOX)
    assert (report.assets_done, report.assets_skipped) == (1, 1)
    assert report.assets_clipped == (1 if first else 0)
    assert host.raster_requests() == [("/items.json", None)]
    assert bytes_of(tmp_path) == before
    assert (before == cog) == (first is None)


def test_another_area_or_no_area_fetches_the_raster_again(tmp_path, host, cog):
    source, received = listed(host), list[Any]()
    for _ in range(2):
        mirrored(source, tmp_path, BOX, received)
    assert "another --clip" not in str(received)
    report = mirrored(source, tmp_path, OTHER.bounds, received)
    assert "Files with another --clip: 1. If you select them, they are fetched again." in str(received)
    assert (report.assets_clipped, report.assets_changed) == (1, 1)
    assert same_tiles(bytes_of(tmp_path), cog, OTHER)
    assert is_sound(tmp_path)
    report = mirrored(source, tmp_path, None, received)
    assert str(received).count("Files with another --clip: 1") == 2
    assert (report.assets_clipped, report.assets_changed) == (0, 1)
    assert bytes_of(tmp_path) == cog
    assert "proj:transform" not in asset(tmp_path)
    assert asset(tmp_path)["proj:shape"] == [1000, 1200]
    assert is_sound(tmp_path)


def test_a_refresh_sends_a_conditional_request_and_fetches_changes(tmp_path, host, cog):
    source = listed(host)
    mirrored(source, tmp_path, BOX)
    host.raster_requests()
    report = mirrored(source, tmp_path, BOX, revalidate=True)
    assert (report.assets_revalidated, report.assets_clipped) == (1, 1)
    assert len(host.raster_requests()) == 2
    changed = cog + b"\0"
    host.files["/scene.tif"], host.version = changed, 2
    host.stated["data"] |= {
        "file:size": len(changed),
        "file:checksum": "1220" + hashlib.sha256(changed).hexdigest(),
    }
    report = mirrored(listed(host), tmp_path, BOX)
    assert (report.assets_clipped, report.exit_code) == (1, 0)
    assert len(host.raster_requests()) > 2
    assert same_tiles(bytes_of(tmp_path), changed)
    assert is_sound(tmp_path)


def test_another_size_than_the_item_states_is_a_failure(tmp_path: Path, host: RasterHost) -> None:
    host.stated["data"]["file:size"] += 1
    report = mirrored(listed(host), tmp_path, BOX, retries=0)
    assert (report.assets_failed, report.exit_code) == (1, 1)
    assert [one.kind for one in stacpull.failures(tmp_path)] == [FailureKind.CHECKSUM]


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("fault", ["change_after", "broken_after"])
def test_a_file_that_changes_or_breaks_off_between_two_ranges_is_fetched_again(
    tmp_path: Path, host: RasterHost, cog: bytes, large: bytes, size: str, fault: str
) -> None:
    data = cog if size == "small" else large
    host.files["/scene.tif"], host.stated = data, {}
    source = listed(host)
    setattr(host, fault, 4)  # the items, the header, two ranges
    report = mirrored(source, tmp_path, BOX)
    headers_read = sum(one == ("/scene.tif", "bytes=0-16383") for one in host.raster_requests())
    assert report.assets_clipped == 1
    assert headers_read == 2 if fault == "change_after" else report.retries == 1
    assert same_tiles(bytes_of(tmp_path), data)
    assert not list((tmp_path / ".stacpull/parts").iterdir())


def broken_off(tmp_path: Path, host: RasterHost, large: bytes) -> tuple[Path, set[str]]:
    """Mirror a raster whose ranges break off one after the other; return DEST and the ranges that came in."""
    host.files["/scene.tif"], host.stated = large, {}
    host.broken_after = 4
    dest = tmp_path / "m"
    assert mirrored(listed(host), dest, BOX, retries=0, per_host=1).assets_failed == 1
    requests = [str(found) for _, found in host.raster_requests()]
    assert list((dest / ".stacpull/parts").glob("*.part"))
    return dest, set(requests[3:-1])  # behind the items and two reads of the header


@pytest.mark.parametrize("mending", ["mirror", "retry"])
def test_ranges_already_received_are_not_fetched_again(tmp_path, host, large, mending):
    dest, there = broken_off(tmp_path, host, large)
    assert there
    report = sync.retry(dest) if mending == "retry" else mirrored(host.url("/items.json"), dest, BOX)
    assert report.assets_clipped == 1
    again = {str(found) for _, found in host.raster_requests()}
    assert len(again) > 1
    assert not again & there
    assert same_tiles((dest / "scenes/a/data.tif").read_bytes(), large)
    assert is_sound(dest)
    assert not list((dest / ".stacpull/parts").iterdir())


def flipped(raster: bytes) -> bytes:
    """Return the raster with other pixels behind the same header, which is at both ends of the file."""
    return raster[:8] + raster[8:-4096].translate(bytes(byte ^ 1 for byte in range(256))) + raster[-4096:]


@pytest.mark.parametrize("change", ["version", "area", "area of the same size", "whole", "no ETag"])
def test_ranges_of_another_file_are_not_continued(tmp_path, host, large, change):
    dest, there = broken_off(tmp_path, host, large)
    if change == "version":
        host.version += 1
        host.files["/scene.tif"] = flipped(large)
    data = host.files["/scene.tif"]
    host.etags = change != "no ETag"
    area = {"area": OTHER, "area of the same size": BESIDE, "whole": None}.get(change, AREA)
    clip = area and area.bounds
    report = mirrored(host.url("/items.json"), dest, clip)
    requests = {str(found) for _, found in host.raster_requests()}
    found = (dest / "scenes/a/data.tif").read_bytes()
    if change in ("whole", "no ETag"):
        assert (found == data, "None" in requests) == (True, True)
    else:
        assert same_tiles(found, data, area)
        assert report.assets_clipped == 1
        assert there <= requests or change != "version"
    assert is_sound(dest)


def test_ranges_of_the_planned_url_are_not_combined_with_those_of_an_alternate(tmp_path, host, large):
    """Its server gives another file with the same header the same ETag."""
    host.files |= {"/scene.tif": large, "/other.tif": flipped(large)}
    host.stated = {"data": {"alternate": {"mirror": {"href": host.url("/other.tif")}}}}
    host.broken_after = 4
    run = stacpull.mirror(
        listed(host),
        tmp_path / "m",
        selection=Selection(clip=BOX, prefer=("http",)),
        options=Options(retries=0, per_host=1),
    )
    assert asyncio.run(run).assets_clipped == 1
    assert "/other.tif" in {path for path, _ in host.raster_requests()}
    assert same_tiles(bytes_of(tmp_path / "m"), host.files["/other.tif"])


def test_a_kill_leaves_nothing_half_written_and_resume_uses_the_area(tmp_path, host, large):
    names = {f"i{number}": {"data": f"/{number}.tif"} for number in range(16)}
    host.files |= {f"/{number}.tif": large for number in range(16)}
    host.stated = {}
    host.files["/items.json"] = host.items(names)
    host.delay = 0.03
    dest, box = tmp_path / "m", ",".join(map(str, BOX))
    arguments = ["mirror", host.url("/items.json"), str(dest), "--clip", box, "--per-host", "2"]
    for _ in range(3):
        sent = len(host.requests)
        with Running(arguments, environment()) as process:
            wait_until(lambda: len(host.requests) > sent + 12 or not process.is_alive())  # noqa: B023
            process.signal(signal.SIGKILL)
            assert process.process.wait() == -signal.SIGKILL, "it ended before the kill"
        arguments = ["resume", str(dest), "--per-host", "2"]
        for path in dest.glob("scenes/*/data.tif"):
            assert same_tiles(path.read_bytes(), large)
    ran = run(["resume", str(dest), "--json"], environment())
    assert ran.code == 0, ran.err
    assert ran.report["assets_clipped"] == ran.report["assets_done"] == 16
    assert all(same_tiles(path.read_bytes(), large) for path in dest.glob("scenes/*/data.tif"))
    assert run(["verify", str(dest)], environment()).code == 0
    assert sync.resume(dest).nothing_to_resume


@pytest.mark.parametrize("suffix", [".tif", ".cog"])
def test_repair_fetches_the_same_part_again(
    tmp_path: Path, host: RasterHost, cog: bytes, suffix: str
) -> None:
    host.files[f"/scene{suffix}"] = cog
    mirrored(listed(host, data=f"/scene{suffix}", thumbnail="/thumb.png"), tmp_path, BOX)
    file = tmp_path / f"scenes/a/data{suffix}"
    before = file.read_bytes()
    file.write_bytes(b"damaged")
    (tmp_path / "scenes/a/thumbnail.png").unlink()
    report = sync.verify(tmp_path, repair=True)
    assert (report.damaged, report.exit_code) == (2, 0)
    assert file.read_bytes() == before
    assert is_sound(tmp_path)


def test_plan_estimates_what_mirror_fetches(tmp_path: Path, host: RasterHost) -> None:
    source = listed(host, data="/scene.tif", thumbnail="/thumb.png")
    plan = sync.plan(source, selection=Selection(clip=BOX))
    report = mirrored(source, tmp_path, BOX)
    assert plan.bytes_basis == "sampled"
    assert plan.bytes_total == report.bytes_done
    outside = Selection(clip=OUTSIDE, assets="data")
    nothing = sync.plan(source, selection=outside, on_event=(seen := []).append)
    assert (nothing.bytes_total, "longitude first" in str(seen)) == (0, True)


def test_the_command_prints_what_it_did(tmp_path: Path, host: RasterHost) -> None:
    source = listed(host, data="/scene.tif", thumbnail="/thumb.png")
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": AREA.__geo_interface__}))
    ran = run(["mirror", source, str(tmp_path / "m"), "--clip", f"@{area}", "--no-progress"], environment())
    assert ran.code == 0, ran.err
    assert "clipped  1 file to the area of --clip" in ran.out + ran.err
    outside = ["--clip", "0,0,1,1"]
    swapped = "is in the area of --clip. Check its order (longitude first)."
    ran = run(["plan", source, *outside, "--no-progress"], environment())
    assert "outside  1 of 2 measured assets: not in the area of --clip" in ran.out
    assert swapped in ran.err
    ran = run(["mirror", source, str(tmp_path / "o"), *outside, "--no-progress"], environment())
    assert ran.code == 0, ran.err
    assert "1 with nothing in the area of --clip" in ran.out + ran.err
    assert swapped in ran.err
    ran = run(["status", str(tmp_path / "o")], environment())
    assert "1 with nothing in the area of --clip" in ran.out
    assert "failed" not in ran.out.replace("stacpull failures", "")


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        ("1,2,3", "must be four numbers W,S,E,N"),
        ("1,2,1,2", "--clip has no area"),
        ("200,2,201,3", "--clip has 200, which is not a longitude: use degr"),
        ('{"type": "Point", "coordinates": [1, 2]}', "--clip has no area"),
        ('{"type": "Polygon"}', "--clip: geometry 1 (Polygon) is empty or cannot be read"),
        ("nowhere.geojson", "cannot read nowhere.geojson"),
    ],
)
def test_an_invalid_area_is_refused_before_dest_is_created(tmp_path: Path, clip: str, sentence: str) -> None:
    ran = run(["mirror", "http://127.0.0.1:9/", str(tmp_path / "m"), "--clip", clip], environment(), tmp_path)
    assert ran.code == 2
    assert sentence in ran.err
    assert not (tmp_path / "m").exists()


def test_without_pyproj_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stacpull_raster.clip.find_spec", lambda _name: None)
    with pytest.raises(stacpull.UsageError, match=r"extra clip"):
        mirrored("http://127.0.0.1:9/", tmp_path / "m", BOX)
