"""Failures that wait until it is certain that they are the fault of their assets, and not of their host.

A host that refuses everything, or answers nothing, says nothing of any asset. The client stops the run at the
50th refusal in a row, and gives a host up that has not answered for long. The failures before that are held
back here, so that their assets are pending afterwards, and not failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from stacpull.hosts import MOST_HOSTS
from stacpull.models import Failure, FailureKind
from stacpull.net.gate import MAX_REFUSALS

J = TypeVar("J")

_NO_FAULT = frozenset({FailureKind.ORDERED, FailureKind.OUTSIDE})
"""Kinds that are not counted as failures (`--max-failures`)."""
_HELD = frozenset({FailureKind.REFUSED, FailureKind.NETWORK, FailureKind.STALLED})


class HeldFailures(Generic[J]):
    """Hands failures on. Those that may be the fault of their host wait, and are dropped if it is given up.

    Args:
        hand_in: Takes a job, its failure and the attempts it took.
        held: How many failures of a host are held back; 0 hands everything on at once, DOWN included.
        on_failure: Called for each failure that is final, held back or not.
    """

    def __init__(
        self,
        hand_in: Callable[[J, Failure, int], None],
        held: int = MAX_REFUSALS - 1,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_failure = on_failure
        self._hand_in = hand_in
        self._most = held
        self._held: dict[str, deque[tuple[J, Failure, int]]] = {}
        self.left: dict[str, str] = {}
        """Why assets are left pending, by host that was given up."""

    def fail(self, job: J, failure: Failure, attempts: int) -> None:
        """Take a failure that is final, or DOWN: then the asset stays pending."""
        if self._most and failure.kind is FailureKind.DOWN:
            self._held.pop(failure.host, None)
            if len(self.left) < MOST_HOSTS:
                self.left[failure.host] = failure.message
            return
        if failure.kind not in _NO_FAULT:
            self._on_failure()
        if failure.kind not in _HELD:
            self._hand_in(job, failure, attempts)
            return
        if failure.host not in self._held and len(self._held) >= MOST_HOSTS:
            for one in self._held.pop(next(iter(self._held))):
                self._hand_in(*one)
        held = self._held.setdefault(failure.host, deque())
        held.append((job, failure, attempts))
        if len(held) > self._most:  # the run continues, so there was a success in between
            self._hand_in(*held.popleft())

    def hand_in_all(self) -> None:
        """Hand on what is held: the work has come to its end without being stopped."""
        for held in self._held.values():
            while held:
                self._hand_in(*held.popleft())
