"""The lease of a prefix, and the copy of the ledger there, with which another machine can continue.

Only one mirror writes to a prefix at a time, from any machine.

`.stacpull/lease/` has numbered objects, which are only created, never replaced: every service supports that.
The newest one counts, and names the holder. A run takes the lease by creating the next number; of two runs,
one fails. It renews it in the same way, and removes older numbers. The lease is free after the run has ended,
or if it was not renewed for a minute, by the service's clock.

Each run has a generation, one more than the last one's. The ledger records it, and so does its copy in the
bucket: the ledger with the higher generation is the newer one.

    the same work directory, same boot   takes the lease: the lock of the directory excludes other processes
    another holder, active               is named in the error
    another mirror, with a ledger here   is refused: the ledger is not that of the bucket

The copy is a compressed SQLite database. It is stored every few minutes if the ledger has changed, and at the
end of a run. A machine that continues from it adopts the objects that were stored after it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from stacpull.errors import DestinationError, StacpullError, destination_errors
from stacpull.ledger.database import copy_ledger, ledger_path
from stacpull.redact import Secret
from stacpull.store.staging import whole_file
from stacpull.system import boot_id
from stacpull_cloud.objects import Objects

SECONDS = 60.0
"""A lease that was not renewed for this time has expired."""
FOLDER = ".stacpull/lease"
_CLOCK_OBJECT = ".stacpull/clock"
_USED = 2 / 3
"""The share of that time for which a lease is trusted after a look."""
_LONGEST = 1 << 16
_ATTEMPTS = 5
_NAMES = ("mirror", "host", "boot", "work", "inode", "run")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that also counts while the machine is suspended."""

COPY = ".stacpull/ledger.sqlite.gz"
_INTERVAL = 300.0
"""The least seconds between two copies."""
_SHARE = 20
"""Copies may take this fraction (1/20) of the time."""
_PIECE = 1 << 20
_MOST_UNPACKED = 100
"""A copy may unpack to this many times its size. Ledgers shrink to about a sixth."""
_GENERATION, _DIGEST = "stacpullgeneration", "stacpullsha256"


class _Record(NamedTuple):
    number: int
    holder: dict[str, Any]
    age: float
    """Seconds, by the service's clock; measured only if asked for."""


