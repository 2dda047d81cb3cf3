"""Parquet files of items for tests, and a server of one file in memory."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.sources.memory import EVERYTHING, FileServer, pages_of

from stacpull.errors import SourceError
from stacpull.models import Json, Page
from stacpull.selection import Selection
from stacpull_export.geoparquet import ItemIndex
from stacpull_export.mirrored_items import MirroredItem
from stacpull_export.parquet_source import ParquetSource

URL = "https://files.test/data/items.parquet"


class Contents:
    def __init__(self, items: Sequence[Json], collections: Mapping[str, Json]) -> None:
        self.dest = Path("/mirror")
        self.url: str | None = None
        self.collections = dict(collections)
        self.files = None
        self._items = items

    def items(self, *_: object) -> Iterator[MirroredItem]:
        for one in self._items:
            path = f"{one['collection']}/{one['id']}/i.json"
            document = json.loads(json.dumps(one))
            yield MirroredItem(one["collection"], one["id"], path, document, len(str(one)))


def by_export(items: Sequence[Json], rows: int = 10_000) -> bytes:
    """Return the file that `export` writes, with row groups of `rows` rows."""
    file = io.BytesIO()
    names = dict.fromkeys(one["collection"] for one in items)
    contents = Contents(items, {name: {"type": "Collection", "id": name, "links": []} for name in names})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "items.parquet"
        with ItemIndex(contents, out, out.parent) as index:  # type: ignore[arg-type]
            index.read(lambda _, _stage="": None)
            index.write(file)
    return regrouped(file.getvalue(), rows)


def by_stac_geoparquet(items: Sequence[Json], rows: int = 10_000) -> bytes:
    arrow = pytest.importorskip("stac_geoparquet.arrow")
    table = arrow.parse_stac_items_to_arrow([dict(one) for one in items]).read_all()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.parquet"
        arrow.to_parquet(table, path)
        return regrouped(path.read_bytes(), rows)


def by_rustac(items: Sequence[Json], rows: int = 10_000) -> bytes:
    rustac = pytest.importorskip("rustac")

    async def write(path: Path) -> None:
        await rustac.write(str(path), [dict(one) for one in items])

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.parquet"
        asyncio.run(write(path))
        return regrouped(path.read_bytes(), rows)


WRITERS: dict[str, Callable[..., bytes]] = {
    "export": by_export,
    "stac-geoparquet": by_stac_geoparquet,
    "rustac": by_rustac,
}


def regrouped(data: bytes, rows: int) -> bytes:
    table = pq.read_table(io.BytesIO(data))
    if len(table) <= rows:
        return data
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=rows, compression="zstd")
    return file.getvalue()


def read(server: FileServer, selection: Selection = EVERYTHING, size: int = 100) -> list[Page]:
    return pages_of(ParquetSource(URL, server), size, selection)  # type: ignore[arg-type]


def items_of(server: FileServer, selection: Selection = EVERYTHING) -> list[Json]:
    return [item for page in read(server, selection) for item in page.items]


def failure_of(data: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        read(FileServer(data))
    return str(caught.value)
