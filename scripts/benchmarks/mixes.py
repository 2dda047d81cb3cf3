"""The files of a benchmark: mixes of random files, and the STAC pages that list them.

The files of a mix are at `<root>/bench/<item>/<name>`; every downloaded tree is compared with them. Their
bytes are random, so that a swapped, truncated or padded file differs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

COLLECTION = BUCKET = "bench"
"""The name of the collection, of the folder of the files and of the bucket."""
PAGE = 1000
"""Items per page: the limit that `--page-size auto` sends to a service."""
_BLOCK = 8 << 20


class File(NamedTuple):
    """One asset: the id of its item, its key, its name on the server and its size in bytes."""

    item: str
    key: str
    name: str
    size: int

    @property
    def path(self) -> str:
        """The path below the bucket, which is the key on S3."""
        return f"{self.item}/{self.name}"

    @property
    def suffix(self) -> str:
        """The extension of the name, with the dot."""
        return Path(self.name).suffix


@dataclass(frozen=True)
class Mix:
    """A mix of `items` items (with --quick `few`), each with an asset for each of `sizes`.

    `sizes` are bytes by key and extension of an asset, for example `B02.tif`.
    """

    name: str
    about: str
    items: int
    few: int
    sizes: dict[str, int]

    def files(self, items: int) -> list[File]:
        """Return the assets of the first `items` items."""
        return [
            File(patch, name.partition(".")[0], f"{patch}_{name}", size)
            for patch in map(_patch, range(items))
            for name, size in self.sizes.items()
        ]


def _patch(number: int) -> str:
    """Return the name of an item in the style of BigEarthNet patches."""
    return f"S2A_MSIL2A_20170613T101031_{number // 90}_{number % 90}"


_BIGEARTHNET = {
    **dict.fromkeys(("B02.tif", "B03.tif", "B04.tif", "B08.tif"), 29_192),
    **dict.fromkeys(("B05.tif", "B06.tif", "B07.tif", "B8A.tif", "B11.tif", "B12.tif"), 7_560),
    **dict.fromkeys(("B01.tif", "B09.tif"), 1_160),
    "labels.json": 1_300,
}
_TEN = [f"B{number:02}.tif" for number in range(10)]

MIXES = {
    mix.name: mix
    for mix in (
        Mix("ben", "BigEarthNet, 13 files a patch of 1 to 29 KB", 1000, 200, _BIGEARTHNET),
        Mix("100kb", "files of 100 KB, ten an item", 400, 40, dict.fromkeys(_TEN, 100_000)),
        Mix("500b", "files of 500 bytes, ten an item", 2000, 150, dict.fromkeys(_TEN, 500)),
        Mix("8kb", "files of 8 KB, ten an item", 400, 40, dict.fromkeys(_TEN, 8_000)),
        Mix("1mb", "files of 1 MB, ten an item", 30, 5, dict.fromkeys(_TEN, 1_000_000)),
        Mix("64mb", "files of 64 MiB", 16, 3, {"data.tif": 64 << 20}),
        Mix("1gb", "one file of 1 GiB", 1, 1, {"data.tif": 1 << 30}),
        Mix("256mb", "files of 256 MiB", 8, 1, {"data.tif": 256 << 20}),
    )
}


def write_files(root: Path, files: list[File]) -> None:
    """Write the files of a mix below `root`."""
    for file in files:
        path = root / BUCKET / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for start in range(0, file.size, _BLOCK):
                out.write(os.urandom(min(_BLOCK, file.size - start)))


def write_pages(root: Path, base: str, files: list[File], href: Callable[[File], str]) -> None:
    """Write the collection and its pages for a server with the URL `base`.

    `collections/bench/collection.json` is the response of `/collections/bench`; `collections/bench/items` is
    the first page, `collections/bench/pages/2` the next. `items.json` has all items in one FeatureCollection.
    """
    features = list(_features(base, files, href))
    api = root / "collections" / COLLECTION
    (api / "pages").mkdir(parents=True, exist_ok=True)
    url = f"{base}/collections/{COLLECTION}"
    (api / "collection.json").write_text(json.dumps(_collection(url)))
    (root / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    for number, start in enumerate(range(0, len(features), PAGE), start=1):
        more = start + PAGE < len(features)
        page = {
            "type": "FeatureCollection",
            "features": features[start : start + PAGE],
            "links": [{"rel": "next", "href": f"{url}/pages/{number + 1}"}] if more else [],
            "numberMatched": len(features),
        }
        (api / ("items" if number == 1 else f"pages/{number}")).write_text(json.dumps(page))


def _collection(url: str) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "description": "files of a benchmark",
        "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [{"rel": "items", "href": f"{url}/items"}],
    }


def _features(base: str, files: list[File], href: Callable[[File], str]) -> Iterator[dict[str, Any]]:
    items: dict[str, dict[str, Any]] = {}
    for file in files:
        asset = {"href": href(file), "type": "application/octet-stream"}
        items.setdefault(file.item, {})[file.key] = asset
    for item, assets in items.items():
        yield {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": item,
            "collection": COLLECTION,
            "geometry": {"type": "Point", "coordinates": [10, 50]},
            "bbox": [10, 50, 10, 50],
            "properties": {"datetime": "2017-06-13T10:10:31Z"},
            "assets": assets,
            "links": [{"rel": "self", "href": f"{base}/collections/{COLLECTION}/items/{item}"}],
        }
