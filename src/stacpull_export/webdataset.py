"""WebDataset shards: plain tar files of samples, the same bytes for the same mirror.

`OUT/<split>-000000.tar` (`samples-000000.tar` without splits) holds whole samples. Their files share a key,
the name up to the first dot (https://github.com/webdataset/webdataset). The first file of each is a `.json`
with id, labels, label vector and checksums. No two samples have the same key. Times, owners and modes are
fixed. Beside each shard is a Parquet table of its samples, written last: a shard with its table is complete,
and is kept when an interrupted export is started again. `OUT/shards.json` lists the shards with their
SHA-256, and the classes.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import attrs
import orjson

from stacpull.errors import StacpullError, UsageError, destination_errors
from stacpull_export.atomic_file import atomic_file
from stacpull_export.formats import ExportReport, OnProgress
from stacpull_export.ledger_queries import shared_sample_keys
from stacpull_export.mirrored_items import MirrorContents, readable
from stacpull_export.tables import Column, write_table
from stacpull_export.training_samples import SampleFile, SampleOptions, Samples, TrainingSample

SHARD_BYTES = 1_000_000_000
_PIECE = 1 << 20  # bytes of a file in memory
_COLUMNS: Final = (
    Column("key"), Column("id"), Column("collection"), Column("labels", "texts"),
    Column("label_vector", "json"), Column("sha256", "json"),
)  # fmt: skip


class _Shard(NamedTuple):
    """A shard that is complete, as `shards.json` lists it."""

    name: str
    split: str
    samples: int
    bytes: int
    sha256: str


def export_webdataset(
    contents: MirrorContents,
    out: Path,
    options: SampleOptions,
    on_progress: OnProgress,
    *,
    shard_bytes: int = SHARD_BYTES,
    shard_samples: int | None = None,
) -> ExportReport:
    if wrong := next((name for name in options.splits if "/" in name or "\0" in name), None):
        raise UsageError(f"The split {wrong!r} cannot begin the names of files: leave the slash out.")
    splits = tuple(options.splits) or ("",)
    make_export_directory(out, "webdataset")
    _refuse_other_splits(out, splits)
    samples = Samples(contents, options, on_progress)
    shared_keys = shared_sample_keys(contents.db)
    writer = _ShardWriter(contents, out, samples, shared_keys, shard_bytes, shard_samples, on_progress)
    for split in splits:
        writer.write_split(split)
    names = tuple(shard.name for shard in writer.done)
    kept = set(names)  # there may be a shard per sample
    prefixes = "|".join(re.escape(split or "samples") for split in splits)
    own_name = re.compile(rf"\.?({prefixes})-[0-9]{{6}}\.tar(\.parquet)?(\.part)?")
    for entry in out.iterdir():
        if entry.name.removesuffix(".parquet") not in kept and own_name.fullmatch(entry.name):
            entry.unlink()
    document = {
        "classes": list(samples.classes),
        "samples": writer.count,
        "shards": [shard._asdict() for shard in writer.done],
    }
    with atomic_file(out / "shards.json") as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    notes = list[str]()
    if writer.count and not samples.counts["with image"]:
        notes = ["No sample has an image: check the asset filters and --no-source-links of the mirror."]
    return samples.report(names, sum(shard.bytes for shard in writer.done), notes)


def _refuse_other_splits(out: Path, splits: Sequence[str]) -> None:
    try:
        earlier = orjson.loads((out / "shards.json").read_bytes())["shards"]
        others = sorted({shard["split"] for shard in earlier}.difference(splits))
    except (OSError, ValueError, LookupError, TypeError):  # no complete export
        return
    if others:
        shards = f"{others[0] or 'samples'}-*.tar"
        raise UsageError(f"{out} has {shards}: export all splits at once, or choose another directory.")


@attrs.define
class _ShardWriter:
    _contents: MirrorContents
    _out: Path
    _samples: Samples
    _shared_keys: set[str]
    _max_bytes: int
    _max_samples: int | None
    _on_progress: OnProgress
    done: list[_Shard] = attrs.field(factory=list)
    count: int = 0  # samples in `done`

    def write_split(self, split: str) -> None:
        """Write the shards of one split; existing complete ones are kept."""
        checked = self._pass(split)
        rewritten = self._pass(split)  # for shards whose samples were read to compare them, and differed
        number = 0
        while checked.peek() is not None:
            name = f"{split or 'samples'}-{number:06d}.tar"
            start = checked.taken
            shard = self._kept(name, split, checked.shard())
            if shard is None:
                source = rewritten if checked.taken > start else checked
                source.skip_to(start)
                shard = self._written(name, split, source.shard())
            number += 1
            self.done.append(shard)
            self.count += shard.samples
            self._on_progress(self.count)

    def _pass(self, split: str) -> _Pass:
        samples = (sample for sample in self._samples if sample.split == split)
        return _Pass(samples, self._max_bytes, self._max_samples, self._tar_size)

    def _kept(self, name: str, split: str, group: Iterator[TrainingSample]) -> _Shard | None:
        """Return the existing shard, if it is complete and contains these samples."""
        import pyarrow.parquet as pq  # noqa: PLC0415 - heavy

        table, tar = self._out / f"{name}.parquet", self._out / name
        try:
            size = tar.stat().st_size
            with pq.ParquetFile(table) as file:
                stated = file.metadata.metadata or {}
                count = file.metadata.num_rows
        except (OSError, ValueError):
            return None
        digest = stated.get(b"sha256", b"").decode()
        if not digest or str(size).encode() != stated.get(b"bytes"):
            return None
        due = hashlib.sha256()
        for sample in group:
            due.update(self._identity(sample, self._described(sample)))
        if due.hexdigest().encode() != stated.get(b"made_of"):
            return None
        return _Shard(name, split, count, size, digest)

    def _written(self, name: str, split: str, group: Iterator[TrainingSample]) -> _Shard:
        table = self._out / f"{name}.parquet"
        table.unlink(missing_ok=True)
        made_of, stated = hashlib.sha256(), dict[str, str]()
        count = 0

        def rows() -> Iterator[tuple[Any, ...]]:
            """Write the shard, and yield the row of each sample: neither is kept in memory."""
            nonlocal count
            with atomic_file(self._out / name) as file:
                hashed = _HashedFile(file)
                for sample in group:
                    described = self._described(sample)
                    made_of.update(self._identity(sample, described))
                    self._add(hashed, sample, described)
                    count += 1
                    item, vector = sample.item, self._samples.vector(sample)
                    checksums = {file.key: file.sha256 for file in sample.files}
                    yield self._key(sample), item.id, item.collection, list(sample.labels), vector, checksums
                    self._on_progress(self.count + count)
                hashed.write(bytes(_shard_size(hashed.size) - hashed.size))
            stated.update(sha256=hashed.sha256.hexdigest(), bytes=str(hashed.size))
            stated["made_of"] = made_of.hexdigest()

        write_table(table, _COLUMNS, rows(), metadata=stated)
        return _Shard(name, split, count, int(stated["bytes"]), stated["sha256"])

    def _key(self, sample: TrainingSample) -> str:
        """Return the item id, with `_` for each dot and slash.

        If several items have it, or it has a NUL, it is collection and id, with these characters encoded.
        """
        item = sample.item
        key = item.id.replace(".", "_").replace("/", "_")
        if key in self._shared_keys or "\0" in key:
            return f"{_encoded(item.collection)}/{_encoded(item.id)}"
        return key

    def _identity(self, sample: TrainingSample, described: bytes) -> bytes:
        """Return a text that changes when the sample in the shard, with its `.json`, would.

        A file without a SHA-256 is the same if it was not written since.
        """
        state_of = self._contents.files.state_of
        files = [
            (suffix, file.size, file.sha256 or state_of(file.path, algorithm=None).modified)
            for suffix, file in zip(_suffixes(sample.files), sample.files, strict=True)
        ]
        return orjson.dumps([self._key(sample), files]) + described

    def _described(self, sample: TrainingSample) -> bytes:
        properties = sample.item.document["properties"]
        return orjson.dumps(
            {
                "id": sample.item.id,
                "collection": sample.item.collection,
                "datetime": properties.get("datetime"),
                "bbox": sample.item.document.get("bbox"),
                "labels": sample.labels,
                "label_vector": self._samples.vector(sample),
                "sha256": {file.key: file.sha256 for file in sample.files},
            }
        )

    def _tar_size(self, sample: TrainingSample) -> int:
        key = self._key(sample)
        names = [f"{key}.json", *(f"{key}.{suffix}" for suffix in _suffixes(sample.files))]
        sizes = [len(self._described(sample)), *(file.size for file in sample.files)]
        sizes = [size + len(_padding(size)) for size in sizes]
        return sum(sizes) + sum(len(_header(name, 0)) for name in names)

    def _add(self, tar: _HashedFile, sample: TrainingSample, described: bytes) -> None:
        key = self._key(sample)
        tar.write(_header(f"{key}.json", len(described)) + described + _padding(len(described)))
        for file, suffix in zip(sample.files, _suffixes(sample.files), strict=True):
            digest = hashlib.sha256()
            tar.write(_header(f"{key}.{suffix}", file.size))
            for data in self._content(file):
                digest.update(data)
                tar.write(data)
            tar.write(_padding(file.size))
            if file.sha256 and digest.hexdigest() != file.sha256:
                path = f"{self._contents.files.name}/{file.path}"
                raise StacpullError(f"{path} differs from its checksum: {self._contents.verify_first}.")

    def _content(self, file: SampleFile) -> Iterator[bytes]:
        left = file.size
        files = self._contents.files
        with readable(files, file.path), files.open(file.path) as opened:
            while data := opened.read(min(_PIECE, left)):
                yield data
                left -= len(data)
            if left or opened.read(1):
                raise OSError(f"it does not have {file.size:,} bytes")


@attrs.define
class _Pass:
    """A pass over samples that takes as many for each shard as fit in it."""

    _waiting: Iterator[TrainingSample]
    _max_bytes: int
    _max_samples: int | None
    _size_of: Callable[[TrainingSample], int]
    _next: TrainingSample | None = None
    taken: int = 0

    def peek(self) -> TrainingSample | None:
        self._next = self._next or next(self._waiting, None)
        return self._next

    def skip_to(self, position: int) -> None:
        while self.taken < position and self.peek() is not None:
            self._next = None
            self.taken += 1

    def shard(self) -> Iterator[TrainingSample]:
        size = count = 0
        while (sample := self.peek()) is not None:
            more = self._size_of(sample)
            if count and (_shard_size(size + more) > self._max_bytes or count == self._max_samples):
                return
            size += more
            count += 1
            self._next = None
            self.taken += 1
            yield sample


class _HashedFile:
    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0
        self._file = file

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.size += len(data)
        self._file.write(data)


def _encoded(name: str) -> str:
    return name.replace("%", "%25").replace(".", "%2E").replace("/", "%2F").replace("\0", "%00")


def _suffixes(files: Sequence[SampleFile]) -> Iterator[str]:
    """Yield the name of each file of a sample behind the key, such as `B01.tif`.

    Readers ignore case, so the second file of a name gets a number: `B01.2.tif`.
    """
    taken: Counter[str] = Counter()
    for file in files:
        name = file.key.replace(".", "_").replace("/", "_").replace("\0", "_")
        extension = os.path.splitext(file.path)[1].lower() or ".bin"  # noqa: PTH122 - text, not a path here
        folded = f"{name}{extension}".lower()
        taken[folded] += 1
        number = f".{taken[folded]}" if taken[folded] > 1 else ""
        yield f"{name}{number}{extension}"


def _header(name: str, size: int) -> bytes:
    """Return the header of a file, with time 0 and owner 0: the same samples give the same bytes.

    `tarfile.TarFile` would keep every header in memory.
    """
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")


def _padding(size: int) -> bytes:
    """Return the zeros behind a file of `size` bytes, up to the next block."""
    return bytes(-size % tarfile.BLOCKSIZE)


def _shard_size(size: int) -> int:
    """Return the length of a shard with `size` bytes of samples: two empty blocks, and whole records."""
    return -(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def make_export_directory(out: Path, form: str) -> None:
    """Make the directory, and mark it as an export, so that its files may be replaced and removed."""
    marker = out / ".stacpull-export"
    with destination_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        foreign = next(out.iterdir(), None)
        if marker.exists():
            before = marker.read_text(encoding="utf-8", errors="replace")
            if before not in ("", form):
                raise UsageError(f"{out} holds an export in the format {before}: choose another directory.")
        elif foreign is not None:
            raise UsageError(
                f"{out} holds {foreign.name}, which is not part of an export: choose another directory."
            )
        marker.write_text(form, encoding="utf-8")
