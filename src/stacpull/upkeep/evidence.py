"""How a rebuild finds the items of a mirror, and which of their files it trusts.

Items come from the catalogs in their order, then from directories that no catalog lists, then from NDJSON.
Threads read the items and hash their files; the results keep that order. The trust in a file:

    a digest matches: the item's `file:checksum`, or the SHA-256 of the old ledger   BY_CHECKSUM
    the size matches: the item's `file:size`, or that of the old ledger              BY_SIZE
    anything differs, the file does not exist, or nothing states its digest or size  not trusted

A name alone is no evidence: an item's JSON that others wrote may name any file in DEST. `upkeep.rebuild`
states which files without trust the next run may replace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

import msgspec

from stacpull.catalog.contents import ListedCollection, parsed_file
from stacpull.catalog.stored import StoredAsset, StoredItem, stored_item
from stacpull.events import DamageKind
from stacpull.ledger.rebuilding import OldAsset
from stacpull.models import ItemId, Json
from stacpull.planning.item_plan import item_document_path
from stacpull.planning.names import LINES_FILE
from stacpull.store.inspection import digest_in, lines_in
from stacpull.store.protocol import FileState, StoredFiles
from stacpull.upkeep.mirror_check import OWN, FileTrust, in_threads, trust_in


class Examined(msgspec.Struct, frozen=True):
    """An item's JSON and the state of its files.

    `states` and `digests` are in the order of the item's assets. A digest is computed from the file with the
    algorithm of the item's checksum; None if the item states no checksum.
    """

    path: str
    sha256: bytes
    document: Json
    item: StoredItem
    states: tuple[FileState, ...]
    digests: tuple[bytes | None, ...]


def examine(
    files: StoredFiles, path: str, is_stopped: Callable[[], bool], line: bytes | None = None
) -> Examined | None:
    """Read the item's JSON at `path` and all its files. Return None if it is not an item of a mirror.

    Args:
        files: The files of the mirror.
        path: Relative to DEST.
        is_stopped: Called while a long file is read; if it returns True, digests are missing.
        line: The item's JSON, if `path` is an NDJSON file.

    Raises:
        OSError: The disk fails.
    """
    file = parsed_file(path, files.read(path) if line is None else line)
    item = stored_item(file.document, path) if file is not None else None
    if file is None or item is None:
        return None
    states = tuple(files.state_of(asset.path, is_stopped=is_stopped) for asset in item.assets)
    digests = tuple(
        _digest(files, asset, state, is_stopped) for asset, state in zip(item.assets, states, strict=True)
    )
    return Examined(path, file.sha256, file.document, item, states, digests)


def _digest(
    files: StoredFiles, asset: StoredAsset, state: FileState, is_stopped: Callable[[], bool]
) -> bytes | None:
    if asset.checksum is None or state.digest is None:
        return None
    if asset.checksum.algorithm == "sha256":
        return state.digest
    return digest_in(files, asset.path, asset.checksum, is_stopped)


def assess(
    asset: StoredAsset, state: FileState, digest: bytes | None, old: OldAsset | None
) -> FileTrust | DamageKind | None:
    """Return the trust in a file or what is wrong with it; None if nothing states its digest or size.

    Args:
        asset: What the item states.
        state: The file. Its digest has the algorithm of the digest of `old`.
        digest: Its digest by the algorithm of the item's checksum.
        old: Its row in the damaged ledger.
    """
    size = asset.size if asset.size is not None or old is None else old.size
    if asset.checksum is not None and digest is not None:
        return trust_in(state._replace(digest=digest), size, asset.checksum.digest)
    return trust_in(state, size, None if old is None else old.digest)


DOCUMENT_DEPTH = 3
"""Number of segments in the path of an item's JSON."""
_UNIT = 16
"""Items per unit of work of a thread."""


class Found(NamedTuple):
    """The path of an item, the id that a catalog gives it (if any), and its content (None: no item there)."""

    path: str
    listed: ItemId | None
    examined: Examined | None


_Examine = Callable[[], Found]


class ItemFinder:
    """Finds and examines the items of a mirror on several threads."""

    def __init__(self, files: StoredFiles, is_stopped: Callable[[], bool]) -> None:
        self._files = files
        self._is_stopped = is_stopped

    def listed(self, collection: ListedCollection) -> Iterator[Found]:
        """Yield the items that a collection lists, in its order."""
        places = ((item, path) for item, path in collection.items() if _is_at_its_place(item, path))
        return self._in_order(partial(self._examine, path, item) for item, path in places)

    def unlisted(self, is_known: Callable[[str], bool]) -> Iterator[Found]:
        """Yield the items in DEST at unknown paths. A run that is killed leaves items without catalogs."""
        paths = (path for path in self._json_files() if not is_known(path))
        return self._in_order(partial(self._examine, path, None) for path in paths)

    def files_of_lines(self) -> Iterator[str]:
        """Yield the paths of NDJSON files of items."""
        for collection in self._collections():
            path = f"{collection}/{LINES_FILE}"
            if self._files.state_of(path, algorithm=None).size is not None:
                yield path

    def lines(self, path: str) -> Iterator[Found]:
        """Yield the items of an NDJSON file."""
        with self._files.open(path) as file:
            yield from self._in_order(partial(self._examine, path, None, line) for line in lines_in(file))

    def _json_files(self) -> Iterator[str]:
        for collection in self._collections():
            for item in self._files.directories(collection):
                directory = f"{collection}/{item}"
                names = sorted(name for name in self._files.names(directory) if name.endswith(".json"))
                yield from (f"{directory}/{name}" for name in names)

    def _collections(self) -> list[str]:
        return [name for name in self._files.directories("") if name not in OWN]

    def _examine(self, path: str, listed: ItemId | None, line: bytes | None = None) -> Found:
        examined = examine(self._files, path, self._is_stopped, line)
        if examined is not None and line is None and not _is_at_its_place(examined.item.id, path):
            examined = None
        return Found(path, listed, examined)

    def _in_order(self, work: Iterator[_Examine]) -> Iterator[Found]:
        """Run the work on threads, and yield the results in order until stopped."""
        units = iter(lambda: list(islice(work, _UNIT)), [])
        for found in in_threads((partial(_done, unit) for unit in units), self._is_stopped):
            yield from found


def _done(unit: list[_Examine]) -> list[Found]:
    return [read() for read in unit]


def _is_at_its_place(item: ItemId, path: str) -> bool:
    """Return whether `path` fits the item. The directory of the item may have a suffix to keep it unique."""
    collection, _, name = item_document_path(item).split("/")
    segments = path.split("/")
    return len(segments) == DOCUMENT_DEPTH and (segments[0], segments[2]) == (collection, name)
