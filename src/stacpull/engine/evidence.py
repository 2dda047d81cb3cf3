"""What a file in DEST is trusted by when its ledger is lost, and what of an item can be told from its JSON.

    a digest agrees: the item's `file:checksum`, or the SHA-256 of the old ledger    BY_CHECKSUM
    the size agrees: the item's `file:size`, or that of the old ledger               BY_SIZE
    nothing is known but that the item's JSON names it as here, and it is not empty  BY_NAME
    anything disagrees, or there is no such file                                     not trusted

The name is evidence too: an item's JSON was written after its assets lay whole under their final names, and
names as here those that did. It does not prove that a file is whole still: such assets are noted as unproven.
"""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from stacpull.catalog.contents import read_json
from stacpull.catalog.stored import StoredAsset, StoredItem, stored_item
from stacpull.digests import new_hasher
from stacpull.events import DamageKind
from stacpull.ledger.rebuilding import OldAsset
from stacpull.models import Json
from stacpull.store.inspection import Look, look_at, obstacle

__all__ = ["Examined", "Trust", "examine", "examine_line", "weigh"]

_READ = 1 << 20


class Trust(enum.Enum):
    """By what a file is taken for whole."""

    BY_CHECKSUM = "checksum"
    BY_SIZE = "size"
    BY_NAME = "name"


@dataclass(frozen=True, slots=True)
class Examined:
    """An item's JSON and the files that it names: `looks` and `digests` beside its assets.

    A digest is the one that the item states, computed from the file; None where it states none.
    """

    path: str
    sha256: bytes
    document: Json
    item: StoredItem
    looks: tuple[Look, ...]
    digests: tuple[bytes | None, ...]


def examine(dest: Path, root: int, path: str, is_stopped: Callable[[], bool]) -> Examined | None:
    """Read the item's JSON at `path` and every file it names; None if it is no item of a mirror.

    Args:
        dest: the mirror.
        root: descriptor of it.
        path: relative to it.
        is_stopped: asked while long files are read; what is stopped has no digests.

    Raises:
        OSError: the disk fails.
    """
    file = read_json(dest, path)
    item = stored_item(file.document, path) if file is not None else None
    if file is None or item is None:
        return None
    return _examined(root, path, file.sha256, file.document, item, is_stopped)


def examine_line(root: int, line: bytes, path: str, is_stopped: Callable[[], bool]) -> Examined | None:
    """Do the same with a line of the NDJSON file at `path`."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    item = stored_item(document, path)
    if item is None:
        return None
    return _examined(root, path, hashlib.sha256(line).digest(), document, item, is_stopped)


def _examined(
    root: int, path: str, sha256: bytes, document: Json, item: StoredItem, is_stopped: Callable[[], bool]
) -> Examined:
    looks = tuple(_look(root, asset.path, is_stopped) for asset in item.assets)
    digests = tuple(
        _digest(root, asset, look, is_stopped) for asset, look in zip(item.assets, looks, strict=True)
    )
    return Examined(path, sha256, document, item, looks, digests)


def _look(root: int, path: str, is_stopped: Callable[[], bool]) -> Look:
    """Look at a file that must not lie behind a link: what is there would not be of this mirror."""
    in_the_way = obstacle(root, path)
    if in_the_way is not None:
        return Look(obstacle=in_the_way)
    return look_at(root, path, hashed=True, is_stopped=is_stopped)


def _digest(root: int, asset: StoredAsset, look: Look, is_stopped: Callable[[], bool]) -> bytes | None:
    if asset.checksum is None or look.sha256 is None:
        return None
    if asset.checksum.algorithm == "sha256":
        return look.sha256
    hasher = new_hasher(asset.checksum)
    fd = os.open(asset.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    with os.fdopen(fd, "rb") as file:
        while chunk := file.read(_READ):
            hasher.update(chunk)
            if len(chunk) == _READ and is_stopped():
                return None
    return hasher.digest()


def weigh(asset: StoredAsset, look: Look, digest: bytes | None, old: OldAsset | None) -> Trust | DamageKind:
    """Return by what a file is trusted, or what is wrong with it. `old` is what a damaged ledger says."""
    wrong = _not_there(look)
    if wrong is not None:
        return wrong
    if asset.checksum is not None and digest is not None:
        if digest == asset.checksum.digest:
            return Trust.BY_CHECKSUM
        return _by_size(look.size or 0, asset.size, is_altered=True)
    known = None if old is None or look.sha256 is None else old.sha256
    if known is not None and known == look.sha256:
        return Trust.BY_CHECKSUM
    stated = asset.size if asset.size is not None else old.size if old is not None else None
    return _by_size(look.size or 0, stated, is_altered=known is not None)


def _not_there(look: Look) -> DamageKind | None:
    if look.obstacle is not None:
        return "obstructed" if look.readable else "unreadable"
    return "missing" if look.size is None else None


def _by_size(size: int, stated: int | None, *, is_altered: bool) -> Trust | DamageKind:
    if stated is not None and size < stated:
        return "short"
    if stated is None and size == 0:
        return "short"
    if is_altered or (stated is not None and size > stated):
        return "altered"
    return Trust.BY_NAME if stated is None else Trust.BY_SIZE
