"""Caches that hostile names cannot fill: the number of entries and the length of keys are bounded."""

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_KEY_LENGTH: Final = 512  # longer strings are not cached: honest sources do not repeat them


def cached_if_short(size: int) -> Callable[[Callable[[str], V]], Callable[[str], V]]:
    def decorate(function: Callable[[str], V]) -> Callable[[str], V]:
        cached = lru_cache(maxsize=size)(function)

        @wraps(function)
        def call(text: str) -> V:
            return cached(text) if len(text) <= MAX_KEY_LENGTH else function(text)

        return call

    return decorate


class BoundedCache(OrderedDict[K, V]):
    """A dictionary of limited size: `self[key] = value` removes the oldest entry if it is full."""

    def __init__(self, max_entries: int = 4096) -> None:
        super().__init__()
        self._max_entries = max_entries

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self._max_entries and key not in self:
            self.popitem(last=False)
        super().__setitem__(key, value)
