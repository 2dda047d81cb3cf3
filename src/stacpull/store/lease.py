"""The lease of a prefix of a bucket: only one mirror writes there at a time, from any machine.

`.stacpull/owner.json` names the work directory of the mirror. During a run the object is rewritten several
times a minute, provided that it is still the run's own (`If-Match`). The lease is free after the run ends, or
if it was not renewed for a minute. The age of a lease is measured by the clock of the server.

    no owner                          taken (`If-None-Match`)
    this work directory, same boot    always taken: the lock of the directory excludes other processes
    a copy of it, active              rejected; a work directory may be moved to another place between runs
    a copy of it, inactive            taken
    another one, active               rejected
    another one, inactive             taken by a work directory without a ledger, which continues from the
                                      copy in the bucket; rejected for one with a ledger, which is outdated

A work directory is known by the id of its mirror. Its copies have the same id, but another inode, host, or
boot of the machine: a cloned machine may have the same host name and inodes.
"""

from __future__ import annotations

import platform
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import orjson

from stacpull.errors import DestinationError, StacpullError
from stacpull.redact import Secret
from stacpull.store.protocol import OwnObject, RemoteStore
from stacpull.system import boot_id

LEASE_SECONDS = 60.0
"""A lease that was not renewed for this time has expired."""
_USED = 2 / 3
"""The share of that time for which a lease is trusted after a read. The rest is for requests in flight."""
OWNER = ".stacpull/owner.json"
"""The path of the lease."""
_NAMES = ("mirror", "host", "work", "inode", "run")
_ATTEMPTS = 4
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that also counts while the machine is suspended (on macOS, the monotonic one does)."""


class Lease:
    """A context manager that holds the lease. A thread renews it.

    Attributes:
        continues: True if the prefix was in use before, and the work directory had no ledger of it.
        before: The previous owner's work directory, as text; None if it is this one, or if there was none.
        secrets: The credentials of DEST.
        lost: The error that must end the run, because another mirror has taken the prefix; else None.
    """

    def __init__(self, store: RemoteStore, *, has_ledger: bool) -> None:
        """Create the lease; nothing is sent yet.

        Args:
            store: The bucket.
            has_ledger: True if the work directory has the ledger of the mirror.
        """
        self.continues = False
        self.before: str | None = None
        self.lost: DestinationError | None = None
        self.secrets: tuple[Secret, ...] = ()
        self._store = store
        self._has_ledger = has_ledger
        self._about = {
            "mirror": store.location.mirror,
            "host": platform.node(),
            "boot": boot_id(),
            "work": str(store.work.absolute()),
            "inode": str(store.parts.stat().st_ino),
            "run": store.location.run,
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="stacpull-lease", daemon=True)

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            CredentialsError: The bucket rejects the credentials, or there are none.
            DestinationError: The bucket cannot be used, or another mirror has the prefix.
        """
        self.secrets = self._store.secrets
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(StacpullError, OSError):  # it expires
            if self.lost is None and (own := _own(self._store)) is not None:
                self._store.write_own(OWNER, self._body(is_held=False), replaces=own[0])

    def _take(self) -> None:
        for _ in range(_ATTEMPTS):
            stored = self._store.read_own(OWNER)
            if stored is None:
                self._refuse_foreign_catalog()
            else:
                self._judge(stored)
                self.continues = not self._has_ledger
            if self._store.write_own(OWNER, self._body(is_held=True), replaces=stored):
                return
            if _own(self._store) is not None:  # it was written, and the response was lost
                return
        raise DestinationError(f"Another mirror is being started in {self._store.name}: wait for it.")

    def _refuse_foreign_catalog(self) -> None:
        if self._store.read_own("catalog.json") is not None:
            raise DestinationError(
                f"{self._store.name} contains a catalog.json that stacpull did not write: "
                "choose another prefix."
            )

    def _judge(self, stored: OwnObject) -> None:
        """Raise an error if another mirror is active there, or has a newer ledger."""
        owner = _read(self._store, stored)
        is_same = owner["mirror"] == self._about["mirror"]
        if all(owner.get(name) == self._about[name] for name in ("host", "boot", "inode")) and (
            is_same or owner["work"] == self._about["work"]  # killed before it had a ledger
        ):
            return
        other = f"{owner['work']} on {owner['host']}"
        if self._has_ledger and not is_same:
            raise DestinationError(
                f"{self._store.name} belongs to the mirror whose ledger is in {other}. The ledger in "
                f"{self._store.work} is outdated, or belongs to another mirror: run stacpull there, or use "
                "an empty directory as --work, which continues from the copy in the bucket."
            )
        if owner.get("held") and stored.age < LEASE_SECONDS:
            raise DestinationError(
                f"Another {'run' if is_same else 'mirror'} is writing to {self._store.name}, with its ledger "
                f"in {other}: wait for it, or stop it first. If it was killed, try again in "
                f"{LEASE_SECONDS - stored.age:.0f} seconds."
            )
        if not is_same:
            self.before = other

    def _keep(self) -> None:
        """Renew the lease until the run ends or another mirror has taken it."""
        while not self._ended.wait(LEASE_SECONDS / 4):
            with suppress(StacpullError, OSError):  # the next attempt may succeed
                own = _own(self._store)
                if own is None:
                    self.lost = _taken_over(self._store)
                    return
                self._store.write_own(OWNER, self._body(is_held=True), replaces=own[0])

    def _body(self, *, is_held: bool) -> bytes:
        return orjson.dumps({**self._about, "held": is_held})


