"""For how long a process that writes to a bucket trusts the lease that it has read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import orjson
import pytest

from stacpull.store import lease
from stacpull.store.lease import LeaseCheck
from stacpull.store.protocol import Note, RemoteStore

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

    def read(_path: str) -> Note:
        calls.append("read")
        return Note(orjson.dumps(OWNER), "etag", age)

    def write(_path: str, _body: bytes, *, replaces: Note | None) -> bool:
        calls.append("write")
        return True

    location = SimpleNamespace(mirror="m", run="r")
    store = SimpleNamespace(name="s3://b", location=location, read_note=read, write_note=write)
    monkeypatch.setattr(lease, "time", SimpleNamespace(clock_gettime=lambda _: now))
    check = LeaseCheck(cast("RemoteStore", store))
    check.check()
    now += later
    check.check()
    assert (calls.count("read"), calls.count("write")) == (reads, renewals)
