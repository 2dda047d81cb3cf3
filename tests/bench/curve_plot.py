"""Plot curves below each other as an SVG image that is readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_WIDTH, _HEIGHT = 720, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 30, 14
_COLOURS = ("#2a86c8", "#d55e00", "#009e73")
"""Safe for colour-blind readers, with enough contrast on white and on black."""
_TEXT = "#7d7d7d"


class Curve(NamedTuple):
    title: str
    values: Sequence[float]


def plot(across: Sequence[float], curves: Sequence[Curve], unit: str) -> str:
    """Return an SVG image of curves that share the x axis; every y axis starts at zero.

    Args:
        across: The x positions of all values, ascending.
        curves: The curves, from top to bottom.
        unit: The label of the x axis.
    """
    height = _HEIGHT * len(curves) + 40
    font = f'font-size="12" font-family="sans-serif" fill="{_TEXT}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {font}>']
    for number, curve in enumerate(curves):
        parts += _panel(across, curve, _HEIGHT * number, _COLOURS[number % len(_COLOURS)])
    ticks = _ticks(across[-1])
    parts += [_text(_x(tick, across[-1]), height - 26, f"{tick:g}", "middle") for tick in ticks]
    parts.append(_text(_WIDTH - _RIGHT, height - 8, unit, "end"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(across: Sequence[float], curve: Curve, top: int, colour: str) -> list[str]:
    ticks = _ticks(max(curve.values))
    most, room = max(*ticks, *curve.values), _HEIGHT - _TOP - _BOTTOM

    def y(value: float) -> float:
        return top + _TOP + room * (1 - value / most)

    parts = [_text(_LEFT, top + 18, curve.title, "start", colour)]
    for tick in ticks:
        parts.append(
            f'<path d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}" stroke="{_TEXT}" stroke-opacity="0.35"/>'
        )
        parts.append(_text(_LEFT - 6, y(tick) + 4, f"{tick:g}", "end"))
    points = " ".join(
        f"{_x(at, across[-1]):.1f},{y(value):.1f}" for at, value in zip(across, curve.values, strict=True)
    )
    parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return parts


def _x(at: float, most: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at / most


def _ticks(most: float) -> list[float]:
    """Return about four round numbers from zero up to `most`."""
    step = 10 ** math.floor(math.log10(most))
    step = next(one for one in (step / 5, step / 2, step, step * 2) if most / one <= 5)
    return [step * number for number in range(math.floor(most / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str, colour: str = _TEXT) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
