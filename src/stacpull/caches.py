"""Caches that hostile names cannot fill: the number of entries and the length of keys are bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

LONGEST_KEY: Final = 512
"""The most characters of a text that is remembered: honest sources do not repeat longer ones."""


def cached_if_short(size: int) -> Callable[[Callable[[str], V]], Callable[[str], V]]:
    def decorate(function: Callable[[str], V]) -> Callable[[str], V]:
        cached = lru_cache(maxsize=size)(function)

        @wraps(function)
        def call(text: str) -> V:
            return cached(text) if len(text) <= LONGEST_KEY else function(text)

        return call

    return decorate


class BoundedCache(OrderedDict[K, V]):
    """A dictionary of at most `most` entries: `self[key] = value` removes the oldest one if it is full."""

    def __init__(self, most: int = 4096) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self._most and key not in self:
            self.popitem(last=False)
        super().__setitem__(key, value)
