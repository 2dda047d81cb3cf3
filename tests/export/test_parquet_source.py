"""Parquet files of items as sources: reading, resuming, skipping and rejecting."""

import asyncio
import io
import json
import random
import signal
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvloop
from tests.cancelling import until
from tests.export.conftest import item as item_of
from tests.sources.memory import EVERYTHING, FileServer, pages_of

from stacpull.child_process import python_command
from stacpull.errors import ForgottenCursorError, SourceError, UsageError
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.models import Json, Page
from stacpull.selection import Selection
from stacpull_export import parquet_decoder
from stacpull_export import parquet_source as parquet_module
from stacpull_export.geoparquet import ItemIndex
from stacpull_export.mirrored_items import MirrorContents, MirroredItem
from stacpull_export.parquet_source import ParquetSource

URL = "https://files.test/data/items.parquet"
pytestmark = pytest.mark.usefixtures("forked_decoder")


class Contents(MirrorContents):
    def __init__(self, items: Sequence[Json], collections: Mapping[str, Json]) -> None:
        self.dest = Path("/mirror")
        self.url = None
        self.collections = dict(collections)
        self.directories = {name: name for name in collections}
        self._items = items

    def items(self, *_: object, **__: object) -> Iterator[MirroredItem]:
        for one in self._items:
            path = f"{one['collection']}/{one['id']}/i.json"
            yield MirroredItem(one["collection"], one["id"], path, json.loads(json.dumps(one)), len(str(one)))


def by_export(items: Sequence[Json], path: Path) -> None:
    names = dict.fromkeys(one["collection"] for one in items)
    contents = Contents(items, {name: {"type": "Collection", "id": name, "links": []} for name in names})
    index = ItemIndex(contents, path, io.BytesIO())
    index.read(lambda _, _stage="": None)
    with path.open("wb") as file:
        index.write(file)


def by_stac_geoparquet(items: Sequence[Json], path: Path) -> None:
    arrow = pytest.importorskip("stac_geoparquet.arrow")
    arrow.to_parquet(arrow.parse_stac_items_to_arrow([dict(one) for one in items]).read_all(), path)


def by_rustac(items: Sequence[Json], path: Path) -> None:
    rustac = pytest.importorskip("rustac")

    async def write() -> None:
        await rustac.write(str(path), [dict(one) for one in items])

    asyncio.run(write())


WRITERS: dict[str, Callable[[Sequence[Json], Path], None]] = {
    "export": by_export,
    "stac-geoparquet": by_stac_geoparquet,
    "rustac": by_rustac,
}


def written(items: Sequence[Json], rows: int = 10_000, writer: str = "export") -> bytes:
    """Return the file that a program writes, with row groups of `rows` rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.parquet"
        WRITERS[writer](items, path)
        table = pq.read_table(path)
        if len(table) > rows:
            pq.write_table(table, path, row_group_size=rows, compression="zstd")
        return path.read_bytes()


def read(server: FileServer, selection: Selection = EVERYTHING, size: int = 100) -> list[Page]:
    return pages_of(ParquetSource(URL, server), size, selection)  # type: ignore[arg-type]


def items_of(server: FileServer, selection: Selection = EVERYTHING) -> list[Json]:
    return [item for page in read(server, selection) for item in page.items]


def failure_of(data: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        read(FileServer(data))
    return str(caught.value)


def item(name: str, **members: Any) -> Json:
    data = {"data": {"href": f"https://host/{name}.tif"}}
    return item_of(name, **{"assets": data, **members})


def many(count: int) -> list[Json]:
    """Return items sorted by location and time, so that row groups differ."""
    draws = random.Random(7)
    items = []
    for number in range(count):
        west, south = -170 + 340 * number / count, draws.uniform(-60, 60)
        time = datetime(2017, 1, 1, tzinfo=UTC) + timedelta(days=number)
        properties: Json = {
            "datetime": time.isoformat().replace("+00:00", "Z"),
            "eo:cloud_cover": number * 100 / count,
            "gsd": number % 7,
            "platform": f"sat-{number * 5 // count}",
            "flag": number % 2 == 0,
        }
        if number % 11 == 0:
            end = (time + timedelta(days=3)).isoformat()
            properties |= {"datetime": None, "start_datetime": time.isoformat(), "end_datetime": end}
        if number % 13 == 0:
            del properties["gsd"]
        ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south + 1], [west, south]]
        members: Json = {"geometry": {"type": "Polygon", "coordinates": [ring]}}
        members["bbox"] = [west, south, west + 1, south + 1]
        if number == count - 1:  # across the antimeridian
            rings = [
                [[179, 0], [180, 0], [180, 1], [179, 1], [179, 0]],
                [[-180, 0], [-179, 0], [-179, 1], [-180, 1], [-180, 0]],
            ]
            members = {
                "geometry": {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]},
                "bbox": [179, 0, -179, 1],
            }
        if number % 450 == 0:
            members["bbox"] = None
        items.append(item(f"i{number:04}", collection=f"c{number % 2}", properties=properties, **members))
    return items


def plain(value: Any) -> Any:
    """Return JSON without null members, with times as seconds."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str) and len(value) > 19 and value[4] == "-" and value[10] == "T":
        try:
            return int(datetime.fromisoformat(value).timestamp())  # rustac writes milliseconds
        except ValueError:
            return value
    return value


