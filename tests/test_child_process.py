"""Processes that are started before they are needed."""

from __future__ import annotations

from stacpull import child_process
from stacpull.child_process import reap, spawn, started_early

STORE = "stacpull.engine.store_server"
"""It ends with its socket."""


def test_a_process_that_was_started_early_is_the_first_that_is_spawned() -> None:
    with started_early(STORE):
        (early,) = child_process._running
        process, sock = spawn(STORE)
        assert process is early
        other, end = spawn(STORE)
        assert other is not early
    assert process.poll() is None
    for one, its_socket in ((process, sock), (other, end)):
        its_socket.close()
        reap(one)


def test_a_process_that_was_started_early_and_is_not_needed_is_killed() -> None:
    with started_early(STORE):
        (early,) = child_process._running
        assert early.poll() is None
    assert early.returncode is not None
    assert child_process._running == set()


def test_a_process_with_the_same_arguments_is_the_one_that_was_started_early() -> None:
    with started_early(STORE, ("json",)):
        (early,) = child_process._running
        process, sock = spawn(STORE, arguments=("json",))
        assert process is early
        sock.close()
        reap(process)


def test_a_process_with_other_arguments_replaces_the_one_that_was_started_early() -> None:
    with started_early(STORE):
        (early,) = child_process._running
        process, sock = spawn(STORE, arguments=["more"])
        assert process is not early
        assert early.returncode is not None
        sock.close()
        reap(process)
