"""A store that keeps one bit for each of eight million files, whose content can be computed.

Assets and item JSON are bits in one small file, which the processes of a run and later commands share. The
store compares the number and the size of a published asset with those of its path. Catalogs are real files,
because their content cannot be computed.

`main` is the store process of a run on such a DEST.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import new
from pathlib import Path
from typing import Any

from tests.bench.simulated_patches import (
    LABEL_JSON,
    LABELS,
    PER_PATCH,
    SLOTS,
    SOURCE,
    SOURCE_JSON,
    Patches,
    content,
    number_in,
    size_of,
)

from stacpull.engine import store_server
from stacpull.models import Failure, FailureKind
from stacpull.store import store_choice
from stacpull.store.local_store import LocalStore
from stacpull.store.protocol import Entry, FileState, IsStopped, PartEntry, never

_JSON_SIZE = 1
"""The reported size of item JSON; no tested command compares it."""
_PUBLISHED_AT_ONCE = (".whole", ".item.json")
"""Extensions of parts that are published whole and never resumed."""


def bits_path(dest: Path) -> Path:
    """Return the path of the file with the bits of DEST."""
    return dest / ".stacpull" / "simulated"


def make_bits(dest: Path, assets: int) -> None:
    """Prepare an empty DEST for `assets` files."""
    bits_path(dest).parent.mkdir(parents=True, exist_ok=True)
    size = 8 + Patches.of_all(assets) * PER_PATCH // 8
    bits_path(dest).write_bytes(assets.to_bytes(8, "little").ljust(size, b"\0"))


class _Bits:
    """One bit for each file, set if it exists, in a file that all processes map."""

    def __init__(self, dest: Path) -> None:
        with bits_path(dest).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.patches = Patches.of(int.from_bytes(self._map[:8], "little"))

    def has(self, number: int) -> bool:
        return bool(self._map[8 + (number >> 3)] >> (number & 7) & 1)

    def put(self, number: int, *, there: bool) -> None:
        at, bit = 8 + (number >> 3), 1 << (number & 7)
        self._map[at] = self._map[at] | bit if there else self._map[at] & ~bit

    def close(self) -> None:
        self._map.close()


class SimulatedStore(LocalStore):
    """A `Store` with the ledger and the catalogs in a directory, and all other files as bits."""

    def __init__(self, dest: Path, **given: Any) -> None:
        super().__init__(dest, **given)
        self._bits = _Bits(dest)
        self._staged: dict[str, tuple[int, int]] = {}
        """The number and the size of a file by the name of its part."""
        self._patch_in = lru_cache(64)(self._find_patch)

    def close(self) -> None:
        self._bits.close()
        super().close()

    @property
    def covers_ledger(self) -> bool:
        return True

    def _find_patch(self, directory: str) -> tuple[str, int] | None:
        """Return the collection and the index of the patch for an item directory."""
        collection, _, item = directory.partition("/")
        if collection not in (LABELS, SOURCE) or not item.startswith(f"{collection}_"):
            return None
        index = self._bits.patches.index_of(item[len(collection) + 1 :])
        return None if index is None else (collection, index)

    def _number(self, path: str) -> int | None:
        """Return the number of the file at `path`, None if it is not simulated."""
        directory, _, name = path.rpartition("/")
        found = self._patch_in(directory)
        if found is None:
            return None
        key, _, suffix = name.partition(".")
        slot = SLOTS.get(key)
        if slot is None and name == f"{directory.rpartition('/')[2]}.json":
            slot = LABEL_JSON if found[0] == LABELS else SOURCE_JSON
        elif slot is None or suffix != ("json" if found[0] == LABELS else "tif"):
            raise ValueError(f"{path} is not a file of this dataset")
        return found[1] * PER_PATCH + slot

    # --- reading -----------------------------------------------------------------------------------------

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        number = self._number(path)
        if number is None:
            return super().state_of(path, algorithm=algorithm, is_stopped=is_stopped)
        if not self._bits.has(number):
            return FileState()
        patch, slot = divmod(number, PER_PATCH)
        if algorithm is None:
            return FileState(_size(slot))
        return FileState(_size(slot), new(algorithm, _content(patch, slot)).digest())

    def obstacle(self, path: str) -> str | None:
        return super().obstacle(path) if self._number(path) is None else None

    def has(self, path: str, *, unknown: bool = True) -> bool:
        number = self._number(path)
        return super().has(path, unknown=unknown) if number is None else self._bits.has(number)

    def read(self, path: str) -> bytes | None:
        number = self._number(path)
        if number is None:
            return super().read(path)
        return _content(*divmod(number, PER_PATCH)) if self._bits.has(number) else None

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        number = self._number(f"{directory}/{name}")
        if number is None:
            return super().identity(directory, name)
        return (number, _size(number % PER_PATCH)) if self._bits.has(number) else None

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        """Yield the files of each directory; the directories are not in the order of the ledger."""
        yield from super().walk(skipped)
        patches = self._bits.patches
        for collection in (LABELS, SOURCE):
            for place in range(patches.items):
                index = place * 999_983 % patches.items
                item = f"{collection}_{patches.name(index)}"
                names = _LABEL_FILES if collection == LABELS else _SOURCE_FILES
                there = [
                    Entry(f"{collection}/{item}/{name or item + '.json'}", is_file=True)
                    for slot, name in names
                    if self._bits.has(index * PER_PATCH + slot)
                ]
                if there:
                    yield there

    # --- parts -------------------------------------------------------------------------------------------

    def write_part(self, name: str, body: bytes) -> int:
        if not name.endswith(_PUBLISHED_AT_ONCE):
            return super().write_part(name, body)
        number = number_in(body)
        self._staged[name] = number, len(body)
        return number

    def drop_part(self, name: str) -> None:
        if self._staged.pop(name, None) is None:
            super().drop_part(name)

    def list_parts(self) -> list[PartEntry]:
        staged = [PartEntry(name, *found) for name, found in self._staged.items()]
        return sorted([*super().list_parts(), *staged])

    # --- publishing --------------------------------------------------------------------------------------

    def sync(self, parts: Sequence[str]) -> None:
        """Do nothing: the bits need not survive a crash of the machine."""
        del parts
        self.take_changed()

    def mark_changed(self, directory: str) -> None:
        if self._patch_in(directory) is None:
            super().mark_changed(directory)

    def place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        if part not in self._staged:
            return super().place(part, directory, name, replace=replace)
        path = f"{directory}/{name}"
        number = self._number(path)
        if number is None:
            raise ValueError(f"{path} is not a file of this dataset")
        if self._bits.has(number) and not replace:
            return Failure(FailureKind.EXISTS, f"{path} exists and is not part of this mirror.")
        slot = number % PER_PATCH
        if slot < LABEL_JSON and self._staged[part] != (number, size_of(slot)):
            raise ValueError(f"{path} has the content of another file")
        del self._staged[part]
        self._bits.put(number, there=True)
        return None

    def remove(self, directory: str, name: str) -> None:
        number = self._number(f"{directory}/{name}")
        if number is None:
            super().remove(directory, name)
        else:
            self._bits.put(number, there=False)

    def tidy(self, directory: str) -> None:
        if self._patch_in(directory) is None:
            super().tidy(directory)


def _size(slot: int) -> int:
    return size_of(slot) if slot < LABEL_JSON else _JSON_SIZE


def _content(patch: int, slot: int) -> bytes:
    if slot >= LABEL_JSON:
        raise NotImplementedError("the content of item JSON is not stored")
    return content(patch, slot)


_LABEL_FILES = [(SLOTS["labels"], "labels.json"), (LABEL_JSON, "")]
_SOURCE_FILES = [
    *((slot, f"{key}.tif") for key, slot in SLOTS.items() if key != "labels"),
    (SOURCE_JSON, ""),
]


def main() -> None:
    """Run the store process of a run with a simulated DEST. Does not return."""
    vars(store_choice)["LocalStore"] = SimulatedStore  # `mock` would import asyncio, which takes 5 MB
    store_server.main()
