"""JavaScript's operators and functions of numbers, on numbers and arrays alike (ECMA-262, 13 and 21.3).

Every number is a 64-bit float. Division by zero gives infinity or NaN, never an error. Comparing and `&&`,
`||` choose element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stacpull_replicas.sentinelhub.evalscript.errors import ScriptFault

UNDEFINED = None
"""The value of what was not defined."""


def number(value: Any) -> Any:
    """A value as number: booleans are 0 and 1, undefined is NaN. Raises ScriptFault for what is none."""
    if isinstance(value, bool):
        return float(value)
    if value is UNDEFINED:
        return np.nan
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype == bool else value
    if isinstance(value, float | np.floating | np.bool_):
        return np.float64(value)
    if isinstance(value, list) and len(value) == 1:
        return number(value[0])
    raise ScriptFault(f"{_kind(value)} is used as a number")


def truth(value: Any) -> Any:
    """Whether a value counts as true: everything but false, 0, NaN, "" and undefined."""
    if isinstance(value, np.ndarray):
        return value if value.dtype == bool else (value != 0) & ~np.isnan(value)
    if isinstance(value, float | np.floating):
        return bool(value != 0 and not np.isnan(value))
    if isinstance(value, list | dict):
        return True
    return bool(value)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def choose(condition: Any, yes: Any, no: Any, step: Callable[[], None]) -> Any:
    """Return `yes` where a condition holds, otherwise `no`; arrays and records member by member.

    Args:
        condition: A boolean, or an array of them.
        yes: A value.
        no: Another value.
        step: Called for each member.
    """
    step()
    if not isinstance(condition, np.ndarray):
        return yes if condition else no
    if isinstance(yes, list) and isinstance(no, list) and len(yes) == len(no):
        return [choose(condition, a, b, step) for a, b in zip(yes, no, strict=True)]
    if isinstance(yes, dict) and isinstance(no, dict) and yes.keys() == no.keys():
        return {name: choose(condition, yes[name], no[name], step) for name in yes}
    if yes is UNDEFINED and no is UNDEFINED:
        return UNDEFINED
    if _is_boolean(yes) and _is_boolean(no):
        return np.where(condition, yes, no)
    return np.where(condition, number(yes), number(no))


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, np.ndarray) and value.dtype == bool)


def _equal(left: Any, right: Any) -> Any:
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str) and left == right
    if (left is UNDEFINED) != (right is UNDEFINED):
        return False
    if left is UNDEFINED:
        return True
    return number(left) == number(right)


def _unequal(left: Any, right: Any) -> Any:
    same = _equal(left, right)
    return ~same if isinstance(same, np.ndarray | np.bool_) else not same


def _whole(value: Any) -> Any:
    """A number as 32 bits with a sign (ECMA-262, 7.1.6)."""
    finite = np.nan_to_num(np.asarray(number(value), np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.trunc(np.fmod(finite, 2.0**32)).astype(np.int64).astype(np.int32)


def _bits(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        return operation(_whole(left), _whole(right)).astype(np.float64)[()]

    return apply


def _shift_left(left: Any, right: Any) -> Any:
    return (left.astype(np.int64) << (right & 31)).astype(np.int32)


def _numeric(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        return operation(number(left), number(right))

    return apply


BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": _numeric(np.add),
    "-": _numeric(np.subtract),
    "*": _numeric(np.multiply),
    "/": _numeric(np.divide),
    "%": _numeric(np.fmod),
    "**": _numeric(np.power),
    "<": _numeric(np.less),
    ">": _numeric(np.greater),
    "<=": _numeric(np.less_equal),
    ">=": _numeric(np.greater_equal),
    "==": _equal,
    "===": _equal,
    "!=": _unequal,
    "!==": _unequal,
    "&": _bits(np.bitwise_and),
    "|": _bits(np.bitwise_or),
    "^": _bits(np.bitwise_xor),
    "<<": _bits(_shift_left),
    ">>": _bits(lambda left, right: left >> (right & 31)),
}
"""Operators that take both their sides."""


def negated(value: Any) -> Any:
    """`!value`."""
    holds = truth(value)
    return ~holds if isinstance(holds, np.ndarray) else not holds


UNARY: Mapping[str, Callable[[Any], Any]] = {
    "-": lambda value: np.negative(number(value)),
    "+": number,
    "!": negated,
    "~": lambda value: (~_whole(value)).astype(np.float64)[()],
}
"""Operators with one side."""


def _all(operation: Callable[[Any, Any], Any], start: float) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        found: Any = np.float64(start)
        for value in values:
            found = operation(found, number(value))
        return found

    return apply


def _one(operation: Callable[[Any], Any]) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        return operation(number(values[0] if values else UNDEFINED))

    return apply


def _two(operation: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        left, right, *_ = [*values, UNDEFINED, UNDEFINED]
        return operation(number(left), number(right))

    return apply


_SAME_NAMES = (
    *(
        "abs",
        "sqrt",
        "cbrt",
        "exp",
        "log",
        "log10",
        "log2",
        "log1p",
        "expm1",
        "floor",
        "ceil",
        "trunc",
        "sign",
    ),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh"),
)
"""Functions that are called alike in JavaScript's Math and in numpy."""

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{
        f"Math.{name}": _one(getattr(np, operation))
        for name, operation in {
            **{name: name for name in _SAME_NAMES},
            "asin": "arcsin",
            "acos": "arccos",
            "atan": "arctan",
        }.items()
    },
    "Math.round": _one(lambda value: np.floor(value + 0.5)),
    "Math.pow": _two(np.power),
    "Math.atan2": _two(np.arctan2),
    "Math.hypot": _all(np.hypot, 0.0),
    "Math.min": _all(np.minimum, np.inf),
    "Math.max": _all(np.maximum, -np.inf),
    "isNaN": _one(np.isnan),
    "Number.isNaN": _one(np.isnan),
    "isFinite": _one(np.isfinite),
    "Number.isFinite": _one(np.isfinite),
    "index": _two(lambda left, right: (left - right) / (left + right)),
}
"""Functions that are there without being defined; `index` is the service's own."""

CONSTANTS: Mapping[str, Any] = {
    "NaN": np.float64(np.nan),
    "Infinity": np.float64(np.inf),
    "undefined": UNDEFINED,
    "null": UNDEFINED,
    "true": True,
    "false": False,
}
MEMBERS: Mapping[str, Any] = {"Math.PI": np.float64(np.pi), "Math.E": np.float64(np.e)}