@pytest.mark.parametrize("writer", WRITERS)
def test_items_are_read_back_unchanged(writer: str) -> None:
    items = [one for one in many(60) if one["bbox"] is not None and one["bbox"][0] < one["bbox"][2]]
    found = items_of(FileServer(written(items, writer=writer)))
    versioned = {"stac_version": "1.1.0"} if writer == "rustac" else {}
    assert [plain(one) for one in found] == [plain(one | versioned) for one in items]


def test_json_text_columns_of_export_are_read_back_unchanged() -> None:
    items = [
        item("a", properties={"flag": True, "empty": {}}),
        item("b", properties={"flag": "true", "empty": {}}),
        item("c", geometry=None, bbox=None, properties={"id": "of the properties"}),
        item("d", geometry={"type": "Point", "coordinates": [1, 2, 3]}, bbox=[1, 2, 3, 1, 2, 3]),
    ]
    found = {one["id"]: one for one in items_of(FileServer(written(items)))}
    assert [found[name]["properties"]["flag"] for name in "ab"] == [True, "true"]
    assert [*found["a"]["properties"].items()][1:3] == [("flag", True), ("empty", {})]
    assert found["c"]["geometry"] is None
    assert found["c"]["properties"]["id"] == "of the properties"
    assert found["d"]["bbox"] == [1, 2, 3, 1, 2, 3]


def test_relative_hrefs_are_relative_to_the_file() -> None:
    assets = {
        "near": {"href": "./a/near.tif"},
        "far": {"href": "https://host/far.tif", "alternate": {"s3": {"href": "s3://bucket/far.tif"}}},
    }
    table = pa.table(
        {
            "id": ["a"],
            "geometry": [None],
            "links": [[{"rel": "source", "href": "../b.json"}, {"rel": "self", "href": "./a.json"}]],
            "assets": [assets],
        }
    )
    data = parquet(table.cast(table.schema.set(1, pa.field("geometry", pa.binary()))))
    (found,) = items_of(FileServer(data))
    assert found["assets"]["near"]["href"] == "https://files.test/data/a/near.tif"
    assert found["assets"]["far"]["href"] == "https://host/far.tif"
    assert found["assets"]["far"]["alternate"]["s3"]["href"] == "s3://bucket/far.tif"
    assert found["links"] == [
        {"rel": "source", "href": "https://files.test/b.json"},
        {"rel": "self", "href": "https://files.test/data/a.json"},
    ]
    assert found["properties"] == {"datetime": None}


