"""Refusals that wait until it is sure that they say something of their assets alone.

A host that refuses everything says nothing of any asset: the client stops the run at the 50th refusal in a
row. Those before are held back here until then, so that they are pending afterwards and not failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from stacpull.hosts import MOST_HOSTS
from stacpull.models import Failure, FailureKind
from stacpull.net.gate import MAX_REFUSALS

__all__ = ["Refusals"]

J = TypeVar("J")


class Refusals(Generic[J]):
    """Hands failures in, those that refuse later.

    Args:
        hand_in: takes a job, its failure and the attempts it took.
        held: how many refusals of a host are held back; 0 hands all in at once.
    """

    def __init__(self, hand_in: Callable[[J, Failure, int], None], held: int = MAX_REFUSALS - 1) -> None:
        self._hand_in = hand_in
        self._most = held
        self._held: dict[str, deque[tuple[J, Failure, int]]] = {}

    def fail(self, job: J, failure: Failure, attempts: int) -> None:
        """Take a failure that is final."""
        if failure.kind is not FailureKind.REFUSED:
            self._hand_in(job, failure, attempts)
            return
        if failure.host not in self._held and len(self._held) >= MOST_HOSTS:
            for one in self._held.pop(next(iter(self._held))):
                self._hand_in(*one)
        held = self._held.setdefault(failure.host, deque())
        held.append((job, failure, attempts))
        if len(held) > self._most:  # the run goes on, so there was a success in between
            self._hand_in(*held.popleft())

    def hand_in_all(self) -> None:
        """Hand in what is held: the work has come to its end without being stopped."""
        for held in self._held.values():
            while held:
                self._hand_in(*held.popleft())
