"""For how long a lease that was read is trusted, and that errors do not end its renewal."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import orjson
import pytest

from stacpull.store import lease
from stacpull.store.lease import Lease, LeaseCheck
from stacpull.store.protocol import OwnObject, RemoteStore

OWNER = {"mirror": "m", "host": "h", "work": "w", "inode": "1", "run": "r", "held": True}


@pytest.mark.parametrize(
    ("age", "later", "reads", "renewals"),
    [
        (0, 39, 1, 0),
        (0, 41, 2, 0),
        (30, 9, 1, 0),  # its age counts: another mirror may take it 60 seconds after its renewal
        (30, 11, 2, 0),
        (45, 39, 1, 1),
        (45, 41, 2, 2),
    ],
)
def test_a_lease_is_read_again_before_it_can_have_expired(
    monkeypatch: pytest.MonkeyPatch, age: float, later: float, reads: int, renewals: int
) -> None:
    calls: list[str] = []
    now = 1000.0

    def read(_path: str) -> OwnObject:
        calls.append("read")
        return OwnObject(orjson.dumps(OWNER), "etag", age)

    def write(_path: str, _body: bytes, *, replaces: OwnObject | None) -> bool:
        calls.append("write")
        return True

    location = SimpleNamespace(mirror="m", run="r")
    store = SimpleNamespace(name="s3://b", location=location, read_own=read, write_own=write)
    monkeypatch.setattr(lease, "time", SimpleNamespace(clock_gettime=lambda _: now))
    check = LeaseCheck(cast("RemoteStore", store))
    check.check()
    now += later
    check.check()
    assert (calls.count("read"), calls.count("write")) == (reads, renewals)


class StoreWithoutDescriptors:
    """A store whose notes cannot be read while the process has no descriptor to spare."""

    name = "s3://b"
    location = SimpleNamespace(mirror="m", run="r")
    secrets = ()

    def __init__(self, work: Path) -> None:
        self.work = self.parts = work
        self.notes: list[bytes] = []
        self.failures = 0
        self.renewed = threading.Event()
        self.is_failing = False

    def read_own(self, _path: str) -> OwnObject | None:
        if self.is_failing:
            self.failures += 1
            raise OSError(errno.EMFILE, "Too many open files")
        if self.failures:
            self.renewed.set()
        return OwnObject(self.notes[-1], "etag", 0.0) if self.notes else None

    def write_own(self, _path: str, body: bytes, *, replaces: OwnObject | None) -> bool:
        self.notes.append(body)
        return True


def test_an_error_of_the_system_does_not_end_the_renewal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.04)
    store = StoreWithoutDescriptors(tmp_path)
    with Lease(cast("RemoteStore", store), has_ledger=True):
        store.is_failing = True
        while not store.failures:
            pass
        store.is_failing = False
        assert store.renewed.wait(10)


def test_an_error_while_the_lease_is_released_does_not_hide_the_error_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = StoreWithoutDescriptors(tmp_path)
    with pytest.raises(KeyError), Lease(cast("RemoteStore", store), has_ledger=True):  # noqa: PT012
        store.is_failing = True
        raise KeyError
    assert store.failures
