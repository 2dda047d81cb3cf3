"""The results of an export so far, in a hidden file beside OUT: an export that was killed continues from it.

    .OUT.spool:   identity │ batch │ batch │ …

A batch holds the result for some items, and the state of the export after them. Reading the items takes
nearly all of the time, so OUT itself is made from the complete spool, in one go, and appears when it is whole
(`store.atomic`). Batches are not synced one by one: each has a checksum, and the first that is damaged ends
the file. The identity is a digest of all that the batches depend on: the mirror as its ledger has it, and the
options. With another identity the export starts again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from stacpull.errors import DestinationError
from stacpull.models import Json
from stacpull.store.atomic import locked_file
from stacpull.store.disk_errors import destination_errors

_FRAME = struct.Struct("<QQI")
"""Lengths of state and data, and the CRC-32 of both."""
_FORM = 7
"""Changes when a program cannot continue from the spool of an older one."""


class Spool:
    """The batches of an export, made by `open_spool`.

    Attributes:
        state: That of the last batch; empty if there is none.
    """

    def __init__(self, file: BinaryIO, identity: bytes) -> None:
        """Read what is there, and drop what is damaged or of another export."""
        self.state: Json = {}
        self._file = file
        self._start = len(identity)
        file.seek(0)
        if file.read(self._start) != identity:
            file.seek(0)
            file.truncate()
            file.write(identity)
        for state, _ in self.batches():
            self.state = state
        file.truncate()

    def add(self, state: Json, data: bytes) -> None:
        """Add a batch. A kill after this call does not lose it."""
        text = orjson.dumps(state)
        crc = zlib.crc32(data, zlib.crc32(text))
        self._file.writelines((_FRAME.pack(len(text), len(data), crc), text, data))
        self._file.flush()
        self.state = state

    def batches(self) -> Iterator[tuple[Json, bytes]]:
        """Yield state and data of each batch in order; at the end the file is positioned behind the last."""
        at = self._start
        size = os.fstat(self._file.fileno()).st_size
        while True:
            self._file.seek(at)
            head = self._file.read(_FRAME.size)
            if len(head) < _FRAME.size:
                break
            state_size, data_size, crc = _FRAME.unpack(head)
            end = at + _FRAME.size + state_size + data_size
            if end > size:
                break
            text, data = self._file.read(state_size), self._file.read(data_size)
            if zlib.crc32(data, zlib.crc32(text)) != crc:
                break
            at = end
            yield orjson.loads(text), data
        self._file.seek(at)


@contextmanager
def open_spool(out: Path, depends_on: Any, path: Path | None = None) -> Iterator[Spool]:
    """Open the spool of an export to `out`, and remove it when the export is complete.

    It stays after an interruption, and goes if the export fails in another way: then the disk may be full.

    Args:
        out: The file that is made in the end.
        depends_on: Values whose text (`repr`) changes when the batches do.
        path: The spool; None for a hidden file beside `out`.

    Raises:
        DestinationError: Another process writes `out`, or the spool cannot be written.
    """
    path = path or out.with_name(f".{out.name}.spool")
    identity = hashlib.sha256(repr((_FORM, depends_on)).encode("utf-8", "surrogatepass")).digest()
    with destination_errors(out), open(locked_file(path, out), "r+b") as file:  # noqa: PTH123 - a descriptor
        try:
            yield Spool(file, identity)
        except (OSError, DestinationError):
            path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)