class Lease:
    """Holds the lease, and keeps the copy of the ledger (`BucketLease`). Threads renew both."""

    def __init__(self, objects: Objects, work: str, inode: int, copy: LedgerCopy) -> None:
        location = objects.location
        self.mirror, self.generation = location.mirror, location.generation
        self.continues = False
        self.before: str | None = None
        self.secrets: tuple[Secret, ...] = ()
        self._objects = objects
        self._copy = copy
        self._about = {
            "mirror": self.mirror,
            "host": platform.node(),
            "boot": boot_id(),
            "work": work,
            "inode": str(inode),
            "run": location.run,
        }
        self._ended = threading.Event()
        self.lost: DestinationError | None = None
        self._thread = threading.Thread(target=self._keep, name="stacpull-lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease, and fetch the ledger if the copy in the bucket is newer."""
        self.secrets = self._objects.service.secrets
        self._take()
        self._thread.start()
        try:
            self._copy.fetch_if_newer(self._objects.location.generation)
            self._copy.start(self.generation, lambda: self.lost is not None)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._copy.finish()
            else:
                with suppress(StacpullError):
                    self._copy.finish()
        finally:
            self._release()

    def _release(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(StacpullError):  # it expires
            newest = _newest(self._objects)
            if self.lost is None and newest is not None and newest.holder["run"] == self._about["run"]:
                self._write(newest.number + 1, is_held=False)

    def _take(self) -> None:
        location = self._objects.location
        for _ in range(_ATTEMPTS):
            newest = _newest(self._objects, with_age=True)
            if newest is None:
                if not location.generation and self._objects.find("catalog.json") is not None:
                    raise DestinationError(
                        f"{location.url} contains a catalog.json that stacpull did not write: choose another "
                        "prefix."
                    )
            else:
                self._judge(newest)
                known = int(newest.holder.get("generation", 0))
                self.continues = known != location.generation
                self.generation = max(known, location.generation)
                self.mirror = self._about["mirror"] = newest.holder["mirror"]
            self.generation = max(self.generation, self._copy.generation()) + 1
            if self._write(0 if newest is None else newest.number + 1, is_held=True):
                return
            self.generation = location.generation
        raise DestinationError(f"Another mirror is being started in {location.url}: wait for it.")

    def _judge(self, newest: _Record) -> None:
        """Raise an error if another mirror is active there, or the ledger is that of another mirror."""
        holder, location = newest.holder, self._objects.location
        is_same = all(holder[name] == self._about[name] for name in ("host", "boot", "work", "inode"))
        other = f"{holder['work']} on {holder['host']}"
        if location.generation and holder["mirror"] != location.mirror:
            raise DestinationError(
                f"{location.url} belongs to the mirror whose ledger is in {other}, and the ledger here is "
                "that of another mirror: use an empty directory as --work, which continues from the copy "
                "in the bucket."
            )
        if is_same:
            return
        if holder.get("held") and newest.age < SECONDS and not location.break_lock:
            raise DestinationError(
                f"Another run is writing to {location.url}, with its ledger in {other}: wait for it, or stop "
                f"it first. If it was killed, try again in {SECONDS - newest.age:.0f} seconds, or use "
                "--break-lock."
            )
        self.before = other

    def _keep(self) -> None:
        """Renew the lease until the run ends or another mirror has taken it."""
        while not self._ended.wait(SECONDS / 4):
            with suppress(StacpullError):  # the next attempt may succeed
                newest = _newest(self._objects)
                if newest is None or newest.holder["run"] != self._about["run"]:
                    self.lost = _taken_over(self._objects)
                    return
                self._write(newest.number + 1, is_held=True)

    def _write(self, number: int, *, is_held: bool) -> bool:
        """Create the next object and remove older ones; return False if another run created it."""
        body = orjson.dumps({**self._about, "generation": self.generation, "held": is_held})
        path = f"{FOLDER}/{number:012}.json"
        if not self._objects.put(path, body, {}, create=True):
            there = self._objects.read(path, _LONGEST)
            if there is None or there[1] != body:  # the same: the response to the first request was lost
                return False
        for page in self._objects.pages(FOLDER):
            for one in page:
                if one.path < path:
                    self._objects.remove(one.path)
        return True


class LeaseCheck:
    """Prevents writing objects once another run has the lease.

    The process that renews the lease may be suspended or killed, so the store process looks by itself, about
    every 40 seconds.
    """

    def __init__(self, objects: Objects) -> None:
        """Prepare; nothing is sent yet. Nothing is checked if the location names no run."""
        self._objects = objects
        self._lock = threading.Lock()
        self._valid_until = 0.0
        self._is_lost = False

    def check(self) -> None:
        """Return if objects may be written."""
        run = self._objects.location.run
        if not run:
            return
        with self._lock:
            if not self._is_lost and time.clock_gettime(_CLOCK) >= self._valid_until:
                asked_at = time.clock_gettime(_CLOCK)
                newest = _newest(self._objects)
                self._is_lost = newest is None or newest.holder["run"] != run
                self._valid_until = asked_at + SECONDS * _USED
            if self._is_lost:
                raise _taken_over(self._objects)


def _taken_over(objects: Objects) -> DestinationError:
    return DestinationError(
        f"Another mirror has taken over {objects.location.url}, because this one did not renew its lease for "
        f"{SECONDS:.0f} seconds; or the run has ended, or {FOLDER} was deleted. If another mirror is active, "
        "continue there."
    )


def _newest(objects: Objects, *, with_age: bool = False) -> _Record | None:
    """Return the newest object of the lease, None if there is none."""
    for _ in range(_ATTEMPTS):
        listed = [one for page in objects.pages(FOLDER) for one in page]
        if not listed:
            return None
        read = objects.read(listed[-1].path, _LONGEST)
        if read is None:  # renewed in between
            continue
        found, body = read
        try:
            holder = orjson.loads(body)
            number = int(found.path.rpartition("/")[2].removesuffix(".json"))
            holder = {**holder, **{name: str(holder[name]) for name in _NAMES}}
        except (ValueError, KeyError, TypeError) as error:
            raise DestinationError(f"{objects.name_of(found.path)} is damaged: remove it.") from error
        age = 0.0
        if with_age and holder.get("held"):
            objects.put(_CLOCK_OBJECT, b"", {}, create=False)
            now = objects.find(_CLOCK_OBJECT)
            age = 0.0 if now is None else (now.modified - found.modified).total_seconds()
        return _Record(number, holder, age)
    raise DestinationError(f"The lease in {objects.location.url} changes all the time: try again.")


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
        with destination_errors(self._work):
            for left in ("-wal", "-shm", "-journal"):
                path.with_name(path.name + left).unlink(missing_ok=True)
            try:
                with whole_file(path) as file, gzip.GzipFile(fileobj=BytesIO(packed[1])) as unpacked:
                    os.fchmod(file.fileno(), 0o600)
                    most = _MOST_UNPACKED * len(packed[1])
                    while most > 0 and (data := unpacked.read(_PIECE)):
                        most -= file.write(data)
                    if most <= 0:
                        raise zlib.error("it unpacks to too many bytes")  # noqa: TRY301 - as damage is
            except (zlib.error, gzip.BadGzipFile, EOFError) as error:
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
                    raw.open("rb") as of,
                    whole_file(packed) as file,
                    gzip.GzipFile("", "wb", 1, file, mtime=0) as into,
                ):
                    while data := of.read(_PIECE):
                        into.write(data)
                with packed.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                attributes = {_DIGEST: sha256, _GENERATION: str(self._generation)}
                found = self._objects.find(COPY)
                if found is None or not attributes.items() <= found.attributes.items():
                    self._objects.put(COPY, packed, attributes, create=False)
            finally:
                for left in (raw, packed):
                    left.unlink(missing_ok=True)
