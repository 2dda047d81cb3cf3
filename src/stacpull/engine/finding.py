"""Where a rebuild finds items: in the order of the catalogs, then what these do not list, then in NDJSON.

Items are read, and the files that they name hashed, by threads; they come out in the order in which they were
found. What is asked for in between (`is_known`) is asked on the caller's thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stacpull.catalog.contents import ListedCollection
from stacpull.engine.catalogs import LINES_FILE
from stacpull.engine.evidence import Examined, examine, examine_line
from stacpull.models import ItemId
from stacpull.planning.items import item_document_path

__all__ = ["DOCUMENT_DEPTH", "Finder", "Found"]

DOCUMENT_DEPTH = 3
"""Segments in the path of an item's JSON."""
_OWN = ".stacpull"
_UNIT = 16
"""Items that a thread is given at once."""
_THREADS = min(16, 2 * (os.cpu_count() or 1))


class Found(NamedTuple):
    """A place where an item should be: which one, if a catalog says so, and what is there (None: no item)."""

    path: str
    listed: ItemId | None
    examined: Examined | None


_Work = Callable[[], Found]


class Finder:
    """Finds items below `dest` (descriptor `root`); to be used as a context, which ends its threads."""

    def __init__(self, dest: Path, root: int, is_stopped: Callable[[], bool]) -> None:
        self._dest = dest
        self._root = root
        self._is_stopped = is_stopped
        self._threads = ThreadPoolExecutor(_THREADS, "stacpull-rebuild")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def listed(self, collection: ListedCollection) -> Iterator[Found]:
        """Yield the items that a collection lists, in its order."""
        places = ((item, path) for item, path in collection.items() if _is_at_its_place(item, path))
        return self._in_order(partial(self._examine, path, item) for item, path in places)

    def unlisted(self, is_known: Callable[[str], bool]) -> Iterator[Found]:
        """Yield the items that lie in DEST at places that are not known: a kill came before the catalogs."""
        paths = (path for path in self._json_files() if not is_known(path))
        return self._in_order(partial(self._examine, path, None) for path in paths)

    def files_of_lines(self) -> Iterator[str]:
        """Yield the paths of NDJSON files of items."""
        for collection in _directories(self._dest):
            path = f"{collection}/{LINES_FILE}"
            if (self._dest / path).is_file() and not (self._dest / path).is_symlink():
                yield path

    def lines(self, path: str) -> Iterator[Found]:
        """Yield the items of an NDJSON file."""
        with (self._dest / path).open("rb") as file:
            yield from self._in_order(partial(self._examine_line, line, path) for line in file)

    def _json_files(self) -> Iterator[str]:
        for collection in _directories(self._dest):
            for item in _directories(self._dest / collection):
                directory = f"{collection}/{item}"
                with os.scandir(self._dest / directory) as listed:
                    names = sorted(one.name for one in listed if one.name.endswith(".json"))
                yield from (f"{directory}/{name}" for name in names)

    def _examine(self, path: str, listed: ItemId | None) -> Found:
        examined = examine(self._dest, self._root, path, self._is_stopped)
        if examined is not None and not _is_at_its_place(examined.item.id, path):
            examined = None
        return Found(path, listed, examined)

    def _examine_line(self, line: bytes, path: str) -> Found:
        return Found(path, None, examine_line(self._root, line, path, self._is_stopped))

    def _in_order(self, work: Iterator[_Work]) -> Iterator[Found]:
        """Have threads do the work, and yield what comes of it in its order; less than all if stopped."""
        under_way: deque[Future[list[Found]]] = deque()
        for unit in _units(work):
            if self._is_stopped():
                return
            under_way.append(self._threads.submit(_done, unit))
            if len(under_way) > 2 * _THREADS:
                yield from under_way.popleft().result()
        while under_way and not self._is_stopped():
            yield from under_way.popleft().result()


def _done(unit: list[_Work]) -> list[Found]:
    return [one() for one in unit]


def _is_at_its_place(item: ItemId, path: str) -> bool:
    """Return True if an item's JSON may lie there: its directory may have been kept apart from another."""
    collection, _, name = item_document_path(item).split("/")
    segments = path.split("/")
    return len(segments) == DOCUMENT_DEPTH and (segments[0], segments[2]) == (collection, name)


def _directories(top: Path) -> list[str]:
    with os.scandir(top) as listed:
        return sorted(one.name for one in listed if one.is_dir(follow_symlinks=False) and one.name != _OWN)


def _units(work: Iterator[_Work]) -> Iterator[list[_Work]]:
    unit: list[_Work] = []
    for one in work:
        unit.append(one)
        if len(unit) >= _UNIT:
            yield unit
            unit = []
    if unit:
        yield unit
