"""Mirrors that outputs are made from."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.items import feature

import stacpull

Json = dict[str, Any]


def item(name: str, **members: Any) -> Json:
    """Return a valid item without assets; `properties` are added to a datetime, other members replace."""
    properties = {"datetime": "2017-06-13T10:10:31Z", **members.pop("properties", {})}
    place = {"geometry": {"type": "Point", "coordinates": [10.0, 50.0]}, "bbox": [10.0, 50.0, 10.0, 50.0]}
    return feature(name, **{"stac_extensions": [], "properties": properties, **place, **members})


def source_of(folder: Path, document: Json) -> list[dict[str, str]]:
    """Write a source item beside the files that `mirrored` takes; return two links to it."""
    (folder / "source").mkdir()
    path = folder / "source/linked.json"
    path.write_text(json.dumps(document))
    return [{"rel": "source", "href": path.as_uri()}] * 2


@pytest.fixture
def mirrored(tmp_path: Path) -> Callable[..., Path]:
    """Mirror items from a local file; assets may name files by their content: `{"key": b"content"}`."""

    def mirror(items: list[Json], files: dict[str, bytes] | None = None, **options: Any) -> Path:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        for name, content in (files or {}).items():
            (source / name).write_bytes(content)
        (source / "items.ndjson").write_text("".join(json.dumps(one) + "\n" for one in items))
        dest = tmp_path / "mirror"
        settings = stacpull.Options(**{"retries": 0, **options})  # some files are nowhere
        asyncio.run(stacpull.mirror(str(source / "items.ndjson"), dest, options=settings))
        return dest

    return mirror


@pytest.fixture(autouse=True)
def store_on_thread(threaded_store: None) -> None:
    """The mirrors that are exported are made without a process for their store."""
