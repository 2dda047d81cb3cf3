"""A copy of the ledger in the bucket, with which another machine can continue.

The copy is a compressed SQLite database. If the ledger has changed, it is stored every few minutes during a
run, and at the end of the run. Files that were stored after the copy are not in the copy: a machine that
continues from the copy fetches them again, and then finds and keeps the existing files. Assets that the copy
records as done are in the bucket. Only if `--prune` removed them later, and the run was killed before the
next copy, are they missing: `verify` reports them, and the next `--prune` removes them from the ledger.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stacpull.errors import DestinationError, StacpullError
from stacpull.ledger.backup import copy_ledger
from stacpull.ledger.database import ledger_path
from stacpull.store.atomic import whole_file
from stacpull.store.disk_errors import destination_errors
from stacpull.store.lease import Lease
from stacpull.store.protocol import RemoteStore

COPY = ".stacpull/ledger.sqlite.gz"
INTERVAL = 300.0
"""The least seconds between two copies."""
_SHARE = 20
"""Copies may take this fraction (1/20) of the time."""
_PIECE = 1 << 20


@contextmanager
def ledger_copies(store: RemoteStore, lease: Lease) -> Iterator[None]:
    """Keep the copy up to date during the block, in a thread, and make the last one at its end.

    Args:
        store: The bucket, and the work directory with the ledger.
        lease: The lease. If it is lost, nothing is written.

    Raises:
        StacpullError: The last copy failed. An error of the block takes precedence.
    """
    ended = threading.Event()

    def keep() -> None:
        pause = INTERVAL
        while not ended.wait(pause):
            started = time.monotonic()
            with suppress(StacpullError):  # the next attempt may succeed; errors of the last one are reported
                _store_copy(store, lease)
            pause = max(INTERVAL, _SHARE * (time.monotonic() - started))

    thread = threading.Thread(target=keep, name="stacpull-ledger-copy", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            ended.set()
            thread.join()
    except BaseException:
        with suppress(StacpullError):
            _store_copy(store, lease)
        raise
    _store_copy(store, lease)


def _store_copy(store: RemoteStore, lease: Lease) -> None:
    if lease.lost is not None or not ledger_path(store.work).exists():
        return
    raw, packed = (store.work / ".stacpull" / f"copy.{end}" for end in ("sqlite", "sqlite.gz"))
    with destination_errors(store.work):
        try:
            copy_ledger(store.work, raw)
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
                if store.state_of(COPY).digest == sha256:
                    return
                file.seek(0)
                if not store.store_own(COPY, file, packed.stat().st_size, sha256):
                    raise DestinationError(
                        f"The copy of the ledger was not stored in {store.name} ({COPY}): another "
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
        found = store.state_of(COPY)
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
