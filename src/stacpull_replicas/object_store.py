"""Objects in buckets, which the blob host and the S3 endpoint serve: their contents and their stores.

`DatasetStore` generates BigEarthNet files (and optional large ones) on request. `MemoryStore` and
`DirectoryStore` serve the objects of a test or a user. `OverlayStore` changes or removes objects of another
store, so that a test can change objects at the source while a mirror is running.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Protocol

import msgspec

from stacpull_replicas.dataset import Dataset
from stacpull_replicas.draws import mix
from stacpull_replicas.http_messages import Content
from stacpull_replicas.rasters import BAND_METRES, pixel_pool

PUBLISHED = datetime(2020, 6, 9, tzinfo=UTC)
"""The date of everything without a date of its own."""

_BLOCK = 65536
_PIECE = 1 << 20


class _Digested:
    """The digests of a content, computed when they are asked for."""

    size: int

    def read(self, start: int, stop: int) -> bytes:
        raise NotImplementedError

    @cached_property
    def md5(self) -> bytes:
        return self._digest("md5")

    @cached_property
    def sha256(self) -> bytes:
        return self._digest("sha256")

    def _digest(self, name: str) -> bytes:
        digest = hashlib.new(name, usedforsecurity=False)
        for start in range(0, self.size, _PIECE):
            digest.update(self.read(start, min(self.size, start + _PIECE)))
        return digest.digest()


class Blob(_Digested):
    """A content held in memory."""

    def __init__(self, data: bytes, modified: datetime = PUBLISHED) -> None:
        self.data, self.modified, self.size = data, modified, len(data)

    def read(self, start: int, stop: int) -> bytes:
        return self.data if stop - start == self.size else self.data[start:stop]


class LargeFile(_Digested):
    """A content of any size, generated in blocks of 64 KiB. Each block starts with its number."""

    modified = PUBLISHED

    def __init__(self, seed: int, number: int, size: int) -> None:
        self.seed, self.number, self.size = seed, number, size

    def _block(self, block: int) -> bytes:
        pool = pixel_pool(self.seed)
        at = mix(self.seed, self.number, block) % (len(pool) - _BLOCK)
        return b"%08x%08x" % (self.number, block) + bytes(pool[at : at + _BLOCK - 16])

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        first = start // _BLOCK
        blocks = b"".join(self._block(block) for block in range(first, (stop - 1) // _BLOCK + 1))
        return blocks[start - first * _BLOCK : stop - first * _BLOCK]


class FileContent(_Digested):
    """A file on disk, as it was at the time of the request."""

    def __init__(self, path: Path, size: int, changed_ns: int) -> None:
        self.path, self.size = path, size
        self.modified = datetime.fromtimestamp(changed_ns // 10**9, UTC)

    def read(self, start: int, stop: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


_file_content = lru_cache(maxsize=1024)(FileContent)
"""The content of a file that has not changed is the same object, so that its digests are computed once."""


DATASET_BUCKET = "radiant-mlhub"
DATASET_PREFIX = "bigearthnet/"
LARGE_PREFIX = "large_files/"
ARCHIVE_PREFIX = "archives/"
_MAX_NAME_LENGTH = 255
CATALOG_PREFIX = "catalogs/"


def content_type(key: str, otherwise: str) -> str:
    """Return the media type of an object. Both services stated one only for archives."""
    return "application/x-tar" if key.startswith(ARCHIVE_PREFIX) else otherwise


class ObjectStore(Protocol):
    """Buckets of keyed, immutable contents."""

    def buckets(self) -> Iterable[str]:
        """Return the names of the buckets."""

    def get(self, bucket: str, key: str) -> Content | None:
        """Return the content of a key, None if there is none."""

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        """Yield the keys that start with `prefix` and sort after `after`, sorted by their UTF-8 bytes."""


class DatasetStore(msgspec.Struct, frozen=True, dict=True):
    """The files of a data set under `bigearthnet/<patch>/<file>`, and `large_items` files of any size."""

    dataset: Dataset
    large_items: int = 0
    large_size: int = 0

    def buckets(self) -> Iterable[str]:
        return (DATASET_BUCKET,)

    def get(self, bucket: str, key: str) -> Content | None:
        if bucket != DATASET_BUCKET:
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
        """The folders in key order, made at the first listing. Nothing else is kept for all patches."""
        names = (self.dataset.name(index) + "/" for index in range(self.dataset.items))
        return sorted(names)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        if bucket != DATASET_BUCKET:
            return
        for key in chain(self._dataset_keys(max(prefix, after)), map(large_key, range(self.large_items))):
            if key > after and key.startswith(prefix):
                yield key
            elif key > prefix and not key.startswith(prefix):
                return

    def _dataset_keys(self, start: str) -> Iterator[str]:
        """Yield the keys of the patches, in order, from the patch of `start`."""
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
    return f"{LARGE_PREFIX}large_{number:04d}.bin"


class MemoryStore(msgspec.Struct):
    """The contents of a test, by bucket and key."""

    contents: Mapping[str, Mapping[str, bytes]]

    def buckets(self) -> Iterable[str]:
        return sorted(self.contents)

    def get(self, bucket: str, key: str) -> Content | None:
        data = self.contents.get(bucket, {}).get(key)
        return None if data is None else Blob(data)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        for key in sorted(self.contents.get(bucket, {}), key=str.encode):
            if key.startswith(prefix) and key.encode() > after.encode():
                yield key


class DirectoryStore(msgspec.Struct, frozen=True):
    """The folders of a directory as buckets, their files as objects. Links out of it are not followed."""

    root: Path

    def buckets(self) -> Iterable[str]:
        return sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())

    def get(self, bucket: str, key: str) -> Content | None:
        steps = key.split("/")
        if "" in steps or ".." in steps or "." in steps or "\0" in key or bucket not in self.buckets():
            return None
        path = (self.root / bucket).joinpath(*steps)
        if any(len(os.fsencode(step)) > _MAX_NAME_LENGTH for step in steps):
            return None  # keys can have such long names, files cannot
        if not path.is_file() or not path.resolve().is_relative_to(self.root.resolve()):
            return None
        status = path.stat()
        return _file_content(path, status.st_size, status.st_mtime_ns)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        top = self.root / bucket
        found = [
            (Path(folder) / name).relative_to(top).as_posix()
            for folder, _, names in os.walk(top)
            for name in names
        ]
        yield from (
            k for k in sorted(found, key=str.encode) if k.startswith(prefix) and k.encode() > after.encode()
        )


class OverlayStore(msgspec.Struct):
    """Changes over a store: `changes[bucket, key]` is the new content, or None for a removed object."""

    under: ObjectStore
    changes: dict[tuple[str, str], bytes | None] = {}

    def buckets(self) -> Iterable[str]:
        return self.under.buckets()

    def get(self, bucket: str, key: str) -> Content | None:
        if self.changes and (bucket, key) in self.changes:
            data = self.changes[bucket, key]
            return None if data is None else Blob(data, PUBLISHED + timedelta(days=365))
        return self.under.get(bucket, key)

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
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
