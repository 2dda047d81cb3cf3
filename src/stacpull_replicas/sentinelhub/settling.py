"""Changing whole-numbered reflectances by ones until an index has a given mean and deviation.

An index is (green - nir) / (green + nir) as 32-bit float, which is what the service hands on. One more in
green and one less in near infrared raises it by about 2 / (green + nir), some 0.0005, but by a little more or
less in every pixel: of a thousand pixels raised and a thousand lowered, some pair gives almost any small
change. The sum is first brought within one step, then the sum of squares with pairs that leave the sum alone,
then the sum with the pair that fits best.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
_POOL = 1500
_ROUNDS = 4


def index_of(green: Any, nir: Any) -> NDArray[np.float64]:
    """The index as the service gives it: computed in 64 bits, handed on in 32."""
    return np.asarray(((green - nir) / (green + nir)).astype(np.float32).astype(np.float64))


def settle(green: Whole, nir: Whole, mean: float, deviation: float | None, kept: Whole) -> None:
    """Change `green` and `nir` in place until the index has the mean and deviation; `kept` are left alone."""
    work = _Work(green, nir, kept)
    total = mean * len(green)
    work.bring_sum(total)
    if deviation is not None:
        squares = (deviation**2 + mean**2) * len(green)
        for _ in range(_ROUNDS):
            work.bring_squares(squares)
            work.bring_sum(total)
        work.fit_squares(squares)
    work.fit_sum(total)


class _Work:
    """Pixels, sorted once by their index, so that pools of like and unlike ones can be taken."""

    def __init__(self, green: Whole, nir: Whole, kept: Whole) -> None:
        self.green, self.nir = green, nir
        self.free = np.ones(len(green), bool)
        self.free[kept] = False
        order = np.argsort(index_of(green, nir), kind="stable")
        self.order = order[self.free[order]]

    def values(self, places: Whole, step: int = 0) -> NDArray[np.float64]:
        """The index of pixels, after a change of green by `step`."""
        return index_of(self.green[places] + step, self.nir[places] - step)

    def change(self, places: Any, step: int) -> None:
        """Take a step in pixels."""
        self.green[places] += step
        self.nir[places] -= step

    def missing_sum(self, total: float) -> float:
        """What the sum of the index lacks."""
        return math.fsum([total, *(-index_of(self.green, self.nir))])

    def missing_squares(self, squares: float) -> float:
        """What the sum of squares lacks."""
        return math.fsum([squares, *(-(index_of(self.green, self.nir) ** 2))])

    def bring_sum(self, total: float) -> None:
        """Bring the sum within a step, by steps all over the pixels."""
        lacking = self.missing_sum(total)
        step = 1 if lacking > 0 else -1
        places = self.order[:: max(1, len(self.order) // 20_000)]
        gains = np.cumsum(self.values(places, step) - self.values(places)) * step
        self.change(places[: int(np.searchsorted(gains, abs(lacking)))], step)

    def bring_squares(self, squares: float) -> None:
        """Bring the sum of squares within a step: spread the two ends of the order, or draw them together."""
        lacking = self.missing_squares(squares)
        step = 1 if lacking > 0 else -1
        count = len(self.order) // 10
        low, high = self.order[:count], self.order[-count:]
        gains = self.values(high, step) ** 2 - self.values(high) ** 2
        gains += self.values(low, -step) ** 2 - self.values(low) ** 2
        taken = int(np.searchsorted(np.cumsum(gains) * step, abs(lacking)))
        self.change(high[:taken], step)
        self.change(low[:taken], -step)

    def fit_squares(self, squares: float) -> None:
        """Change the pair, among equally bright pixels, that brings the sum of squares closest."""
        alike = self.order[(self.green + self.nir)[self.order] == 4000]  # noqa: PLR2004 - see the overlay
        pool = alike[:: max(1, len(alike) // _POOL)]
        up = self.values(pool, 1) ** 2 - self.values(pool) ** 2
        down = self.values(pool, -1) ** 2 - self.values(pool) ** 2
        self._change_pair(pool, up, down, self.missing_squares(squares))

    def fit_sum(self, total: float) -> None:
        """Change the pair, among pixels of like index, that brings the sum closest."""
        middle = len(self.order) // 3
        pool = self.order[middle : middle + _POOL]
        up = self.values(pool, 1) - self.values(pool)
        down = self.values(pool, -1) - self.values(pool)
        self._change_pair(pool, up, down, self.missing_sum(total))

    def _change_pair(
        self, pool: Whole, up: NDArray[np.float64], down: NDArray[np.float64], wanted: float
    ) -> None:
        order = np.argsort(down, kind="stable")
        near = np.clip(np.searchsorted(down[order], wanted - up), 1, len(order) - 1)
        best = min(
            (
                (abs(up[i] + down[order[j]] - wanted), i, order[j])
                for i in range(len(pool))
                for j in (near[i] - 1, near[i])
            ),
            key=lambda found: found[0],
        )
        if best[0] < abs(wanted) and best[1] != best[2]:
            self.change(pool[best[1]], 1)
            self.change(pool[best[2]], -1)
