"""The copy of the ledger in the bucket, with which another machine can continue.

It is a compressed SQLite database. It is stored every few minutes if the ledger has changed, and at the end
of a run. A machine that continues from it adopts the objects that were stored after it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from stacpull.errors import DestinationError, StacpullError, destination_errors
from stacpull.ledger.database import copy_ledger, ledger_path
from stacpull.store.staging import whole_file
from stacpull_cloud.objects import Objects

COPY = ".stacpull/ledger.sqlite.gz"
_INTERVAL = 300.0
"""The least seconds between two copies."""
_SHARE = 20
"""Copies may take this fraction (1/20) of the time."""
_PIECE = 1 << 20
_MOST_UNPACKED = 100
"""A copy may unpack to this many times its size. Ledgers shrink to about a sixth."""
_GENERATION, _DIGEST = "stacpullgeneration", "stacpullsha256"


class LedgerCopy:
    def __init__(self, objects: Objects, work: Path) -> None:
        self._objects = objects
        self._work = work
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._generation = 0
        self._is_lost: Callable[[], bool] = lambda: False

    def generation(self) -> int:
        """Return the generation of the copy, 0 if there is none."""
        found = self._objects.find(COPY)
        stated = "" if found is None else found.attributes.get(_GENERATION, "")
        return int(stated) if stated.isdecimal() else 0

    def fetch_if_newer(self, generation: int) -> None:
        """Replace the ledger here by the copy if the copy has a higher generation."""
        if self.generation() <= generation:
            return
        path = ledger_path(self._work)
        packed = self._objects.read(COPY, 1 << 40)
        if packed is None:
            return
        most = _MOST_UNPACKED * len(packed[1]) + _PIECE
        with destination_errors(self._work):
            for left in ("-wal", "-shm", "-journal"):
                path.with_name(path.name + left).unlink(missing_ok=True)
            try:
                with whole_file(path) as file:
                    os.fchmod(file.fileno(), 0o600)
                    for piece in _unpacked(packed[1], most):
                        file.write(piece)
            except zlib.error as error:
                raise DestinationError(
                    f"The copy of the ledger in {self._objects.location.url} ({COPY}) is damaged ({error}): "
                    "move it away to start without it."
                ) from error

    def start(self, generation: int, is_lost: Callable[[], bool]) -> None:
        """Begin to keep the copy up to date, in a thread."""
        self._generation, self._is_lost = generation, is_lost
        self._thread = threading.Thread(target=self._keep, name="stacpull-ledger-copy", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        pause = _INTERVAL
        while not self._ended.wait(pause):
            started = time.monotonic()
            with suppress(StacpullError):  # the next attempt may succeed; errors of the last one are reported
                self._store()
            pause = max(_INTERVAL, _SHARE * (time.monotonic() - started))

    def finish(self) -> None:
        """Store the last copy."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._store()

    def _store(self) -> None:
        if self._is_lost() or not ledger_path(self._work).exists():
            return
        raw, packed = (self._work / ".stacpull" / f"copy.{end}" for end in ("sqlite", "sqlite.gz"))
        with destination_errors(self._work):
            try:
                copy_ledger(self._work, raw)
                with (
                    whole_file(packed) as file,
                    gzip.GzipFile("", "wb", 1, file, mtime=0) as into,
                    raw.open("rb") as of,
                ):
                    while data := of.read(_PIECE):
                        into.write(data)
                with packed.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                attributes = {_DIGEST: sha256, _GENERATION: str(self._generation)}
                found = self._objects.find(COPY)
                if found is None or any(
                    found.attributes.get(name) != attributes[name] for name in attributes
                ):
                    self._objects.put(COPY, packed, attributes, create=False)
            finally:
                for left in (raw, packed):
                    left.unlink(missing_ok=True)


def _unpacked(data: bytes, most: int) -> Iterator[bytes]:
    """Yield what `data` unpacks to."""
    unpacking = zlib.decompressobj(wbits=31)
    while data and not unpacking.eof:
        piece = unpacking.decompress(data, _PIECE)
        data = unpacking.unconsumed_tail
        most -= len(piece)
        if most < 0:
            raise zlib.error("it unpacks to too many bytes")
        yield piece
    if not unpacking.eof:
        raise zlib.error("it is truncated")
