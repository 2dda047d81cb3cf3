"""A disk that loses power: computes its possible contents from what was done to it.

The model allows more than the file systems it stands for, so that what survives it survives them:

- What a finished sync covers is there: `syncfs` everything that ended before it began; `fsync` and
  `fdatasync` of a file its bytes and size, but not its name; of a directory the names in it.
- Of what is not covered, each change of names may have happened or not. A rename is one change (no file
  system with a journal tears it), unless only one of its two directories was synced: then the other side may
  be as it was. Changes of the same name or the same file happen in their order; others need not.
- Bytes that are not covered may be there, all, none, the first ones, any of the writes, a write torn at a
  sector; or the size is there and the bytes are zeros. Independently of names: a name may be there without
  any bytes (the zero-length file that a rename without a sync leaves).
- What was covered stays as it is when bytes beside it are lost (SQLite calls that powersafe overwrite).
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.crash_trace import Event, Kind

_SECTOR = 512
_ROOT = 0


@dataclass(frozen=True, slots=True)
class _Name:
    """A change of one entry of a directory: what it leads to from then on (None: nothing)."""

    directory: int
    name: str
    leads_to: int | None


@dataclass(frozen=True, slots=True)
class _NameChange:
    """One event that changes names, of one file or directory."""

    at: int
    node: int
    entries: tuple[_Name, ...]


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A write, or (data None) a change of size to `offset`."""

    at: int
    offset: int
    data: bytes | None


@dataclass
class _Node:
    is_directory: bool
    bytes: list[_Bytes] = field(default_factory=list)
    size: int = 0
    """As the running system sees it, to know where the end is."""
    inode: int | None = None
    """The number that the system gave it, where the program looked."""


@dataclass(frozen=True, slots=True)
class _Sync:
    at: int
    covers: int
    node: int | None
    """None: everything."""


Choice = Callable[[random.Random], bool]
"""Whether a change of names that may be lost has happened."""
Damage = Callable[[bytes, Sequence[_Bytes], random.Random], bytes]
"""What is left of a file, given what is sure, and the writes that are not."""


