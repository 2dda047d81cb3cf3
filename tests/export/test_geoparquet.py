"""items.parquet, read by the libraries of others: pyarrow, GeoPandas, DuckDB, stac-geoparquet and rustac."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.export.conftest import item

import stacpull
from stacpull.sync import export

Mirror = Callable[..., Path]

POLYGON = {"type": "Polygon", "coordinates": [[[10, 50], [11, 50], [11, 51], [10, 51], [10, 50]]]}
POINT_3D = {"type": "Point", "coordinates": [10.0, 50.0, 300.0]}
COLLECTION = {"type": "GeometryCollection", "geometries": [POLYGON, {"type": "Point", "coordinates": [1, 2]}]}

UNUSUAL: dict[str, dict[str, Any]] = {
    "null-geometry": {"geometry": None, "bbox": None},
    "geometry-collection": {"geometry": COLLECTION, "bbox": [1, 2, 11, 51]},
    "polygon": {"geometry": POLYGON, "bbox": [10, 50, 11, 51]},
    "height": {"geometry": POINT_3D, "bbox": [10.0, 50.0, 300.0, 10.0, 50.0, 300.0]},
    "integer-bbox": {"bbox": [10, 50, 10, 50]},
    "late-property": {"properties": {"gsd": 10}},
    "float-after-integer": {"properties": {"gsd": 1.5}},
    "flag-as-boolean": {"properties": {"seasonal_snow": True}},
    "flag-as-text": {"properties": {"seasonal_snow": "true"}},
    "large-integer": {"properties": {"large": 2**63}},
    "microseconds": {"properties": {"datetime": "2017-06-13T10:10:31.123456Z"}},
    "offset": {"properties": {"datetime": "2017-06-13T12:10:31+02:00"}},
    "interval": {
        "properties": {
            "datetime": None,
            "start_datetime": "2017-01-01T00:00:00Z",
            "end_datetime": "2017-12-31T00:00:00Z",
        }
    },
    "invalid-time": {"properties": {"datetime": "yesterday", "updated": 2017}},
    "after-9999": {"properties": {"datetime": "9999-12-31T23:59:59-01:00"}},
    "null-property": {"properties": {"platform": None}},
    "empty-object": {"properties": {"processing": {}}},
    "empty-list": {"properties": {"instruments": []}},
    "mixed-list": {"properties": {"mixed": [1, "a", {"b": None}]}},
    "flag-after-float": {"properties": {"flags": [{"f": 0.5}, {"f": True}]}},
    "reserved-name": {"properties": {"id": "not the id", "type": "not the type"}},
    "deep": {"properties": {"deep": json.loads("[" * 80 + "]" * 80)}},
    "list-of-objects": {"properties": {"same": [{"a": ["x", "y"]}, {"a": [], "b": [[1, 2], [3]]}]}},
    "late-asset": {
        "assets": {"quicklook": {"href": "https://example.com/q.png", "roles": ["thumbnail"], "gsd": 2}}
    },
}


def unusual(mirrored: Mirror, tmp_path: Path) -> tuple[Path, stacpull.ExportReport]:
    items = [item(name, **members) for name, members in UNUSUAL.items()]
    out = tmp_path / "items.parquet"
    return out, export(mirrored(items), out)


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pq.read_table(path).to_pylist()}


def test_every_value_of_unusual_items_is_in_the_file(mirrored: Mirror, tmp_path: Path) -> None:
    out, report = unusual(mirrored, tmp_path)
    rows = rows_of(out)
    assert report.items == len(rows) == len(UNUSUAL)
    assert rows["null-geometry"]["geometry"] is rows["null-geometry"]["bbox"] is None
    assert rows["height"]["bbox"] == {
        "xmin": 10.0, "ymin": 50.0, "zmin": 300.0, "xmax": 10.0, "ymax": 50.0, "zmax": 300.0,
    }  # fmt: skip
    assert rows["integer-bbox"]["bbox"]["zmin"] is None
    assert (rows["late-property"]["gsd"], rows["float-after-integer"]["gsd"]) == (10.0, 1.5)
    assert rows["flag-as-boolean"]["seasonal_snow"] == "true"
    assert rows["flag-as-text"]["seasonal_snow"] == '"true"'
    assert rows["large-integer"]["large"] == str(2**63)
    assert rows["microseconds"]["datetime"].isoformat() == "2017-06-13T10:10:31.123456+00:00"
    assert rows["offset"]["datetime"].isoformat() == "2017-06-13T10:10:31+00:00"
    assert {rows[name]["datetime"] for name in ("interval", "invalid-time", "after-9999")} == {None}
    assert "Times that are not valid, and null here: 3." in report.notes
    assert rows["interval"]["start_datetime"].isoformat() == "2017-01-01T00:00:00+00:00"
    assert rows["empty-object"]["processing"] == "{}"
    assert rows["empty-list"]["instruments"] == []
    assert [json.loads(one) for one in rows["mixed-list"]["mixed"]] == [1, "a", {}]
    assert rows["flag-after-float"]["flags"] == [{"f": "0.5"}, {"f": "true"}]
    assert rows["reserved-name"]["properties:id"] == "not the id"
    assert rows["reserved-name"]["properties:type"] == "not the type"
    assert rows["deep"]["deep"] == "[" * 80 + "]" * 80
    assert rows["list-of-objects"]["same"] == [{"a": ["x", "y"], "b": None}, {"a": [], "b": [[1, 2], [3]]}]
    assert rows["height"]["geometry"][1:5] == (1001).to_bytes(4, "little")  # a point with Z in ISO's WKB
    assert rows["late-asset"]["assets"]["quicklook"]["gsd"] == 2
    assert "platform" not in rows["null-property"]
    assert any("seasonal_snow" in note and "boolean, text" in note for note in report.notes)


def test_stac_geoparquet_reads_the_items(mirrored: Mirror, tmp_path: Path) -> None:
    """It cannot read boxes that are null, flat boxes beside those with heights, or geometry collections."""
    arrow = pytest.importorskip("stac_geoparquet.arrow")
    unreadable = {"null-geometry", "height", "geometry-collection"}
    flat = {name: members for name, members in UNUSUAL.items() if name not in unreadable}
    out = tmp_path / "items.parquet"
    export(mirrored([item(name, **members) for name, members in flat.items()]), out)
    items = {one["id"]: one for one in arrow.stac_table_to_items(pq.read_table(out))}
    assert items.keys() == flat.keys()
    assert items["polygon"]["geometry"]["type"] == "Polygon"
    assert items["late-asset"]["assets"]["quicklook"]["href"] == "https://example.com/q.png"
    assert items["late-property"]["properties"]["gsd"] == 10


def test_the_metadata_is_that_of_the_specifications(mirrored: Mirror, tmp_path: Path) -> None:
    out, _ = unusual(mirrored, tmp_path)
    metadata = pq.read_schema(out).metadata
    geo, stac = json.loads(metadata[b"geo"]), json.loads(metadata[b"stac-geoparquet"])
    column = geo["columns"][geo["primary_column"]]
    assert (geo["version"], stac["version"]) == ("1.1.0", "1.1.0")
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["GeometryCollection", "Point", "Point Z", "Polygon"]
    assert column["bbox"] == [1.0, 2.0, 11.0, 51.0]
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert stac["collections"]["c"]["id"] == "c"


def test_hrefs_lead_from_the_file_to_the_mirror(mirrored: Mirror, tmp_path: Path) -> None:
    assets = {"data": {"href": "./a b.bin"}}
    dest = mirrored([item("one", assets=assets)], {"a b.bin": b"content"})
    (tmp_path / "index").mkdir()
    for out in (tmp_path / "items.parquet", tmp_path / "index" / "items.parquet"):
        export(dest, out)
        asset = rows_of(out)["one"]["assets"]["data"]
        assert (out.parent / asset["href"]).read_bytes() == b"content"
        assert asset["file:size"] == 7
        assert asset["file:checksum"].startswith("1220")


@pytest.mark.usefixtures("forked_decoder")
def test_hrefs_have_the_names_of_the_files_as_they_are(mirrored: Mirror, tmp_path: Path) -> None:
    assets = {key: {"href": "./b.tif"} for key in ("a:b", "a b", "é", "%41", "red")}
    dest = mirrored([item("i d:1/é#", collection="c:%20", assets=assets)], {"b.tif": b"x"})
    dest = dest.rename(tmp_path / "my mirror")
    export(dest, tmp_path / "items.parquet")
    (row,) = pq.read_table(tmp_path / "items.parquet").to_pylist()
    assert all((tmp_path / asset["href"]).read_bytes() == b"x" for asset in row["assets"].values())
    again = asyncio.run(stacpull.mirror(str(tmp_path / "items.parquet"), tmp_path / "again"))
    assert again.assets_done == len(assets)
    dest = dest.rename(tmp_path / os.fsdecode(b"\xff"))
    with pytest.raises(stacpull.UsageError, match="not UTF-8, which hrefs cannot have"):
        export(dest, tmp_path / "items.parquet")


@pytest.mark.usefixtures("forked_decoder")
def test_unbounded_names_take_few_columns(mirrored: Mirror, tmp_path: Path) -> None:
    """Every name that becomes a column takes space in each row, and no reader takes a file with millions."""
    items = [
        item(
            f"i{number}",
            properties={"kept": number, "many": {f"m{number}-{n}": n for n in range(200)},
                        **{f"p{number}-{n}": n for n in range(200)}},
            assets={f"a{number}-{n}": {"href": "./one.bin", "roles": ["data"]} for n in range(200)},
            **{f"x{number}-{n}": n for n in range(30)},
        )
        for number in range(6)
    ]  # fmt: skip
    dest = mirrored(items, {"one.bin": b"1"})
    report = export(dest, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_columns <= 1_000 + 8
    assert table["kept"].to_pylist() == [*range(6)]
    for number, (many, assets) in enumerate(
        zip(table["many"].to_pylist(), table["assets"].to_pylist(), strict=True)
    ):
        assert json.loads(many) == {f"m{number}-{n}": n for n in range(200)}
        assert json.loads(assets).keys() == {f"a{number}-{n}" for n in range(200)}
    assert "Properties are left out: there are more than 1,000 different ones." in report.notes
    assert sum("is left out" in note for note in report.notes) == 100
    again = tmp_path / "again"
    found = asyncio.run(
        stacpull.mirror(str(tmp_path / "out.parquet"), again, selection=stacpull.Selection(max_items=1))
    )
    assert found.items_done == 1


def test_duckdb_reads_it(mirrored: Mirror, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    out, _ = unusual(mirrored, tmp_path)
    found = duckdb.sql(
        f"SELECT id, bbox.xmin FROM '{out}' WHERE datetime > '2017-06-13T10:10:31Z'::TIMESTAMPTZ ORDER BY id"  # noqa: S608 - the path is this test's own
    ).fetchall()
    assert found == [("microseconds", 10.0)]


def test_rustac_reads_the_items(mirrored: Mirror, tmp_path: Path) -> None:
    rustac = pytest.importorskip("rustac")
    """Version 0.9 ends in a panic where a geometry is null."""
    out = tmp_path / "items.parquet"
    located = {name: members for name, members in UNUSUAL.items() if name != "null-geometry"}
    export(mirrored([item(name, **members) for name, members in located.items()]), out)

    async def read() -> Any:
        return await rustac.read(str(out))

    items = {one["id"]: one for one in asyncio.run(read())["features"]}
    assert items.keys() == located.keys()
    assert items["late-asset"]["assets"]["quicklook"]["href"] == "https://example.com/q.png"
