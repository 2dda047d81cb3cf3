"""How slow this machine is, for tests that bound processor time."""

from __future__ import annotations

import time

_USUAL = 0.1
"""Seconds that the loop takes on a machine for which the bounds of the tests are meant as they are."""


def slowness() -> float:
    """Return how many times the bounds to allow now: 1, or more if the machine is slow or shared."""
    return max(1.0, min(_loop() for _ in range(2)) / _USUAL)


def _loop() -> float:
    began, total = time.process_time(), 0
    for number in range(2_000_000):
        total += number * number % 7
    return time.process_time() - began