def test_only_the_footer_and_the_row_groups_that_may_match_are_read() -> None:
    server = FileServer(written(many(3000), rows=100))
    selection = Selection(bbox=(-100, -60, -99, 60))
    found = items_of(server, selection)
    assert found
    assert server.requested_ranges[0] == (len(server.data) - parquet_module.TAIL, len(server.data))
    groups = [one for one in server.requested_ranges[1:] if one[1] < len(server.data)]
    assert len(groups) <= 11  # twice the footer; of 30, two have such a location, seven a row without a box


SELECTIONS = [
    {},
    {"bbox": (-100, -60, -90, 0)},
    {"bbox": (170, -60, -170, 60)},
    {"bbox": (179.2, 0.2, 179.4, 0.4)},
    {"intersects": '{"type": "Point", "coordinates": [-169.5, 0]}'},
    {"datetime": "../2017-01-02"},
    {"datetime": "2017-01-03T00:00:00Z"},
    {"filter": "platform = 'sat-2' AND gsd < 3"},
    {"collections": ("c1",)},
    {"datetime": "2018", "bbox": (-180, 0, 0, 90), "ids": ("i0412",)},
]  # fmt: skip


@pytest.mark.parametrize(
    ("writer", "given"),
    [
        *(("export", given) for given in SELECTIONS),
        *((writer, given) for writer in ("stac-geoparquet", "rustac") for given in SELECTIONS[4:5]),
    ],
    ids=str,
)
def test_push_down_never_changes_the_result(writer: str, given: Json) -> None:
    selection = Selection(**given)
    judge = SelectionFilter.from_selection(selection).reason_left_out

    def kept(items: list[Json]) -> list[str]:
        named = [
            one for one in items if not selection.collections or one["collection"] in selection.collections
        ]
        return [one["id"] for one in named if judge(one) is None]

    assert kept(items_of(FileServer(file_of(writer)), selection)) == kept(items_for(writer))


@cache
def items_for(writer: str) -> list[Json]:
    items = many(3000)
    # the others do not support null boxes or boxes of another order
    return items if writer == "export" else [one for one in items[:-1] if one["bbox"] is not None]


@cache
def file_of(writer: str) -> bytes:
    return written(items_for(writer), 100, writer)


@pytest.mark.parametrize("bbox", [(0, 0, 10.1, 5), (0, 0, 20, 0.7), (10.2, 0, 20, 5), (0, 0.8, 20, 5)])
def test_boxes_of_single_precision_are_no_tighter_than_the_geometry(bbox):
    """GeoParquet allows them; rounded to the nearest number they may miss the edge of the geometry."""
    west, south, east, north = 10.1, 0.7, 10.2, 0.8
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    one = item("a", geometry=geometry, bbox=[west, south, east, north])
    table = pq.read_table(io.BytesIO(written([one])))
    place = table.schema.get_field_index("bbox")
    kind = pa.struct([(name, pa.float32()) for name in ("xmin", "ymin", "xmax", "ymax")])
    data = parquet(table.set_column(place, "bbox", table["bbox"].cast(kind)))
    selection = Selection(bbox=bbox)
    assert SelectionFilter.from_selection(selection).reason_left_out(one) is None
    assert len(items_of(FileServer(data), selection)) == 1


def test_times_in_nanoseconds_are_compared_with_any_year() -> None:
    table = pq.read_table(io.BytesIO(written(many(3))))
    times = table["datetime"].cast(pa.timestamp("ns", "UTC"))
    data = parquet(table.set_column(table.schema.get_field_index("datetime"), "datetime", times))
    assert len(items_of(FileServer(data), Selection(datetime="0001-01-01/9999-12-31"))) == 3


@pytest.mark.parametrize("ranges", [True, False])
def test_pages_have_the_requested_size(ranges: bool) -> None:
    server = FileServer(written(many(250), rows=60), ranges=ranges)
    pages = read(server, size=7)
    assert [len(page.items) for page in pages[:9]] == [7] * 8 + [4]
    assert sum(len(page.items) for page in pages) == 250


