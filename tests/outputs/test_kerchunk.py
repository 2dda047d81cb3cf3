"""References made of a mirror and of a table of headers, opened with xarray and compared with rasterio."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import rasterio
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.windows import Window
from tests.acceptance.command import COMMAND, environment, run
from tests.acceptance.raster_host import RasterHost, raster_host
from tests.outputs.conftest import item
from tests.tiff.made import Value, ascii_field, shorts, tiff
from tests.tiff.made import image as made_image
from tests.tiff.reads import read as read_header
from tests.tiff.test_fuzzing import MADE, TILED, damages

import stacpull
from stacpull import AssetFailed, Selection
from stacpull.outputs import tiff_as_zarr
from stacpull.outputs.tiff_as_zarr import NotReferencedError, TiffLayout, zarr_array
from stacpull.tiff import TiffError

if TYPE_CHECKING:  # to import it takes a second, in each process that collects tests
    import xarray

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning", "ignore::rasterio.errors.NotGeoreferencedWarning"
)

TILES = {"tiled": True, "blockxsize": 32, "blockysize": 16}
LARGE_TILES = {"tiled": True, "blockxsize": 512, "blockysize": 512}
PLACE = rasterio.Affine(10, 0, 600_000, 0, -20, 5_100_000)


def raster(
    path: Path, *, bands: int = 1, dtype: str = "uint16", size: tuple[int, int] = (70, 50), **profile: Any
) -> bytes:
    """Write a raster whose size is no multiple of its tiles, with values that predictors make small."""
    height, width = size
    steps = np.random.default_rng(1).integers(0, 3, (bands, height, width))
    given = {
        "driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": dtype,
        "crs": CRS.from_epsg(32632), "transform": PLACE,
    }  # fmt: skip
    with rasterio.open(path, "w", **{**given, **profile}) as file:
        file.write((1 + np.cumsum(steps, axis=2)).astype(dtype))
    return path.read_bytes()


@pytest.fixture(autouse=True, scope="module")
def codecs() -> None:
    """Let zarr read what imagecodecs decompresses."""
    from imagecodecs.numcodecs import register_codecs  # noqa: PLC0415 - see above

    register_codecs(verbose=False)


@pytest.fixture
def mirror(mirrored: Any, tmp_path: Path) -> Callable[..., Path]:
    """Mirror one item `i` of collection `c` with files that are written with these profiles."""

    def make(**profiles: dict[str, Any]) -> Path:
        files, assets = {}, {}
        for key, profile in profiles.items():
            given = {**profile}
            files[f"{key}.tif"] = given.pop("content", None) or raster(tmp_path / "made.tif", **given)
            assets[key] = {"href": f"./{key}.tif", "type": "image/tiff"}
        return Path(mirrored([item("i", assets=assets)], files))

    return make


def export(source: Path, out: Path, **settings: Any) -> stacpull.ExportReport:
    return asyncio.run(stacpull.export(source, out, "kerchunk", **settings))


def opened(references: Path, group: str) -> xarray.Dataset:
    import xarray  # noqa: PLC0415 - see above

    return xarray.open_dataset(
        f"reference://{group}",
        engine="zarr",
        consolidated=False,
        zarr_format=2,
        storage_options={"fo": str(references), "remote_options": {"asynchronous": True}},
        mask_and_scale=False,
    )


def pixels(references: Path, group: str) -> Any:
    """Return the pixels as rasterio orders them: band, y, x."""
    with opened(references, group) as dataset:
        array = dataset[group.rpartition("/")[2]]
        return (
            (array if "band" in array.dims else array.expand_dims("band")).transpose("band", "y", "x").values
        )


def check(dest: Path, references: Path, key: str) -> None:
    with rasterio.open(dest / f"c/i/{key}.tif") as file:
        expected = file.read()
    found = pixels(references, f"c/i/{key}")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


KINDS: dict[str, dict[str, Any]] = {
    "none": {}, "deflate": {"compress": "DEFLATE"}, "lzw": {"compress": "LZW"}, "zstd": {"compress": "ZSTD"},
    "lzma": {"compress": "LZMA"}, "packbits": {"compress": "PACKBITS"},
}  # fmt: skip


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_are_read_as_rasterio_reads_them(
    mirror: Callable[..., Path], tmp_path: Path, kind: str, order: str
) -> None:
    profiles: dict[str, dict[str, Any]] = {}
    for dtype in ("uint8", "int16", "float32", "float64", "complex64"):
        for predictor in (1, 2, 3):
            is_float = dtype.startswith("float")
            if predictor > 1 and (kind not in {"deflate", "lzw", "zstd"} or dtype == "complex64"):
                continue
            if predictor == 3 and not is_float:
                continue
            more = {"predictor": predictor} if predictor > 1 else {}
            base = {"dtype": dtype, "endianness": order, **KINDS[kind], **more, **TILES}
            profiles[f"{dtype}-{predictor}"] = base
            profiles[f"{dtype}-{predictor}-pixel"] = {**base, "bands": 3, "interleave": "PIXEL"}
            profiles[f"{dtype}-{predictor}-band"] = {**base, "bands": 3, "interleave": "BAND"}
    dest = mirror(**profiles)
    report = export(dest, tmp_path / "refs.json")
    assert (report.items, report.left_out, report.exit_code) == (len(profiles), 0, 0), report.notes
    for key in profiles:
        check(dest, tmp_path / "refs.json", key)


WHOLE: dict[str, dict[str, Any]] = {
    "short": {"blockysize": 16, "compress": "LZW", "predictor": 2},
    "short-big": {"blockysize": 16, "endianness": "BIG", "dtype": "float32"},
    "short-bands": {"blockysize": 16, "bands": 3, "interleave": "BAND", "compress": "DEFLATE"},
    "short-pixels": {"blockysize": 16, "bands": 3, "interleave": "PIXEL", "compress": "ZSTD"},
    "jpeg": {**TILES, "blockxsize": 16, "compress": "JPEG", "dtype": "uint8"},
    "lerc": {**TILES, "compress": "LERC", "dtype": "float32"},
    "webp": {
        **TILES, "compress": "WEBP", "WEBP_LOSSLESS": "YES", "dtype": "uint8", "bands": 3,
        "interleave": "PIXEL",
    },
    "webp-alpha": {
        "blockysize": 70, "compress": "WEBP", "WEBP_LOSSLESS": "YES", "dtype": "uint8", "bands": 4,
        "interleave": "PIXEL", "photometric": "RGB", "alpha": "YES",
    },
    "jpeg-rgb": {
        **TILES, "blockxsize": 16, "compress": "JPEG", "dtype": "uint8", "bands": 3, "interleave": "PIXEL",
        "photometric": "RGB",
    },
    "alpha": {
        "blockysize": 16, "dtype": "uint8", "bands": 4, "interleave": "BAND", "photometric": "RGB",
        "alpha": "YES",
    },
    "one-column": {"blockysize": 16, "size": (71, 1), "dtype": "int64"},
    "lerc-zstd": {"blockysize": 16, "compress": "LERC_ZSTD", "dtype": "float32", "bands": 2},
}  # fmt: skip
"""Rasters whose blocks cannot be chunks."""
ONE_BY_ONE: dict[str, dict[str, Any]] = {
    "strips": {"blockysize": 14},
    "strips-packed": {"blockysize": 7, "compress": "DEFLATE", "predictor": 2},
    "one-strip": {"blockysize": 70},
    "bigtiff": {**TILES, "BIGTIFF": "YES"},
    "one-large-tile": {"tiled": True, "blockxsize": 128, "blockysize": 128},
}


def references_in(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    assert document["version"] == 1
    found: dict[str, Any] = document["refs"]
    return found


def test_strips_and_bigtiff_are_read(mirror: Callable[..., Path], tmp_path: Path) -> None:
    dest = mirror(**ONE_BY_ONE)
    assert export(dest, tmp_path / "refs.json").notes == ()
    for key in ONE_BY_ONE:
        check(dest, tmp_path / "refs.json", key)
    found = references_in(tmp_path / "refs.json")
    assert len([name for name in found if re.fullmatch(r"c/i/strips/strips/\d\.0", name)]) == 5


def test_a_small_file_whose_blocks_cannot_be_chunks_is_one_chunk(
    mirror: Callable[..., Path], tmp_path: Path
) -> None:
    dest = mirror(**WHOLE)
    assert export(dest, tmp_path / "refs.json").notes == ()
    for key in WHOLE:
        check(dest, tmp_path / "refs.json", key)
    assert references_in(tmp_path / "refs.json")["c/i/jpeg/jpeg/0.0"] == [str(dest / "c/i/jpeg.tif")]


JPEG2000 = tiff(made_image(t259=shorts(34712))).ljust(4096)
LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "nibbles": ({"nbits": 4, "dtype": "uint8"}, "its samples have 4 bits"),
    "twelve": ({"nbits": 12}, "its samples have 12 bits"),
    "ycbcr": (
        {**TILES, "blockxsize": 16, "compress": "JPEG", "photometric": "YCBCR", "dtype": "uint8", "bands": 3},
        "its colours are ycbcr",
    ),
    "jpeg": (
        {**TILES, "blockxsize": 16, "compress": "JPEG", "dtype": "uint8", "bands": 4},
        "it is JPEG with several bands",
    ),
    "cielab": ({"photometric": "CIELAB", "dtype": "uint8", "bands": 3}, "its colours are cielab"),
    "jpeg2000": ({"content": JPEG2000}, "its compression has no codec (jpeg2000)"),
    "lerc": (
        {**LARGE_TILES, "compress": "LERC_ZSTD", "dtype": "float32", "size": (4200, 4200)},
        "its tiles have no codec (lerc), and it is larger than 64 MiB",
    ),
    "damaged": (
        {"content": b"II*\0\xff\xff\xff\x7f" + bytes(99)},
        "its header cannot be read: the directory at byte ",
    ),
}


def test_unsupported_rasters_are_left_out_and_reported(mirror: Callable[..., Path], tmp_path: Path) -> None:
    others = {"sound": {}, "text": {"content": b"no raster"}}
    dest = mirror(**others, **{key: profile for key, (profile, _) in LEFT_OUT.items()})
    received: list[Any] = []
    report = export(dest, tmp_path / "refs.json", on_event=received.append)
    failed = {event.key: event.message for event in received if isinstance(event, AssetFailed)}
    assert failed.keys() == LEFT_OUT.keys()
    for key, message in failed.items():
        assert message.startswith(f"The file is left out: {LEFT_OUT[key][1]}")
    assert (report.items, report.left_out, report.exit_code) == (1, 8, 1)
    assert "1 file was left out, c/i ycbcr for one: its colours are ycbcr." in report.notes
    assert report.notes[-1] == "Assets that are not TIFFs: 1."
    check(dest, tmp_path / "refs.json", "sound")
    assert {name.split("/")[2] for name in references_in(tmp_path / "refs.json") if name.count("/") > 2} == {
        "sound"
    }


def test_pages_overviews_and_masks_are_ignored(mirror: Callable[..., Path], tmp_path: Path) -> None:
    pages = np.arange(3 * 70 * 50, dtype=np.uint16).reshape(3, 70, 50)
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack", rowsperstrip=16, metadata=None)
    contents = {"pages": {"content": (tmp_path / "pages.tif").read_bytes()}}
    for name, blocks in (("tiles", TILES), ("strips", {"blockysize": 16})):
        raster(tmp_path / f"{name}.tif", compress="DEFLATE", **blocks)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(tmp_path / f"{name}.tif", "r+") as file,
        ):
            file.write_mask(file.read(1) > 20)
            file.build_overviews([2, 4])
        contents[name] = {"content": (tmp_path / f"{name}.tif").read_bytes()}
    dest = mirror(**contents)
    assert export(dest, tmp_path / "refs.json").notes == ()
    for name in ("tiles", "strips"):
        check(dest, tmp_path / "refs.json", name)
    np.testing.assert_array_equal(pixels(tmp_path / "refs.json", "c/i/pages"), pages[:1])


def test_a_deleted_file_is_left_out(mirror: Callable[..., Path], tmp_path: Path) -> None:
    dest = mirror(a={}, b={})
    (dest / "c/i/a.tif").unlink()
    report = export(dest, tmp_path / "refs.json")
    assert report.notes == (
        "1 file was left out, c/i a for one: it cannot be read: No such file or directory.",
    )
    check(dest, tmp_path / "refs.json", "b")


def test_predictors_are_those_that_readers_undo(mirror: Callable[..., Path], tmp_path: Path) -> None:
    values = np.cumsum(np.ones((64, 64)), axis=1).astype(np.uint16)
    options = {"tile": (16, 32), "predictor": True, "metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "lzma.tif", values, compression="lzma", **options)
    odd = tiff(made_image(t317=shorts(2))).ljust(4096)
    contents = {"lzma": {"content": (tmp_path / "lzma.tif").read_bytes()}, "none": {"content": odd}}
    dest = mirror(**contents)
    report = export(dest, tmp_path / "refs.json")
    assert report.notes == (
        "1 file was left out, c/i none for one: its predictor is 2, and its compression none.",
    )
    check(dest, tmp_path / "refs.json", "lzma")


def test_blocks_of_another_size_are_not_chunks(mirror: Callable[..., Path], tmp_path: Path) -> None:
    padded = tiff(made_image(t279=Value(4, [1250]))).ljust(4096)
    reversed_bits = tiff(made_image(t266=shorts(2))).ljust(4096, b"\x01")
    dest = mirror(padded={"content": padded}, reversed_bits={"content": reversed_bits})
    export(dest, tmp_path / "refs.json")
    for key in ("padded", "reversed_bits"):
        check(dest, tmp_path / "refs.json", key)


def test_a_path_that_references_cannot_have_is_refused(mirror: Callable[..., Path], tmp_path: Path) -> None:
    dest = mirror(a={})
    dest = dest.rename(tmp_path / os.fsdecode(b"\xff"))
    with pytest.raises(stacpull.UsageError, match="not UTF-8, which references cannot have"):
        export(dest, tmp_path / "refs.json")


@pytest.mark.parametrize(("nodata", "expected"), [(None, 0), (7, 7)])
def test_sparse_tiles_read_as_nodata(
    mirror: Callable[..., Path], tmp_path: Path, nodata: int | None, expected: int
) -> None:
    profile = {
        "driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "int16", "SPARSE_OK": "TRUE",
        "crs": CRS.from_epsg(32632), "transform": PLACE, "nodata": nodata, "compress": "DEFLATE",
    }  # fmt: skip
    for name, blocks in (("tiles", TILES), ("strips", {"blockysize": 60})):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile, **blocks) as file:
            file.write(np.full((1, 16, 32), 9, np.int16), window=Window(32, 16, 32, 16))
    contents = {name: {"content": (tmp_path / f"{name}.tif").read_bytes()} for name in ("tiles", "strips")}
    dest = mirror(**contents)
    report = export(dest, tmp_path / "refs.json")
    check(dest, tmp_path / "refs.json", "tiles")
    assert pixels(tmp_path / "refs.json", "c/i/tiles")[0, 0, 0] == expected
    names = [name for name in references_in(tmp_path / "refs.json") if name.startswith("c/i/tiles/tiles/")]
    assert names == [f"c/i/tiles/tiles/{name}" for name in (".zarray", ".zattrs", "1.1")]
    (note,) = report.notes
    assert note.startswith("1 file was left out, c/i strips for one: its last strip is shorter than the ")
    assert note.endswith(", and parts of it are missing (sparse).")


@pytest.mark.parametrize(
    ("dtype", "nodata", "fill_value"),
    [
        ("float32", float("nan"), "NaN"),
        ("float64", float("-inf"), "-Infinity"),
        ("float32", -9999, -9999.0),
        ("int16", -9999, -9999),
        ("uint8", 255, 255),
        ("uint8", None, None),
    ],
)
def test_nodata_is_the_fill_value(
    mirror: Callable[..., Path], tmp_path: Path, dtype: str, nodata: float | None, fill_value: Any
) -> None:
    dest = mirror(a={**TILES, "dtype": dtype, "nodata": nodata})
    export(dest, tmp_path / "refs.json")
    found = json.loads(references_in(tmp_path / "refs.json")["c/i/a/a/.zarray"])
    assert found["fill_value"] == fill_value
    check(dest, tmp_path / "refs.json", "a")


def test_a_nodata_value_outside_the_data_type_is_left_out() -> None:
    for nodata in ("-1", "256", "1e3", "0.5", "nan", "inf", "none", "", "1" * 5000):
        assert tiff_as_zarr._fill_value(nodata, "|u1") is None


def test_the_georeference_is_that_of_the_file(mirror: Callable[..., Path], tmp_path: Path) -> None:
    export(mirror(a={}), tmp_path / "refs.json")
    with opened(tmp_path / "refs.json", "c/i/a") as dataset:
        assert dataset["a"].attrs["grid_mapping"] == "spatial_ref"
        place = dataset.coords["spatial_ref"].attrs
    assert CRS.from_user_input(place["spatial_ref"]) == CRS.from_epsg(32632)
    assert rasterio.Affine.from_gdal(*map(float, place["GeoTransform"].split())) == PLACE


def test_an_item_opens_as_a_tree_of_its_assets(mirror: Callable[..., Path], tmp_path: Path) -> None:
    import xarray  # noqa: PLC0415 - see above

    export(mirror(fine=TILES, coarse={"size": (35, 25)}), tmp_path / "refs.json")
    tree = xarray.open_datatree(
        "reference://c/i",
        engine="zarr",
        consolidated=False,
        storage_options={"fo": str(tmp_path / "refs.json"), "remote_options": {"asynchronous": True}},
    )
    assert {name: tree[name][name].shape for name in tree.children} == {"fine": (70, 50), "coarse": (35, 25)}
    tree.close()


FUZZED = [
    *TILED,
    *MADE,
    tiff(made_image(t259=shorts(5), t317=shorts(2), t42113=ascii_field("-1"))),
    tiff(made_image(t277=shorts(3), t258=shorts(8, 8, 8), t284=shorts(2), t278=Value(4, [10]))),
]


@given(st.sampled_from(FUZZED).flatmap(damages))
def test_any_header_is_an_array_or_left_out(data: bytes) -> None:
    """What a header claims costs no more than its lists of tiles, and references stay within the file."""
    from zarr.core.metadata.v2 import ArrayV2Metadata  # noqa: PLC0415 - see above

    try:
        header = read_header(data, tiles=True).header
        array = zarr_array(TiffLayout(*(getattr(header, name) for name in TiffLayout._fields)), len(data))
    except (TiffError, NotReferencedError):
        return
    chunks = list(array.chunks)
    assert len(chunks) <= len(data)
    assert all(0 <= one.offset <= one.offset + one.size <= len(data) for one in chunks)
    blocks = [
        -(-side // block)
        for side, block in zip(array.metadata["shape"], array.metadata["chunks"], strict=True)
    ]
    for chunk in chunks:
        assert all(0 <= int(at) < end for at, end in zip(chunk.key.split("."), blocks, strict=True))
    ArrayV2Metadata.from_dict(json.loads(orjson.dumps(array.metadata)))


def test_odd_names_are_groups_of_their_own(mirrored: Any, tmp_path: Path) -> None:
    data = raster(tmp_path / "made.tif", **TILES)
    keys = ["{x}", "a/b", "..", ".zarray", "{{x}}", "ä b", "spatial_ref"]
    items = [
        item(name, assets={key: {"href": "./a.tif"} for key in keys}) for name in ("i/j", "i", ".zgroup")
    ]
    dest = Path(mirrored(items, {"a.tif": data}))
    report = export(dest, tmp_path / "refs.json")
    found = references_in(tmp_path / "refs.json")
    lines = (tmp_path / "refs.json").read_text().splitlines()
    assert len(found) == len([line for line in lines if line.startswith('"')]), "no key twice"
    arrays = [name.removesuffix("/.zarray") for name in found if name.endswith("/.zarray")]
    arrays = [name for name in arrays if not name.endswith("/spatial_ref") or name.count("/spatial_ref") == 2]
    assert (len(arrays), report.items, report.left_out) == (21 - 3, 21 - 3, 3), report.notes
    assert "its address has {{" in report.notes[0]
    for name in arrays:
        group = name.rpartition("/")[0]
        assert name.count("/") == 3
        with rasterio.open(tmp_path / "made.tif") as file:
            np.testing.assert_array_equal(pixels(tmp_path / "refs.json", group), file.read())


def test_only_the_collections_that_are_named_are_exported(
    mirror: Callable[..., Path], tmp_path: Path
) -> None:
    dest = mirror(a={})
    assert export(dest, tmp_path / "refs.json", collections="c").items == 1
    with pytest.raises(stacpull.UsageError, match="no collection d"):
        export(dest, tmp_path / "refs.json", collections="d")


@pytest.mark.parametrize(
    ("out", "settings", "message"),
    [
        ("refs.parquet", {}, r"refs\.parquet: use a name that ends with \.json"),
        ("refs.json", {"splits": {"train": ["i"]}}, "Splits and labels are for"),
        ("refs.json", {"shard_samples": 3}, "shard_bytes and shard_samples are for the format webdataset"),
    ],
)
def test_invalid_settings_are_refused(
    mirror: Callable[..., Path], tmp_path: Path, out: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(stacpull.UsageError, match=message):
        export(mirror(a={}), tmp_path / out, **settings)
    assert not (tmp_path / out).exists()


# From a table of headers.


@pytest.fixture
def host() -> Iterator[RasterHost]:
    with raster_host() as host:
        yield host


def headers(host: RasterHost, out: Path, tmp_path: Path, **options: Any) -> stacpull.HeadersReport:
    """Read the headers of all files of the host, as assets of one item."""
    keys = {path.strip("/").partition(".")[0]: path for path in host.files}
    (tmp_path / "items.json").write_bytes(host.items({"i": keys}))
    how = stacpull.Options(allow_private_hosts=True, retries=0)
    settings = {"selection": Selection(assets="*"), "options": how, "tiles": True, **options}
    return asyncio.run(stacpull.headers(str(tmp_path / "items.json"), out, **settings))


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_a_table_gives_references_to_the_source_without_another_request(
    host: RasterHost, tmp_path: Path, suffix: str
) -> None:
    kinds = {
        "tiles": {**TILES, "compress": "DEFLATE"},
        "bands": {**TILES, "bands": 3, "interleave": "BAND"},
        "short": {"blockysize": 16},
    }
    host.files = {f"/{key}.tif": raster(tmp_path / f"{key}.tif", **kinds[key]) for key in kinds}
    host.files["/broken.tif"] = b"no raster"
    table = tmp_path / f"table.{suffix}"
    assert headers(host, table, tmp_path).headers_failed == 1
    host.raster_requests()
    report = export(table, tmp_path / "refs.json")
    assert host.raster_requests() == []
    assert (report.items, report.left_out) == (3, 1)
    assert report.notes == ("1 file was left out, scenes/i broken for one: its header was not read.",)
    for key in kinds:
        with rasterio.open(tmp_path / f"{key}.tif") as file:
            np.testing.assert_array_equal(pixels(tmp_path / "refs.json", f"scenes/i/{key}"), file.read())
    host.raster_requests()
    with opened(tmp_path / "refs.json", "scenes/i/tiles") as dataset:
        assert dataset["tiles"][:16, :32].values.shape == (16, 32)
    ((path, requested),) = host.raster_requests()
    assert (path, (requested or "").startswith("bytes=")) == ("/tiles.tif", True)


def test_a_table_and_a_mirror_give_the_same_arrays(
    host: RasterHost, mirror: Callable[..., Path], tmp_path: Path
) -> None:
    kinds = {
        **ONE_BY_ONE,
        **WHOLE,
        "float": {**TILES, "dtype": "float32", "nodata": -1, "compress": "ZSTD", "predictor": 3},
    }
    host.files = {f"/{key}.tif": raster(tmp_path / "made.tif", **profile) for key, profile in kinds.items()}
    headers(host, tmp_path / "table.parquet", tmp_path)
    export(tmp_path / "table.parquet", tmp_path / "remote.json")
    export(mirror(**kinds), tmp_path / "local.json")
    remote, local = ((tmp_path / name).read_text() for name in ("remote.json", "local.json"))
    remote = remote.replace(host.url, str(tmp_path / "mirror/c/i")).replace('"scenes/', '"c/')
    assert json.loads(remote)["refs"] == json.loads(local)["refs"]


def test_items_that_were_not_read_are_left_out(host: RasterHost, tmp_path: Path) -> None:
    host.files = {"/a.tif": raster(tmp_path / "a.tif")}
    headers(host, tmp_path / "table.ndjson", tmp_path)
    row = json.loads((tmp_path / "table.ndjson").read_text())
    failed = {
        **dict.fromkeys(row),
        "collection": "scenes",
        "item": "j",
        "failure": "gone",
        "error": "It is gone.",
    }
    with (tmp_path / "table.ndjson").open("a") as file:
        file.write(json.dumps(failed) + "\n" + json.dumps({**row, "href": "http://h.test/{{x}}.tif"}) + "\n")
    report = export(tmp_path / "table.ndjson", tmp_path / "refs.json")
    assert (report.items, report.left_out) == (1, 2)
    assert sorted(report.notes) == [
        "1 file was left out, scenes/i a for one: its address has {{, which begins a template.",
        "1 file was left out, scenes/j for one: its header was not read.",
    ]


def test_local_files_of_a_table_are_referenced_by_their_paths(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c"
    folder.mkdir()
    raster(folder / "x.tif", **TILES)
    (folder / "items.ndjson").write_text(json.dumps(item("i", assets={"a": {"href": "./x.tif"}})) + "\n")
    asyncio.run(stacpull.headers(str(folder / "items.ndjson"), tmp_path / "table.ndjson", tiles=True))
    assert export(tmp_path / "table.ndjson", tmp_path / "refs.json").items == 1
    with rasterio.open(folder / "x.tif") as file:
        np.testing.assert_array_equal(pixels(tmp_path / "refs.json", "c/i/a"), file.read())


def test_unsuitable_tables_are_refused(host: RasterHost, tmp_path: Path) -> None:
    host.files = {"/a.tif": raster(tmp_path / "a.tif")}
    for name in ("plain.parquet", "plain.ndjson"):
        headers(host, tmp_path / name, tmp_path, tiles=False)
        with pytest.raises(
            stacpull.UsageError, match=r"not a table of `stacpull headers --tiles`: it has no"
        ):
            export(tmp_path / name, tmp_path / "refs.json")
    (tmp_path / "table.csv").write_text("a")
    with pytest.raises(stacpull.UsageError, match=r"not a \.parquet or \.ndjson table"):
        export(tmp_path / "table.csv", tmp_path / "refs.json")
    (tmp_path / "odd.parquet").write_bytes(b"PAR1 and more")
    (tmp_path / "odd.ndjson").write_bytes(b"{no json\n")
    (tmp_path / "list.ndjson").write_bytes(b"[1]\n")
    with pytest.raises(stacpull.UsageError, match="has no column"):
        export(tmp_path / "list.ndjson", tmp_path / "refs.json")
    for name in ("odd.parquet", "odd.ndjson"):
        with pytest.raises(stacpull.DestinationError, match="cannot be read"):
            export(tmp_path / name, tmp_path / "refs.json")
    assert list(tmp_path.glob("*refs.json*")) == []


# Stops and kills.


@pytest.fixture
def long_table(host: RasterHost, tmp_path: Path) -> Path:
    """A table of 4,000 rasters with 100 tiles each."""
    host.files = {"/a.tif": raster(tmp_path / "a.tif", **TILES, size=(160, 320))}
    headers(host, tmp_path / "one.ndjson", tmp_path)
    row = json.loads((tmp_path / "one.ndjson").read_text())
    with (tmp_path / "table.ndjson").open("w") as file:
        for number in range(4_000):
            file.write(json.dumps({**row, "item": f"i{number}"}) + "\n")
    return tmp_path / "table.ndjson"


def test_a_killed_export_leaves_no_output_and_can_be_repeated(long_table: Path, tmp_path: Path) -> None:
    out, part = tmp_path / "refs.json", tmp_path / ".refs.json.part"
    for least in (1, 1 << 20, 4 << 20):
        command = [COMMAND, "export", long_table, out, "-f", "kerchunk", "--no-progress"]
        process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while (not part.exists() or part.stat().st_size < least) and time.monotonic() < deadline:
            assert process.poll() is None, "the export ended before it was killed"
            time.sleep(0.001)
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
        assert not out.exists()
    ran = run(["export", str(long_table), str(out), "-f", "kerchunk", "--json"], environment())
    assert (ran.code, ran.report["items"], ran.report["left_out"]) == (0, 4_000, 0)
    assert len([name for name in references_in(out) if re.search(r"/a/\d+\.\d+$", name)]) == 400_000
    assert not part.exists()


def test_a_stopped_export_is_continued(long_table: Path, tmp_path: Path) -> None:
    stop = asyncio.Event()

    def on_event(event: Any) -> None:
        if event.done == 500:
            stop.set()

    with pytest.raises(stacpull.InterruptedRunError):
        export(long_table, tmp_path / "refs.json", on_event=on_event, stop=stop)
    assert [path.name for path in tmp_path.glob("*refs.json*")] == [".refs.json.spool"]
    calm = export(long_table, tmp_path / "calm.json")
    assert export(long_table, tmp_path / "refs.json") == dataclasses.replace(calm, files=("refs.json",))
    assert (tmp_path / "refs.json").read_bytes() == (tmp_path / "calm.json").read_bytes()
    assert not (tmp_path / ".refs.json.spool").exists()
