"""A copy of the ledger in the bucket, with which another machine can continue.

It is a compressed SQLite database, stored every few minutes during a run and at its end, if the ledger has
changed. Assets that are done in it are in the bucket, because the ledger is never ahead of the data. It does
not have files that were stored later: a machine that continues from it fetches these again, and then finds
and keeps the existing files.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from stacpull.errors import DestinationError, StacpullError
from stacpull.ledger.database import copy_ledger, ledger_path
from stacpull.store.atomic import whole_file
from stacpull.store.lease import Lease
from stacpull.store.protocol import RemoteStore

COPY = ".stacpull/ledger.sqlite.gz"
INTERVAL = 300.0
"""The least seconds between two copies."""
_SHARE = 20
"""Copies may take this fraction (1/20) of the time."""
_PIECE = 1 << 20


class LedgerCopies:
    """A context manager that keeps the copy up to date, and makes the last one at its end."""

    def __init__(self, store: RemoteStore, lease: Lease) -> None:
        """Create the object; nothing is read yet.

        Args:
            store: The bucket, and the work directory with the ledger.
            lease: The lease. If it is lost, nothing is written.
        """
        self._store = store
        self._lease = lease
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="stacpull-ledger-copy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the last copy.

        Raises:
            StacpullError: The copy failed. An error of the block takes precedence.
        """
        self._ended.set()
        self._thread.join()
        try:
            self._make()
        except StacpullError:
            if error is None:
                raise

    def _keep(self) -> None:
        pause = INTERVAL
        while not self._ended.wait(pause):
            started = time.monotonic()
            with suppress(StacpullError):  # the next attempt may succeed; errors of the last one are reported
                self._make()
            pause = max(INTERVAL, _SHARE * (time.monotonic() - started))

    def _make(self) -> None:
        if self._lease.lost is not None or not ledger_path(self._store.work).exists():
            return
        raw, packed = (self._store.work / ".stacpull" / f"copy.{end}" for end in ("sqlite", "sqlite.gz"))
        try:
            copy_ledger(self._store.work, raw)
            with (
                whole_file(packed) as file,
                gzip.GzipFile("", "wb", 1, file, mtime=0) as into,
                raw.open("rb") as of,
            ):
                while data := of.read(_PIECE):
                    into.write(data)
            raw.unlink()
            with packed.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").digest()
                if self._store.look_at(COPY).digest == sha256:
                    return
                file.seek(0)
                if not self._store.store_own(COPY, file, packed.stat().st_size, sha256):
                    raise DestinationError(
                        f"The copy of the ledger was not stored in {self._store.name} ({COPY}): another "
                        "program is writing there. Run `stacpull resume` to store it."
                    )
        finally:
            for left in (raw, packed):
                left.unlink(missing_ok=True)


def fetch_copy(store: RemoteStore) -> bool:
    """Fetch the ledger into a work directory that has none; return False if there is no copy.

    Raises:
        CredentialsError: The bucket rejects the credentials.
        DestinationError: The bucket cannot be read, the copy is damaged, or the disk is full.
    """
    path: Path = ledger_path(store.work)
    try:
        found = store.look_at(COPY)
        if found.size is None:
            return False
        with store.open(COPY) as packed, gzip.open(packed) as source, whole_file(path) as file:
            os.fchmod(file.fileno(), 0o600)
            while data := source.read(_PIECE):
                file.write(data)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DestinationError(
            f"The copy of the ledger in {store.name} ({COPY}) is damaged: move it away to start without it."
        ) from error
    return True
