"""The lease of a prefix, and the copy of the ledger there, with which another machine can continue.

`.stacpull/lease/` has numbered objects, which are only created, never replaced: every service supports that.
The newest object names the holder. A run takes and renews the lease by creating the next number; of two runs
that try, one fails. The lease is free after the run, or if it was not renewed for a minute, by the service's
clock. A run with the same work directory on the same boot takes it over, because its lock excludes others.

Each run has an epoch, one more than the last run, in the ledger and in its compressed copy. The higher epoch
is newer. A machine that continues from the copy adopts the objects that were stored after it.
"""

from __future__ import annotations

import gzip
import os
import platform
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import chain
from typing import Self

import msgspec

from stacpull.errors import DestinationError, StacpullError, destination_errors
from stacpull.ledger import queries
from stacpull.ledger.database import copy_ledger, ledger_path, open_reader, remedy
from stacpull.models import OWN_DIRECTORY
from stacpull.net.fields import whole_number
from stacpull.planning.names import is_own_catalog
from stacpull.redact import Secret
from stacpull.store.inspection import MAX_DOCUMENT_SIZE, sync_path
from stacpull.store.staging import StagedParts
from stacpull.system import boot_id
from stacpull_cloud.objects import PIECE, ObjectHead, Objects

_EXPIRY = 60.0  # seconds without a renewal, after which a lease has expired
FOLDER = f"{OWN_DIRECTORY}/lease"
_CLOCK_OBJECT = f"{OWN_DIRECTORY}/clock"
_INTERVAL = _EXPIRY / 4  # seconds between two renewals, and between two looks of `Lease.check`
_MAX_SIZE = 1 << 16
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # also counts while the machine sleeps

COPY = f"{OWN_DIRECTORY}/ledger.sqlite.gz"
_COPY_INTERVAL = 300.0  # seconds between two copies
_MAX_UNPACKED = 100  # a copy may unpack to this many times its size; ledgers shrink to about a sixth
_EPOCH = "stacpullepoch"


class Holder(msgspec.Struct, frozen=True):
    """The content of an object: which mirror holds the lease, and in which work directory of which boot."""

    mirror: str
    host: str
    boot: str
    work: str
    inode: str
    run: str
    epoch: int = 0
    held: bool = False