class LeaseCheck:
    """Prevents writing objects once another mirror has the lease.

    Every process that writes to the bucket has one, because the process that renews the lease may be
    suspended or killed. The lease is read again when the last read is too old, about once in 40 seconds. If
    the mirror still has the lease, but it was not renewed, it is renewed here.
    """

    def __init__(self, store: RemoteStore) -> None:
        """Prepare; nothing is sent yet.

        Args:
            store: The bucket. Nothing is checked if it has no `location.mirror`: then there is no lease.
        """
        self._store = store
        self._lock = threading.Lock()
        self._valid_until = 0.0
        self._lost: DestinationError | None = None

    def check(self) -> None:
        """Return if objects may be written, otherwise raise an error.

        Raises:
            CredentialsError: The bucket refuses the credentials, or there are none.
            DestinationError: Another mirror has the lease, or the bucket cannot be used.
        """
        if not self._store.location.mirror:
            return
        with self._lock:
            if self._lost is None and time.clock_gettime(_CLOCK) >= self._valid_until:
                self._look()
            if self._lost is not None:
                raise self._lost

    def is_recent(self) -> bool:
        """Return True if objects may be written without a check. It does not block."""
        return not self._store.location.mirror or time.clock_gettime(_CLOCK) < self._valid_until

    def _look(self) -> None:
        for _ in range(_ATTEMPTS):
            requested_at = time.clock_gettime(_CLOCK)
            own = _own(self._store)
            if own is None or not own[1].get("held"):
                break  # the run has ended or lost the lease
            stored, owner = own
            is_young = stored.age < LEASE_SECONDS * _USED
            if is_young or self._store.write_own(OWNER, orjson.dumps(owner), replaces=stored):
                self._valid_until = requested_at + LEASE_SECONDS * _USED - (stored.age if is_young else 0.0)
                return
        self._lost = _taken_over(self._store)


def _taken_over(store: RemoteStore) -> DestinationError:
    return DestinationError(
        f"Another mirror has taken over {store.name}, because this one did not renew its lease for "
        f"{LEASE_SECONDS:.0f} seconds; or the run has ended, or {OWNER} was deleted. If another mirror is "
        "active, continue there, or start again with an empty directory as --work."
    )


def _own(store: RemoteStore) -> tuple[OwnObject, dict[str, Any]] | None:
    """Return the lease and its owner if the run of this process has it, otherwise None."""
    stored = store.read_own(OWNER)
    owner = {} if stored is None else _read(store, stored)
    is_own = (owner.get("mirror"), owner.get("run")) == (store.location.mirror, store.location.run)
    return (stored, owner) if stored is not None and is_own else None


def _read(store: RemoteStore, stored: OwnObject) -> dict[str, Any]:
    """Return the owner in a lease.

    Raises:
        DestinationError: It is damaged.
    """
    try:
        found = orjson.loads(stored.body)
        return {**found, **{name: str(found[name]) for name in _NAMES}}
    except (ValueError, KeyError, TypeError) as error:
        raise DestinationError(f"{store.name}/{OWNER} is damaged.") from error
