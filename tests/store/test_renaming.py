"""A rename that never replaces, where the system has one; and the old way where it has not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from stacpull.models import FailureKind
from stacpull.store import local_store
from stacpull.store.local_store import LocalStore, rename_new
from stacpull.store.protocol import Placement


def refused(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """From here on the call fails with this error, as on another system."""

    def call(*_arguments: object) -> int:
        local_store.ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(local_store, "_renameat2", lambda: call)


@pytest.mark.parametrize("code", [0, errno.EINVAL])
@pytest.mark.parametrize(("there", "replace", "placed"), [
    (False, False, True), (False, True, True), (True, False, False), (True, True, True),
])  # fmt: skip
def test_a_part_is_placed_with_and_without_renameat2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, there: bool, replace: bool, placed: bool
) -> None:
    if code:
        refused(monkeypatch, code)
    dest = LocalStore(tmp_path / "dest")
    dest.staged.write_part("1.whole", b"new")
    if there:
        (dest.path / "a").write_bytes(b"old")
    failure = dest.place([Placement("1.whole", "", "a", may_replace=replace)])[0]
    assert failure is None if placed else failure.kind is FailureKind.EXISTS
    assert (dest.path / "a").read_bytes() == (b"new" if placed else b"old")
    dest.close()


def test_a_file_created_just_before_the_rename_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = LocalStore(tmp_path / "dest")
    dest.staged.write_part("1.whole", b"new")

    def late(*names: Any) -> bool:
        (dest.path / "a").write_bytes(b"precious")
        return rename_new(*names)

    monkeypatch.setattr(local_store, "rename_new", late)
    failure = dest.place([Placement("1.whole", "", "a", may_replace=False)])[0]
    assert failure is not None
    assert (dest.path / "a").read_bytes() == b"precious"
    dest.close()
