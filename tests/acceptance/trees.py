"""The actual and the expected contents of a mirror, compared file by file, independently of the ledger."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.command import LABELS

from stacpull_replicas import Dataset, ExpectedFile, manifest

TOKEN = re.compile(rb"http://127\.0\.0\.1:\d+(/mlhub/v1)(?:/download/[\w-]+=*)?")
PORT = re.compile(rb"127\.0\.0\.1[-:]\d+")
"""In the id and title of the catalog, which name the source."""
_OWN = {
    *("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.sqlite-journal"),
    *("ledger.backup", "ledger.backup.part", "lock", "boot", "log.ndjson"),
}


@dataclass(frozen=True)
class Damage:
    """What is wrong with a mirror; nothing, if all are empty. Paths relative to DEST."""

    lost: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.altered or self.orphaned)


def files_in(top: Path) -> dict[str, Path]:
    """Every file below `top` by its relative path, what is stacpull's own left out."""
    found = {path.relative_to(top).as_posix(): path for path in top.rglob("*") if not path.is_dir()}
    return {name: path for name, path in found.items() if not name.startswith(".stacpull/")}


def assets_of(dest: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_in(dest).items() if name.endswith(".bin")}


def digests_in(top: Path) -> dict[str, str]:
    return {name: digest(path) for name, path in files_in(top).items()}


def expected_files(dataset: Dataset, indices: Iterable[int]) -> dict[str, ExpectedFile]:
    """The assets of the chosen patches in the tree of the notebook, by path."""
    return {
        f"bigearthnet/{LABELS}_{dataset.name(index)}/{file.name}": file
        for index in indices
        for file in manifest(dataset, index)
    }


def metadata_files(assets: Mapping[str, ExpectedFile]) -> set[str]:
    """The catalog, collections and items that belong to these assets."""
    items = {(file.collection, file.item_id) for file in assets.values()}
    paths = {f"{collection}/{item}/{item}.json" for collection, item in items}
    paths |= {f"{collection}/collection.json" for collection, _ in items}
    return paths | {"catalog.json"}


def damage(dest: Path, assets: Mapping[str, ExpectedFile]) -> Damage:
    """Hold a finished mirror against what it should be, by digests."""
    metadata = metadata_files(assets)
    found = files_in(dest)
    altered = [name for name, one in assets.items() if name in found and digest(found[name]) != one.sha256]
    own = dest / ".stacpull"
    leftovers = [path for path in own.rglob("*") if path.is_file() and path.name not in _OWN]
    return Damage(
        lost=sorted((assets.keys() | metadata) - found.keys()),
        altered=sorted(altered),
        orphaned=sorted(found.keys() - assets.keys() - metadata)
        + sorted(path.relative_to(dest).as_posix() for path in leftovers),
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metadata_in(top: Path) -> dict[str, bytes]:
    """The JSON documents of a mirror; what no two replicas have in common (port, download tokens) is cut."""
    documents = {name: path for name, path in files_in(top).items() if name.endswith(".json")}
    return {
        name: PORT.sub(b"HOST", TOKEN.sub(rb"\1", path.read_bytes()))
        for name, path in documents.items()
        if not name.startswith("bigearthnet/")
    }