class Disk:
    """Everything that was done, by file and by name."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.nodes = [_Node(is_directory=True)]
        self.length = 0
        self.syncs: list[_Sync] = []
        self._names: list[_NameChange] = []
        self._live: dict[tuple[int, str], int] = {}
        for event in events:
            self._take(self.length, event)
            self.length += 1

    # --- from events -------------------------------------------------------------------------------------

    def _take(self, at: int, event: Event) -> None:
        if event.kind in {Kind.SYNC, Kind.SYNC_ALL}:
            node = None if event.kind is Kind.SYNC_ALL else self._find(event.path)
            if node is not None or event.kind is Kind.SYNC_ALL:
                self.syncs.append(_Sync(at, event.began, node))
        elif event.kind in {Kind.MAKE, Kind.EMPTY, Kind.MAKE_DIRECTORY}:
            self._make(at, event)
        elif event.kind in {Kind.RENAME, Kind.LINK, Kind.REMOVE}:
            self._rename(at, event)
        elif (node := self._find(event.path)) is not None:
            self._fill(at, self.nodes[node], event)

    def _find(self, path: str) -> int | None:
        node: int | None = _ROOT
        for part in path.split("/") if path else ():
            node = None if node is None else self._live.get((node, part))
        return node

    def _place(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        directory = self._find(above)
        if directory is None:
            raise ValueError(f"{path} lies in a directory that nobody made")
        return directory, name

    def _make(self, at: int, event: Event) -> None:
        if event.path == "":
            return
        node = self._find(event.path)
        if node is None:
            self.nodes.append(_Node(is_directory=event.kind is Kind.MAKE_DIRECTORY))
            node = len(self.nodes) - 1
            self._change(at, node, [(self._place(event.path), node)])
        elif event.kind is Kind.EMPTY:
            self._resize(at, self.nodes[node], 0)

    def _rename(self, at: int, event: Event) -> None:
        """Give it another name, one more, or one less."""
        node = self._find(event.path)
        if node is not None:
            gone = [] if event.kind is Kind.LINK else [(self._place(event.path), None)]
            new = [] if event.kind is Kind.REMOVE else [(self._place(event.to), node)]
            self._change(at, node, [*gone, *new])

    def _change(self, at: int, node: int, entries: list[tuple[tuple[int, str], int | None]]) -> None:
        for place, leads_to in entries:
            if leads_to is None:
                self._live.pop(place, None)
            else:
                self._live[place] = leads_to
        self._names.append(_NameChange(at, node, tuple(_Name(*place, to) for place, to in entries)))

    def _fill(self, at: int, node: _Node, event: Event) -> None:
        if event.kind is Kind.LOOK:
            node.inode = event.number
        elif event.kind is Kind.RESIZE:
            self._resize(at, node, event.number or 0)
        else:
            offset = node.size if event.number is None else event.number
            node.bytes.append(_Bytes(at, offset, event.data))
            node.size = max(node.size, offset + len(event.data))

    @staticmethod
    def _resize(at: int, node: _Node, size: int) -> None:
        node.bytes.append(_Bytes(at, size, None))
        node.size = size

    # --- what may be left --------------------------------------------------------------------------------

    def lose_power(
        self, at: int, dest: Path, chosen: Choice, damage: Damage, draw: random.Random
    ) -> dict[int, int]:
        """Create at `dest` the possible contents if power is lost before event `at` ends.

        Returns:
            The number that each file's inode had, by the number it has now.
        """
        covered = self._covered(at)
        entries = self._entries(at, covered, lambda: chosen(draw))
        inodes: dict[int, int] = {}

        def write(place: Path, directory: int) -> None:
            place.mkdir()
            for name, number in sorted(entries.get(directory, {}).items()):
                node = self.nodes[number]
                if node.is_directory:
                    write(place / name, number)
                    continue
                sure = [change for change in node.bytes if change.at < min(at, covered(number))]
                unsure = [change for change in node.bytes if covered(number) <= change.at < at]
                (place / name).write_bytes(damage(applied(b"", sure), unsure, draw))
                if node.inode is not None:
                    inodes[(place / name).stat().st_ino] = node.inode

        write(dest, _ROOT)
        return inodes

    def _covered(self, at: int) -> Callable[[int], int]:
        """Return up to which event everything of a node is on the disk."""
        horizon: defaultdict[int | None, int] = defaultdict(int)
        for sync in self.syncs:
            if sync.at < at:
                horizon[sync.node] = max(horizon[sync.node], sync.covers)
        return lambda node: max(horizon[node], horizon[None])

    def _entries(
        self, at: int, covered: Callable[[int], int], chosen: Callable[[], bool]
    ) -> dict[int, dict[str, int]]:
        found: defaultdict[int, dict[str, int]] = defaultdict(dict)
        lost: set[object] = set()
        for change in self._names:
            if change.at >= at:
                break
            sure = [entry for entry in change.entries if change.at < covered(entry.directory)]
            touched = {change.node, *((entry.directory, entry.name) for entry in change.entries)}
            if len(sure) < len(change.entries) and (lost & touched or not chosen()):
                lost |= touched - {(entry.directory, entry.name) for entry in sure}
            else:
                sure = list(change.entries)
            for entry in sure:
                if entry.leads_to is None:
                    found[entry.directory].pop(entry.name, None)
                else:
                    found[entry.directory][entry.name] = entry.leads_to
        return found


def applied(content: bytes, changes: Iterable[_Bytes]) -> bytes:
    found = bytearray(content)
    for change in changes:
        end = change.offset + len(change.data or b"")
        found.extend(bytes(max(0, end - len(found))))
        if change.data is None:
            del found[change.offset :]
        else:
            found[change.offset : end] = change.data
    return bytes(found)


# --- what becomes of bytes that no sync covered ------------------------------------------------------------


def all_there(sure: bytes, unsure: Sequence[_Bytes], _draw: random.Random) -> bytes:
    """They were written back in time."""
    return applied(sure, unsure)


def none_there(sure: bytes, _unsure: Sequence[_Bytes], _draw: random.Random) -> bytes:
    """They never left the cache."""
    return sure


def zeros(sure: bytes, unsure: Sequence[_Bytes], _draw: random.Random) -> bytes:
    """The size was written back, the bytes were not."""
    whole = applied(sure, unsure)
    return sure[: len(whole)] + bytes(max(0, len(whole) - len(sure)))


def torn(sure: bytes, unsure: Sequence[_Bytes], draw: random.Random) -> bytes:
    """The first writes are there, and the first sectors of the next."""
    if not unsure:
        return sure
    number = draw.randrange(len(unsure))
    last = unsure[number]
    cut = None if last.data is None else last.data[: draw.randrange(0, len(last.data) + 1, _SECTOR)]
    return applied(sure, [*unsure[:number], _Bytes(last.at, last.offset, cut)])


def some(sure: bytes, unsure: Sequence[_Bytes], draw: random.Random) -> bytes:
    return applied(sure, [change for change in unsure if draw.random() < 0.5])


DAMAGES: tuple[Damage, ...] = (all_there, none_there, zeros, torn, some)


def any_damage(sure: bytes, unsure: Sequence[_Bytes], draw: random.Random) -> bytes:
    return draw.choice(DAMAGES)(sure, unsure, draw)