def test_a_file_that_changes_while_it_is_read_begins_the_walk_again() -> None:
    class Changing(FileServer):
        def stream(self, url: str, headers: Any) -> Any:
            if len(self.requested_ranges) == 3:
                self.etag = '"v2"'
            return super().stream(url, headers)

    with pytest.raises(ForgottenCursorError, match="may have changed while it was read"):
        read(Changing(written(many(1500), rows=60)))


def test_collections_are_those_of_the_metadata() -> None:
    source = ParquetSource(URL, FileServer(written(many(3))))  # type: ignore[arg-type]
    assert [one["id"] for one in asyncio.run(source.collections())] == ["c0", "c1"]
    assert asyncio.run(source.collection("c1"))["type"] == "Collection"


def table_of(rows: int, **columns: Any) -> pa.Table:
    given = {"id": [str(n) for n in range(rows)], "geometry": pa.nulls(rows, pa.binary())}
    return pa.table({**given, "assets": pa.array([{"a": {"href": "x"}}] * rows), **columns})


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PAR1", "its footer has"),
        (b"PAR1" + struct.pack("<I", 10) + b"PARE", "not a Parquet file"),
        (b"PAR1" + struct.pack("<I", 2**31) + b"PAR1", "its footer has 2,147,483,656 bytes"),
        (b"PAR1" + struct.pack("<I", 500) + b"PAR1", "it cannot be decoded"),
        (b"PAR1" + b"x" * 50 + struct.pack("<I", 50) + b"PAR1", "it cannot be decoded"),
    ],
)
def test_files_that_are_not_parquet_are_refused(data: bytes, why: str) -> None:
    assert why in failure_of(data)


def test_geometries_that_are_not_wkb_are_refused() -> None:
    geo = {"columns": {"geometry": {"encoding": "point"}}}
    table = table_of(1).replace_schema_metadata({"geo": orjson.dumps(geo)})
    assert "encoded as point" in failure_of(parquet(table))


def test_a_list_of_millions_in_a_few_bytes_is_refused() -> None:
    lists = pa.array([[0] * 1_000_000] * 5)
    data = parquet(table_of(5, labels=lists), compression="zstd")
    assert len(data) < 100_000
    assert "its items have more than 4000000 values" in failure_of(data)


def test_a_page_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With five eighths of the memory that a decoder may take: to fill all of it takes 10 s."""
    code = (
        "import sys; from stacpull_export import parquet_decoder;"
        f"parquet_decoder.MEMORY = {parquet_decoder.MEMORY * 5 // 8}; parquet_decoder.main()"
    )
    monkeypatch.setattr(parquet_module, "python_command", lambda *given: python_command("-c", code))
    lists = pa.array([np.zeros(30_000_000, np.int8)])
    data = parquet(table_of(1, labels=lists), compression="zstd")
    assert len(data) < 1_000_000
    assert "of memory" in failure_of(data)


def test_damage_is_an_error_or_harmless() -> None:
    """A changed byte may change a value, or crash pyarrow."""
    data, draws, failed = written(many(40), rows=20), random.Random(1), 0
    assert read(FileServer(data))
    for _ in range(10):
        broken = bytearray(data)
        for _ in range(draws.choice([1, 2, 8])):
            broken[draws.randrange(len(broken))] = draws.randrange(256)
        try:
            read(FileServer(bytes(broken)))
        except SourceError:
            failed += 1
    assert 0 < failed < 10


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_decoder_is_ended_although_its_pipe_is_full(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    code = "import time; print('answers', flush=True); time.sleep(60)"

    async def ended() -> int | None:
        pipe = asyncio.subprocess.PIPE
        command = python_command("-c", code)
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1)
        assert process.stdout is not None
        await process.stdout.readexactly(1)
        await asyncio.wait_for(parquet_module._ended(process), 30)
        return process.returncode

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ended()) == -signal.SIGKILL


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_decoder_that_has_ended_before_its_last_answer_is_read(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def course() -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*python_command("-c", ""), stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        await until(process.stdin.is_closing)
        await parquet_module._ended(process)
        assert process.returncode is not None

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(course())


def test_a_missing_pyarrow_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stacpull_export.formats.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"extra geoparquet"):
        read(FileServer(b""))
