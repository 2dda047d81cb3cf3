"""Smooth random fields: value noise, whose value at a point does not depend on the requested part.

It is a lattice of hashed values (the finaliser of SplitMix64, as in `draws`), interpolated with cubic
weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stacpull_replicas.draws import mix

NoiseField = NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def smooth(words: tuple[int, ...], corner: tuple[int, int], side: int, spacing: int) -> NoiseField:
    """Return a square of a field: `side` by `side` values in [0, 1), with the upper left at `corner`."""
    columns, across = _places(corner[0], side, spacing)
    rows, down = _places(corner[1], side, spacing)
    lattice = _hashed(mix(*words, spacing), columns, rows)
    upper, lower = lattice[:-1], lattice[1:]
    row, column = _gaps(corner[1], side, spacing), _gaps(corner[0], side, spacing)
    lines = upper[row] + (lower[row] - upper[row]) * down[:, None]
    left, right = lines[:, :-1], lines[:, 1:]
    field: NoiseField = left[:, column] + (right[:, column] - left[:, column]) * across
    return field


def _gaps(first: int, count: int, spacing: int) -> NDArray[np.int64]:
    """Return the lattice interval of each of `count` steps from `first`, counted from the first interval."""
    steps = np.arange(first, first + count) // spacing
    return np.asarray(steps - steps[0])


def _places(first: int, count: int, spacing: int) -> tuple[NDArray[np.int64], NoiseField]:
    points = np.arange(first // spacing, (first + count - 1) // spacing + 2)
    within = (np.arange(first, first + count) % spacing / spacing).astype(np.float32)
    return points, within * within * (3 - 2 * within)


def _hashed(word: int, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> NoiseField:
    with np.errstate(over="ignore"):
        state = np.uint64(word) + columns.astype(np.uint64)[None, :] * _GOLDEN
        state = _mixed(state) + rows.astype(np.uint64)[:, None] * _GOLDEN
        return (_mixed(state) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