class Lease:
    """Holds the lease, and keeps the copy of the ledger (`BucketLease`): threads renew both (`held`).

    The process that does so may be suspended or killed, so each process looks at the lease itself (`check`).
    """

    def __init__(self, objects: Objects, staged: StagedParts) -> None:
        self.mirror, self.epoch = objects.location.mirror, objects.location.epoch
        self.continues = False
        self.taken_from: str | None = None
        self.secrets: tuple[Secret, ...] = ()
        self._objects, self._staged, self._work = objects, staged, staged.work
        self._place = platform.node(), boot_id(), str(self._work.absolute()), str(os.fstat(staged.fd).st_ino)
        self._next = 0  # the number of the next object
        self._ended, self._copying, self._looking = threading.Event(), threading.Lock(), threading.Lock()
        self._valid_until: float | None = 0.0  # None: it is lost, also if another look would find it

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Take the lease, and the ledger if that in the bucket is newer; free the lease at the end."""
        self.secrets = self._objects.service.secrets
        was_held, copy = self._take()
        with ExitStack() as ending:
            ending.callback(self._free)
            threads = ending.enter_context(ThreadPoolExecutor(2, "stacpull-lease"))
            ending.callback(self._ended.set)
            threads.submit(self._repeat, self._write, _INTERVAL)  # if it fails, `check` ends the run
            ending.push(lambda failed, *_: self._abort_uploads() if was_held or failed else None)
            if copy is not None:
                self._abort_uploads()  # the newer ledger may not have their keys
                self._fetch(copy)
            threads.submit(self._repeat, self._store_copy, _COPY_INTERVAL)
            try:
                yield self
            except BaseException:
                with suppress(StacpullError):  # the first error counts
                    self._store_copy()
                raise
            self._store_copy()

    def _repeat(self, work: Callable[[], object], seconds: float) -> None:
        while not self._ended.wait(seconds):
            with suppress(StacpullError):  # the next attempt may succeed
                work()

    def _free(self) -> None:
        with suppress(StacpullError):  # the lease expires by itself
            self._write(is_held=False)

    def _abort_uploads(self) -> None:
        """If the lease is ours, abort uploads of failed and killed runs. Other programs keep theirs."""
        prefix = self._objects.key("")
        with suppress(StacpullError), closing(open_reader(self._work)) as db:  # there may be no ledger yet
            self.check()

            def is_own(key: str) -> bool:
                path = key[len(prefix) :]
                return path == COPY or path in queries.known_paths(db, [path], planned=True)

            self._objects.service.abort_uploads(prefix, is_own)

    def _take(self) -> tuple[bool, ObjectHead | None]:
        """Return True if a killed run held the lease, and the copy of the ledger if it is newer than ours."""
        location, newest = self._objects.location, _newest(self._objects)
        copy = self._objects.find(COPY)  # the last run has stored it before it freed the lease
        copy_epoch = 0 if copy is None else whole_number(copy.attributes.get(_EPOCH, "")) or 0
        if newest is not None:
            head, holder, number = newest
            where = f"{holder.work} on {holder.host}"
            if location.epoch and holder.mirror != location.mirror:
                raise DestinationError(
                    f"{location.url} belongs to the mirror with its ledger in {where}, and the ledger here "
                    "to another one: use an empty --work, which continues from the copy in the bucket."
                )
            is_own = (holder.host, holder.boot, holder.work, holder.inode) == self._place
            if holder.held and not is_own and not location.break_lock:
                self._objects.put(_CLOCK_OBJECT, b"", {}, create=False)
                now = self._objects.find(_CLOCK_OBJECT)
                age = 0.0 if now is None else (now.modified - head.modified).total_seconds()
                if age < _EXPIRY:
                    raise DestinationError(
                        f"Another run is writing to {location.url}, with its ledger in {where}: wait for it, "
                        f"or stop it. After a kill, wait {_EXPIRY - age:.0f} seconds, or use --break-lock."
                    )
            self.continues = holder.epoch != location.epoch
            if (holder.host, holder.work) != self._place[::2] and (self.continues or holder.held):
                self.taken_from = where
            self.epoch = max(holder.epoch, location.epoch)
            self.mirror, self._next = holder.mirror, number + 1
        elif not copy_epoch and not location.epoch:
            catalog = self._objects.read("catalog.json", MAX_DOCUMENT_SIZE)
            if catalog is not None and not is_own_catalog(catalog[1]):
                raise DestinationError(f"{location.url} has a foreign catalog.json: use another prefix.")
            if catalog is not None and not location.adopt:
                raise DestinationError(f"The ledger of {location.url} is missing. {remedy(self._work)}")
        self.epoch = max(self.epoch, copy_epoch) + 1
        self._objects.remove(_CLOCK_OBJECT)  # keys that may not remove objects fail now, not in the next run
        if not self._write():
            raise DestinationError(f"Another mirror is being started in {location.url}: wait for it.")
        return newest is not None and newest[1].held, copy if copy_epoch > location.epoch else None

    def _write(self, *, is_held: bool = True) -> bool:
        """Create the next object and remove older ones; return False if another run has the lease."""
        run = self._objects.location.run
        body = msgspec.json.encode(Holder(self.mirror, *self._place, run, self.epoch, is_held))
        path = f"{FOLDER}/{self._next:012}.json"
        if not self._objects.put(path, body, {}, create=True):
            existing = self._objects.read(path, _MAX_SIZE)
            if existing is None or existing[1] != body:  # if it is ours, only the response was lost
                return False
        self._next += 1
        paths = sorted(chain.from_iterable(self._objects.pages(FOLDER)))
        for older_path in paths[:-2]:  # not the last one: another run may have listed it, and read it next
            self._objects.remove(older_path)
        return paths[-1:] == [path]

    def check(self) -> None:
        """Raise `DestinationError` once another run has the lease.

        It is called before each attempt to write, and looks again after 15 seconds.
        """
        with self._looking:
            now = time.clock_gettime(_CLOCK)
            if self._valid_until is not None and now >= self._valid_until:
                newest = _newest(self._objects)
                is_ours = newest is not None and newest[1].run == self._objects.location.run
                self._valid_until = now + _INTERVAL if is_ours else None
            if self._valid_until is None:
                raise DestinationError(
                    f"This run has lost its lease on {self._objects.location.url}: another run took it, or "
                    f"{FOLDER} was deleted. If no other run is active, run the same command again."
                )

    def _fetch(self, copy: ObjectHead) -> None:
        path, bytes_left = ledger_path(self._work), _MAX_UNPACKED * copy.size
        with self._staged.new_part("copy.tmp") as file:
            os.fchmod(file.fileno(), 0o600)
            try:
                with self._objects.open(copy) as packed, gzip.GzipFile(fileobj=packed) as unpacked:
                    while bytes_left > 0 and (data := unpacked.read(PIECE)):
                        bytes_left -= file.write(data)
                if bytes_left <= 0:
                    raise zlib.error("it unpacks to too many bytes")  # noqa: TRY301 - as damage is
            except (zlib.error, gzip.BadGzipFile, EOFError) as error:
                raise DestinationError(
                    f"The copy of the ledger in {self._objects.location.url} ({COPY}) is damaged ({error}): "
                    "move it away to start without it."
                ) from error
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                newer = f"the newer one of {self.taken_from or self._objects.location.url}"
                self._objects.hooks.warn(f"{path} was replaced by {newer}, and is ledger.old now.")
                for suffix in ("-wal", "-shm", "-journal", ""):  # the ledger last, so one is complete
                    old = path.with_name(f"ledger.old{suffix}")
                    old.unlink(missing_ok=True)
                    with suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).rename(old)
            (self._staged.path / "copy.tmp").replace(path)
            sync_path(path.parent)

    def _store_copy(self) -> None:
        with self._copying, destination_errors(self._work):
            self.check()
            if not ledger_path(self._work).exists():
                return
            raw = self._work / OWN_DIRECTORY / "copy.sqlite"
            packed = raw.with_name("copy.sqlite.gz")
            try:
                copy_ledger(self._work, raw)
                with raw.open("rb") as file, gzip.open(packed, "wb", compresslevel=1) as into:
                    while data := file.read(PIECE):  # `shutil` would import two more compressors
                        into.write(data)
                self._objects.put(COPY, packed, {_EPOCH: str(self.epoch)}, self.check, create=False)
            finally:
                for path in (raw, packed):
                    path.unlink(missing_ok=True)


def _newest(objects: Objects, unread: str | None = None) -> tuple[ObjectHead, Holder, int] | None:
    """Return the newest object of the lease, and its content and number. `unread`: it could not be read."""
    if (path := max(chain.from_iterable(objects.pages(FOLDER)), default=None)) is None:
        return None
    if (head_and_body := objects.read(path, _MAX_SIZE)) is None:
        if path == unread:
            raise DestinationError(f"The lease in {objects.location.url} keeps changing: try again.")
        return _newest(objects, path)  # it was renewed twice since the listing
    head, body = head_and_body
    try:
        number = int(path[len(FOLDER) + 1 :].removesuffix(".json"))
        return head, msgspec.json.decode(body or b"", type=Holder), number
    except ValueError as error:  # those of msgspec too
        raise DestinationError(f"{objects.location.url}/{path} is damaged: remove it.") from error
