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
    """A dictionary of limited size: a new entry replaces the oldest one that is not `is_needed`."""

    def __init__(self, max_entries: int = 4096, is_needed: Callable[[V], object] = lambda _: False) -> None:
        super().__init__()
        self._max_entries = max_entries
        self._is_needed = is_needed

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self._max_entries and key not in self:
            oldest = next((old for old in self if not self._is_needed(self[old])), None)
            if oldest is not None:
                del self[oldest]
        super().__setitem__(key, value)
