"""Randomness without state: every draw is a pure function of its seed and its purpose.

`mix` is the finaliser of SplitMix64 (Steele, Lea, Flood 2014) chained over its words. `Permutation` is an
affine bijection on 0…size-1 whose inverse costs one multiplication. With both, a data set of any length can
be read at any index, in any order and in any process, without keeping anything in memory.
"""

from __future__ import annotations

import math

import msgspec

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(*words: int) -> int:
    """Return 64 well-mixed bits that depend on every word and on their order."""
    state = _GOLDEN
    for word in words:
        state = (state + (word & _WORD) * 2 + _GOLDEN) & _WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
        state ^= state >> 31
    return state


def fraction(*words: int) -> float:
    return (mix(*words) >> 11) / (1 << 53)


class Permutation(msgspec.Struct, frozen=True):
    """`forward(i) = (factor * i + shift) mod size`: a bijection that spreads neighbours evenly."""

    size: int
    factor: int
    shift: int
    inverse: int

    @classmethod
    def seeded(cls, size: int, *words: int) -> Permutation:
        factor = max(1, int(size * 0.6180339887498949) - mix(*words, 1) % max(1, size // 16))
        while math.gcd(factor, size) != 1:
            factor += 1
        return cls(size, factor, mix(*words, 2) % size, pow(factor, -1, size))

    def forward(self, index: int) -> int:
        return (self.factor * index + self.shift) % self.size

    def backward(self, place: int) -> int:
        return (place - self.shift) * self.inverse % self.size
