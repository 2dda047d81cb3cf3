"""The trees that TorchGeo's `BigEarthNet` and `BigEarthNetV2` read.

    version 1   OUT/BigEarthNet-v1.0/<patch>/<patch>_B01.tif …, <patch>_labels_metadata.json
                OUT/BigEarthNet-S1-v1.0/<s1 name>/<s1 name>_VV.tif …, <s1 name>_labels_metadata.json
                OUT/bigearthnet-train.csv, -val.csv, -test.csv: lines of <patch>,<s1 name>
    version 2   OUT/BigEarthNet-S2/<tile>/<patch>/<patch>_B01.tif …
                OUT/BigEarthNet-S1/<tile>/<s1 name>/<s1 name>_VV.tif …
                OUT/Reference_Maps/<tile>/<patch>/<patch>_reference_map.tif
                OUT/metadata.parquet: patch_id, labels (of 19), split, s1_name and the flags

Files are hard links to those of the mirror, or copies where OUT is on another file system. The lists are
written last: a tree that has them is complete. If an export is run again, it keeps the existing files.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from stacpull.errors import DestinationError, StacpullError, UsageError, destination_error, destination_errors
from stacpull.filters.item_filters import read_boolean
from stacpull.planning.names import safe_segment
from stacpull_export.atomic_file import atomic_file
from stacpull_export.formats import ExportReport, OnProgress
from stacpull_export.mirrored_items import MirrorContents
from stacpull_export.tables import Column, write_table
from stacpull_export.training_samples import SampleFile, SampleOptions, Samples, TrainingSample
from stacpull_export.webdataset import make_export_directory

_KINDS: Final = {
    "s2": re.compile(r"B0[1-9]|B8A|B11|B12"),
    "s1": re.compile(r"VV|VH"),
    "map": re.compile(r"reference_map"),
    "labels": re.compile(r"labels(?:_metadata)?"),
}
"""The asset keys of each kind of file, without the number of the item (`SampleFile.key`)."""
_PREFIX: Final = re.compile(r"bigearthnet_v\d_(?:labels|source|s1|s2)_")
"""The prefix that MLHub adds to the name of a patch."""
_S2_BANDS: Final = 12
_COLUMNS: Final = (
    Column("patch_id"), Column("labels", "texts"), Column("split"), Column("s1_name"),
    Column("contains_seasonal_snow", "boolean"), Column("contains_cloud_or_shadow", "boolean"),
)  # fmt: skip
_size_time = attrgetter("st_size", "st_mtime_ns")
_SPLITS: Final = ("train", "val", "test")


class _NamedSample(NamedTuple):
    name: str
    s1_name: str
    files: dict[str, list[SampleFile]]  # by kind: `s2`, `s1`, `map`, `labels`


def export_torchgeo_v1(
    contents: MirrorContents, out: Path, options: SampleOptions, on_progress: OnProgress
) -> ExportReport:
    if options.nomenclature == "ben19":
        raise UsageError("Version 1 has 43 classes, and num_classes=19 maps them: leave --nomenclature out.")
    tree = _Tree(contents, out, options, on_progress, "torchgeo-v1")
    names = {split: f"bigearthnet-{split}.csv" for split in _SPLITS}
    with ExitStack() as opened:
        lists = {split: opened.enter_context(atomic_file(out / name)) for split, name in names.items()}
        for sample, patch in tree.patches():
            places = (("s2", "BigEarthNet-v1.0", patch.name), ("s1", "BigEarthNet-S1-v1.0", patch.s1_name))
            for kind, top, name in places:
                if name:
                    tree.place(patch.files[kind], f"{top}/{name}", name)
                    tree.place_labels(sample, patch.files["labels"], f"{top}/{name}", name)
            lists[sample.split or _SPLITS[0]].write(f"{patch.name},{patch.s1_name}\n".encode())
        tree.complete("BigEarthNet-v1.0", "BigEarthNet-S1-v1.0")
    return tree.report(tuple(names.values()))


def export_torchgeo_v2(
    contents: MirrorContents, out: Path, options: SampleOptions, on_progress: OnProgress
) -> ExportReport:
    if options.nomenclature == "clc43":
        raise UsageError("Version 2 has the 19 classes: leave --nomenclature clc43 out.")
    tree = _Tree(contents, out, options._replace(nomenclature="ben19"), on_progress, "torchgeo-v2")

    def rows() -> Iterator[tuple[Any, ...]]:
        for sample, patch in tree.patches():
            yield _placed_row(tree, sample, patch)
        tree.complete("BigEarthNet-S2", "BigEarthNet-S1", "Reference_Maps")

    write_table(out / "metadata.parquet", _COLUMNS, rows())
    return tree.report(("metadata.parquet",), tree.without_map)


def _placed_row(tree: _Tree, sample: TrainingSample, patch: _NamedSample) -> tuple[Any, ...]:
    tile = "_".join(patch.name.split("_")[:-2])
    tree.place(patch.files["s2"], f"BigEarthNet-S2/{tile}/{patch.name}", patch.name)
    tree.place(patch.files["map"], f"Reference_Maps/{tile}/{patch.name}", patch.name)
    if patch.s1_name:
        s1_tile = "_".join(patch.s1_name.split("_")[:-3])
        tree.place(patch.files["s1"], f"BigEarthNet-S1/{s1_tile}/{patch.s1_name}", patch.s1_name)
    split = sample.split or _SPLITS[0]
    properties = sample.item.document["properties"]
    return (
        patch.name,
        list(sample.labels),
        "validation" if split == "val" else split,
        patch.s1_name or None,
        read_boolean(properties.get("seasonal_snow")),
        read_boolean(properties.get("cloud_and_shadow")),
    )


class _Tree:
    def __init__(
        self, contents: MirrorContents, out: Path, options: SampleOptions, on_progress: OnProgress, form: str
    ) -> None:
        if unknown := set(options.splits) - {*_SPLITS}:
            raise UsageError(f"TorchGeo has the splits train, val and test, not {min(unknown)}.")
        self.without_map = 0
        self._contents = contents
        self._out = out
        self._bytes = self._incomplete = 0
        make_export_directory(out, form)
        self._samples = Samples(contents, options, on_progress)
        self._on_progress = on_progress

    def patches(self) -> Iterator[tuple[TrainingSample, _NamedSample]]:
        names = set[str]()
        for sample in self._samples:
            patch = _patch_of(sample)
            if patch.name in names:
                raise UsageError(
                    f"Several items are the patch {patch.name}, the last one in {sample.item.collection}: "
                    "choose the collections with --collection."
                )
            names.add(patch.name)
            self._incomplete += len(patch.files["s2"]) < _S2_BANDS
            self.without_map += not patch.files["map"]
            yield sample, patch
            self._on_progress(len(names))

    def place(self, files: list[SampleFile], folder: str, name: str) -> None:
        placed: set[Path] = set()
        for file in files:
            key = _bare_key(file)
            suffix = Path(file.path).suffix or ".tif"
            target = self._out / folder / f"{name}_{safe_segment(key)}{suffix}"
            if target in placed:
                raise StacpullError(f"{name} has several files for {key}, and TorchGeo reads only one.")
            self._link(file, target)
            placed.add(target)
            self._bytes += file.size

    def place_labels(self, sample: TrainingSample, files: list[SampleFile], folder: str, name: str) -> None:
        target = self._out / folder / f"{name}_labels_metadata.json"
        if files:
            self._link(files[0], target)
            self._bytes += files[0].size
            return
        data = orjson.dumps({"labels": sample.labels})
        with destination_errors(target):
            if target.is_file() and not target.is_symlink() and target.read_bytes() == data:
                return
            with atomic_file(target) as file:
                file.write(data)

    def complete(self, *names: str) -> None:
        """Make these directories, which TorchGeo looks for even if they are empty, and sync the tree."""
        for name in names:
            (self._out / name).mkdir(exist_ok=True)
        os.sync()

    def report(self, lists: tuple[str, ...], without_map: int = 0) -> ExportReport:
        counts = {
            "Samples with fewer than the 12 bands of Sentinel-2: ": self._incomplete,
            "Samples without a reference map, which BigEarthNetV2 cannot load: ": without_map,
        }
        notes = [f"{text}{number:,}." for text, number in counts.items() if number]
        if self._incomplete and not self._bytes:
            notes = ["No asset key is a band, such as B02 or VV: the tree has no images."]
        return self._samples.report(lists, self._bytes, notes)

    def _link(self, file: SampleFile, target: Path) -> None:
        source = self._contents.dest / file.path
        part = target.with_name(f".{target.name}.part")
        state = self._contents.files.state_of(file.path, algorithm=None)
        if state.obstacle is not None:
            raise DestinationError(f"{source} cannot be read: there is {state.obstacle}.")
        if state.size not in {None, file.size}:  # None: it is missing
            raise DestinationError(f"{source} is not of {file.size:,} bytes: {self._contents.verify_first}.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target) and os.path.samestat(target.lstat(), source.lstat()):
                return
            part.unlink(missing_ok=True)
            try:
                os.link(source, part, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                if os.path.lexists(target) and _size_time(target.lstat()) == _size_time(source.lstat()):
                    return
                shutil.copy2(source, part, follow_symlinks=False)
            part.replace(target)
        except FileNotFoundError as error:
            raise DestinationError(f"{source} is missing: {self._contents.verify_first}.") from error
        except OSError as error:
            raise destination_error(error, target) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _bare_key(file: SampleFile) -> str:
    return re.sub(r"^\d{1,9}_", "", file.key)


def _patch_of(sample: TrainingSample) -> _NamedSample:
    files: dict[str, list[SampleFile]] = {kind: [] for kind in _KINDS}
    for file in sample.files:
        key = _bare_key(file)
        for kind, pattern in _KINDS.items():
            if pattern.fullmatch(key):
                files[kind].append(file)
    s1_name = ""
    if files["s1"]:
        s1_name = safe_segment(_PREFIX.sub("", files["s1"][0].item))
    return _NamedSample(safe_segment(_PREFIX.sub("", sample.item.id)), s1_name, files)
