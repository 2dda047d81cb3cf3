"""Training samples: an item of the mirror with its labels and files, those of its source imagery included.

A sample is a primary item. The files of a label item are its own, and those of the items in the mirror to
which its `source` links lead. So a BigEarthNet sample has its label file and its twelve bands.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from stacpull.catalog.item import path_of_href
from stacpull.errors import StacpullError, UsageError, quantity
from stacpull.filters.item_filters import IdsFilter
from stacpull.filters.labels import FOLDED_TO_BEN19, NOMENCLATURES, class_lists, fold_label, item_labels
from stacpull.json_values import object_or_empty, objects_in
from stacpull.ledger import queries
from stacpull.models import Json
from stacpull_export.formats import ExportReport, OnProgress
from stacpull_export.mirrored_items import MirrorContents, MirroredItem

MAX_CLASSES = 10_000  # label names of a mirror: each has a column, and a number in each sample
_SHA256 = "1220"  # begins the multihash of a SHA-256 (`file:checksum`)


class SampleFile(NamedTuple):
    key: str  # of the asset; if several source items have it, the item's number comes first: `2_B01`
    path: str  # relative to DEST
    size: int  # in bytes
    sha256: str  # in hexadecimal digits; empty if the mirror has none
    item: str = ""  # the id of the item that has the asset


class TrainingSample(NamedTuple):
    item: MirroredItem
    labels: tuple[str, ...]  # their names, in the order of the classes
    files: tuple[SampleFile, ...]  # sorted by key
    split: str  # the name of the item's split; empty without splits


class SampleOptions(NamedTuple):
    collections: tuple[str, ...] = ()
    splits: Mapping[str, Sequence[str]] = {}
    nomenclature: str | None = None
    label_property: str | None = None


class Samples:
    def __init__(self, contents: MirrorContents, options: SampleOptions, on_progress: OnProgress) -> None:
        """Find the classes: the items are read once for them."""
        self._contents = contents
        self._options = options
        self._splits = {name: IdsFilter(ids) for name, ids in options.splits.items()}
        self.counts = Counter[str]()  # of the last complete pass
        self._key_sets: Mapping[str, Counter[frozenset[str]]] = {}  # asset keys of samples, by collection
        self.classes = self._classes(on_progress)
        self._order = {fold_label(name): (rank, name) for rank, name in enumerate(self.classes)}

    def __iter__(self) -> Iterator[TrainingSample]:
        counts = Counter[str]()
        key_sets: defaultdict[str, Counter[frozenset[str]]] = defaultdict(Counter)
        for item in self._contents.items(self._options.collections, linked=False):
            split = split_of(item.id, self._splits)
            if split is None:
                counts["left out"] += 1
            else:
                folded = list(map(fold_label, self._label_names(item.document)))
                if self._options.nomenclature == "ben19":
                    folded = [FOLDED_TO_BEN19[name] for name in folded if name in FOLDED_TO_BEN19]
                known = sorted({self._order[name] for name in folded if name in self._order})
                files = self._files(item)
                counts["samples"] += 1
                counts["without label"] += not known
                counts["with image"] += any(not file.path.endswith("json") for file in files)
                if len(key_sets[item.collection]) < MAX_CLASSES:  # a source can name any number of assets
                    key_sets[item.collection][frozenset(file.key for file in files)] += 1
                yield TrainingSample(item, tuple(name for _, name in known), files, split)
        self.counts = counts
        self._key_sets = key_sets

    def report(self, files: tuple[str, ...], size: int, more: Sequence[str] = ()) -> ExportReport:
        """Return the report on an export; call it after all samples were read."""
        numbers = self.counts
        count, unlabelled, left_out = numbers["samples"], numbers["without label"], numbers["left out"]
        notes = list[str]()
        if left_out:
            what = quantity(left_out, "item is in no split and was", "items are in no split and were")
            notes.append(f"{what} left out.")
        for name, check in self._splits.items():
            missing = check.missing()
            if missing:
                what = quantity(len(missing), "ID matches", "IDs match")
                shown = ", ".join(missing[:3])[:200]
                notes.append(f"In the split {name}, {what} no item of the mirror, such as {shown}.")
        if not count:
            notes.append("There are no samples: no items, or only linked images (see --collection).")
        elif count == unlabelled:
            notes.append("No sample has a label: mirror the label collection, or set --label-property.")
        elif unlabelled:
            notes.append(f"Samples without a label: {unlabelled:,}.")
        lacking: Counter[str] = Counter()
        samples = 0
        for key_sets in self._key_sets.values():
            every = frozenset[str]().union(*key_sets)
            for keys, number in key_sets.items():
                if keys != every:
                    lacking.update(dict.fromkeys(every - keys, number))
                    samples += number
        if samples:
            by_number = sorted(lacking.items(), key=lambda pair: (-pair[1], pair[0]))
            names = ", ".join(f"{key}: {number:,}" for key, number in by_number)[:400]
            notes.append(f"Samples that lack an asset: {samples:,} ({names}).")
        notes += [*self._contents.notes(), *more]
        return ExportReport(count, files, size, tuple(notes), items_without_label=unlabelled)

    def vector(self, sample: TrainingSample) -> list[int]:
        present = set(sample.labels)
        return [int(name in present) for name in self.classes]

    def _classes(self, on_progress: OnProgress) -> tuple[str, ...]:
        if self._options.nomenclature is not None:
            return NOMENCLATURES[self._options.nomenclature]
        listed: dict[str, str] = {}
        for document in self._contents.collections.values():
            for names in class_lists([], document).values():
                for name in names:
                    listed.setdefault(fold_label(name), name.strip())
        met: defaultdict[str, Counter[str]] = defaultdict(Counter)
        items = self._contents.items(self._options.collections, linked=False)
        for number, item in enumerate(items, 1):
            for name in self._label_names(item.document):
                met[fold_label(name)][name.strip()] += 1
            if len(met) > MAX_CLASSES:
                raise StacpullError(
                    f"The items have more than {MAX_CLASSES:,} different labels, and each is a class: "
                    "--label-property names the property that holds their classes."
                )
            if number % 500 == 0:
                on_progress(number, "reading labels")
        # a class has its most frequent spelling
        others = sorted(max(met[name], key=met[name].__getitem__) for name in met.keys() - listed.keys())
        return (*(name for folded, name in listed.items() if folded in met), *others)

    def _label_names(self, document: Json) -> list[str]:
        return item_labels(object_or_empty(document.get("properties")), self._options.label_property)

    def _files(self, item: MirroredItem) -> tuple[SampleFile, ...]:
        found: dict[str, SampleFile] = {}
        for number, files in enumerate(self._files_by_item(item)):
            for file in files:
                name = f"{number}_{file.key}" if file.key in found else file.key
                found[name] = file._replace(key=name)
        return tuple(found[key] for key in sorted(found))

    def _files_by_item(self, item: MirroredItem) -> Iterator[Iterator[SampleFile]]:
        """Yield the files of the item and of each source item. With `ndjson`, they are in the ledger."""
        yield local_files(item.path, item.document)
        start = item.path.rpartition("/")[0]
        links = objects_in(item.document.get("links"))
        hrefs = [link.get("href") for link in links if str(link.get("rel")).lower() == "source"]
        for path in filter(None, dict.fromkeys(path_of_href(href, start) for href in hrefs)):
            document = self._contents.document(path)
            if document is not None:
                yield local_files(path, document)
                continue
            db = self._contents.db
            for rowid, name, _ in queries.items_in(db, path.rpartition("/")[0]):
                files = queries.files_of(db, [rowid])[rowid]
                yield (
                    SampleFile(key, file.path, file.size, (file.sha256 or b"").hex(), name)
                    for key, file in files.items()
                    if file.size is not None
                )


def split_of(item_id: str, splits: Mapping[str, IdsFilter]) -> str | None:
    if not splits:
        return ""
    found = [name for name, check in splits.items() if check({"id": item_id}, {}) is None]
    if len(found) > 1:
        raise UsageError(f"{item_id} is in the splits {' and '.join(found)}: an item can be in one only.")
    return found[0] if found else None


def local_files(path: str, document: Json) -> Iterator[SampleFile]:
    directory = path.rpartition("/")[0]
    for key, asset in object_or_empty(document.get("assets")).items():
        members = object_or_empty(asset)
        local = path_of_href(members.get("href"), directory)
        size = members.get("file:size")
        if local is not None and isinstance(size, int):
            checksum = str(members.get("file:checksum") or "")
            sha256 = checksum.removeprefix(_SHA256) if checksum.startswith(_SHA256) else ""
            yield SampleFile(key, local, size, sha256, str(document.get("id")))
