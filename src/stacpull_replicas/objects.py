"""Where the bytes behind the blob host and the S3 endpoint come from: one small protocol, four stores.

`DatasetStore` makes BigEarthNet files (and optional large ones) on the fly; `MemoryStore` and
`DirectoryStore` serve what a test or a user puts there; `Overlay` lays changed and removed objects over
another store, so that a test can alter what is upstream while a mirror is running.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Protocol

from stacpull_replicas.contents import PUBLISHED, Blob, FileContent, LargeFile
from stacpull_replicas.dataset import Dataset
from stacpull_replicas.rasters import BAND_METRES
from stacpull_replicas.wire import Content

DATASET_BUCKET = "radiant-mlhub"
DATASET_PREFIX = "bigearthnet/"
LARGE_PREFIX = "large_files/"
ARCHIVE_PREFIX = "archives/"
_LONGEST_NAME = 255
CATALOG_PREFIX = "catalogs/"


def content_type(key: str, otherwise: str) -> str:
    """The media type of an object: both services knew it for archives only."""
    return "application/x-tar" if key.startswith(ARCHIVE_PREFIX) else otherwise


class ObjectStore(Protocol):
    """Buckets of keyed, immutable contents."""

    def buckets(self) -> Iterable[str]:
        """The names of the buckets."""

    def get(self, bucket: str, key: str) -> Content | None:
        """The content under a key, None if there is none."""

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys that start with `prefix` and sort after `after`, in the order of their UTF-8 bytes."""


@dataclass(frozen=True)
class DatasetStore:
    """The files of a data set under `bigearthnet/<patch>/<file>`, and `large_items` files of any size."""

    dataset: Dataset
    large_items: int = 0
    large_size: int = 0
    bucket: str = DATASET_BUCKET

    def buckets(self) -> Iterable[str]:
        """The one bucket."""
        return (self.bucket,)

    def get(self, bucket: str, key: str) -> Content | None:
        """The content under a key, None if there is none."""
        if bucket != self.bucket:
            return None
        if key.startswith(LARGE_PREFIX):
            return self._large(key)
        folder, _, filename = key.removeprefix(DATASET_PREFIX).partition("/")
        index = self.dataset.index_of(folder)
        if index is None or key != f"{DATASET_PREFIX}{folder}/{filename}":
            return None
        return self._file(index, filename.removeprefix(folder + "_"), filename)

    def _file(self, index: int, tail: str, filename: str) -> Content | None:
        band = tail.removesuffix(".tif")
        if tail == filename or (band not in BAND_METRES and tail != "labels_metadata.json"):
            return None
        modified = PUBLISHED + timedelta(seconds=index)
        if tail == "labels_metadata.json":
            return Blob(self.dataset.patch(index).metadata(), modified)
        site = self.dataset.site(index)
        return Blob(self.dataset.band(site, band), modified) if tail == f"{band}.tif" else None

    @lru_cache(maxsize=64)  # noqa: B019 - the store lives as long as its service
    def _large(self, key: str) -> LargeFile | None:
        number = key.removeprefix(LARGE_PREFIX + "large_").removesuffix(".bin")
        if not number.isdigit() or int(number) >= self.large_items or key != large_key(int(number)):
            return None
        return LargeFile(self.dataset.seed, int(number), self.large_size)

    @cached_property
    def _sorted_names(self) -> list[str]:
        """Folders in key order: made when first listed, the only thing ever kept for all patches."""
        names = (self.dataset.name(index) + "/" for index in range(self.dataset.items))
        return sorted(names)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys that start with `prefix` and sort after `after`, in order."""
        if bucket != self.bucket:
            return
        for key in chain(self._dataset_keys(max(prefix, after)), map(large_key, range(self.large_items))):
            if key > after and key.startswith(prefix):
                yield key
            elif key > prefix and not key.startswith(prefix):
                return

    def _dataset_keys(self, start: str) -> Iterator[str]:
        """The keys of the patches, in order, from the one that `start` lies in."""
        names = self._sorted_names
        if start.startswith(DATASET_PREFIX):
            first = bisect_left(names, start.removeprefix(DATASET_PREFIX).partition("/")[0])
        else:
            first = 0 if start < DATASET_PREFIX else len(names)
        for position in range(first, len(names)):
            folder = names[position]
            yield from (f"{DATASET_PREFIX}{folder}{folder[:-1]}_{tail}" for tail in _TAILS)


_TAILS = (*(f"{band}.tif" for band in sorted(BAND_METRES)), "labels_metadata.json")


def large_key(number: int) -> str:
    """The key of a large file."""
    return f"{LARGE_PREFIX}large_{number:04d}.bin"


@dataclass
class MemoryStore:
    """Contents by bucket and key, as a test puts them there."""

    contents: Mapping[str, Mapping[str, bytes]]

    def buckets(self) -> Iterable[str]:
        """The names of the buckets."""
        return sorted(self.contents)

    def get(self, bucket: str, key: str) -> Content | None:
        """The content under a key, None if there is none."""
        data = self.contents.get(bucket, {}).get(key)
        return None if data is None else Blob(data)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys that start with `prefix` and sort after `after`, in order."""
        for key in sorted(self.contents.get(bucket, {}), key=str.encode):
            if key.startswith(prefix) and key.encode() > after.encode():
                yield key


@dataclass(frozen=True)
class DirectoryStore:
    """The folders of a directory as buckets, the files below as objects; links out of it are not followed."""

    root: Path

    def buckets(self) -> Iterable[str]:
        """The names of the folders."""
        return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())

    def get(self, bucket: str, key: str) -> Content | None:
        """The file under a key, None if there is none."""
        steps = key.split("/")
        if "" in steps or ".." in steps or "." in steps or "\0" in key or bucket not in self.buckets():
            return None
        path = (self.root / bucket).joinpath(*steps)
        if any(len(os.fsencode(step)) > _LONGEST_NAME for step in steps):
            return None  # a key may have such a step, a file name may not
        if not path.is_file() or not path.resolve().is_relative_to(self.root.resolve()):
            return None
        status = path.stat()
        modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
        return FileContent(path, status.st_size, modified, status.st_mtime_ns)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys that start with `prefix` and sort after `after`, in order."""
        top = self.root / bucket
        found = [
            (Path(folder) / name).relative_to(top).as_posix()
            for folder, _, names in os.walk(top)
            for name in names
        ]
        yield from (
            k for k in sorted(found, key=str.encode) if k.startswith(prefix) and k.encode() > after.encode()
        )


@dataclass
class Overlay:
    """Changes over a store: `changes[bucket, key]` is the new content, or None where the object is gone."""

    under: ObjectStore
    changes: dict[tuple[str, str], bytes | None] = field(default_factory=dict)

    def buckets(self) -> Iterable[str]:
        """The names of the buckets."""
        return self.under.buckets()

    def get(self, bucket: str, key: str) -> Content | None:
        """The content under a key, None if there is none."""
        if self.changes and (bucket, key) in self.changes:
            data = self.changes[bucket, key]
            return None if data is None else Blob(data, PUBLISHED + timedelta(days=365))
        return self.under.get(bucket, key)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """The keys that start with `prefix` and sort after `after`, in order; added keys are merged in."""
        own = sorted(
            key for (where, key), data in self.changes.items() if where == bucket and data is not None
        )
        own = [key for key in own[bisect_right(own, after) :] if key.startswith(prefix)]
        for key in self.under.keys(bucket, prefix, after):
            while own and own[0] < key:
                yield own.pop(0)
            if own and own[0] == key:
                own.pop(0)
            if self.changes.get((bucket, key), b"") is not None:
                yield key
        yield from own
