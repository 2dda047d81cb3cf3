"""Run an evalscript on whole arrays: every branch runs, and each pixel keeps the result of its own branch.

An `if` whose condition is an array runs both branches, each for its own pixels: an assignment changes only
those, and a `return` ends the function for them. `active` always selects the pixels: True for all of them, or
a mask.

Operators and functions work on numbers and arrays (ECMA-262, 13 and 21.3). Every number is a 64-bit float.
Division by zero gives infinity or NaN, never an error. Comparisons, `&&` and `||` work element by element.

Steps are counted, because a short script can require unlimited work, for example with functions that call
each other twice, or arrays that contain each other twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stacpull_replicas.sentinelhub.script_syntax import (
    Array,
    Assign,
    Binary,
    Block,
    Call,
    Conditional,
    Declare,
    Element,
    Function,
    If,
    Member,
    Name,
    Number,
    Perform,
    Program,
    Record,
    Return,
    ScriptExpression,
    ScriptFault,
    Several,
    Statement,
    Text,
    Unary,
)

UNDEFINED = None
"""The value of undefined variables and members."""


def number(value: Any) -> Any:
    """Return a value as a number: booleans are 0 and 1, undefined is NaN.

    Raises:
        ScriptFault: The value is not a number.
    """
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
    """Return True for every value except false, 0, NaN, "" and undefined."""
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
    """Return `yes` where a condition is true, otherwise `no`; arrays and records member by member.

    Args:
        condition: A boolean, or an array of booleans.
        yes: The value where the condition is true.
        no: The value elsewhere.
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
    """Return a number as a signed 32-bit integer (ECMA-262, 7.1.6)."""
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
"""Operators that always evaluate both operands."""


def negated(value: Any) -> Any:
    """Return `!value`."""
    holds = truth(value)
    return ~holds if isinstance(holds, np.ndarray) else not holds


UNARY: Mapping[str, Callable[[Any], Any]] = {
    "-": lambda value: np.negative(number(value)),
    "+": number,
    "!": negated,
    "~": lambda value: (~_whole(value)).astype(np.float64)[()],
}
"""Operators with one operand."""


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
"""Functions with the same name in JavaScript's Math and in numpy."""

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
"""Built-in functions; `index` is defined by the service."""

CONSTANTS: Mapping[str, Any] = {
    "NaN": np.float64(np.nan),
    "Infinity": np.float64(np.inf),
    "undefined": UNDEFINED,
    "null": UNDEFINED,
    "true": True,
    "false": False,
}
MEMBERS: Mapping[str, Any] = {"Math.PI": np.float64(np.pi), "Math.E": np.float64(np.e)}


_DEEPEST_CALL = 20
_MOST_STEPS = 10_000
"""The most steps of one call from outside: statements, expressions, and values chosen by a condition."""
Active = Any
"""True, False, or an array of booleans: the pixels that a statement applies to."""


@dataclass
class ScriptScope:
    """Variables, and the outer scope for other variables."""

    outer: ScriptScope | None = None
    values: dict[str, Any] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)

    def holder(self, name: str) -> ScriptScope | None:
        """Return the nearest scope that has a variable; None if no scope has it."""
        here: ScriptScope | None = self
        while here is not None and name not in here.values:
            here = here.outer
        return here


class ScriptRun:
    """A running program: its functions and its top-level statements."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.depth = 0
        self.steps = 0
        self.top = ScriptScope(values=dict(CONSTANTS), constants=set(CONSTANTS))
        with np.errstate(all="ignore"):
            for statement in program.statements:
                _FunctionCall(self).run(statement, self.top, active=True)

    def call(self, name: str, arguments: list[Any], active: Active = True) -> Any:
        """Call a function of the program.

        Raises:
            ScriptFault: The script fails.
        """
        function = self.program.functions.get(name)
        if function is None:
            raise ScriptFault(f"{name} is not defined")
        if self.depth >= _DEEPEST_CALL:
            raise ScriptFault(f"{name} calls itself too deeply")
        kept = dict(self.top.values) if self.depth == 0 else None  # a call must not affect the next one
        self.steps = 0 if self.depth == 0 else self.steps
        self.depth += 1
        try:
            with np.errstate(all="ignore"):
                return _called(self, function, arguments, active)
        finally:
            self.depth -= 1
            self.top.values = kept if kept is not None else self.top.values

    def step(self) -> None:
        """Count a step.

        Raises:
            ScriptFault: The script takes too many steps.
        """
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise ScriptFault(f"the script takes more than {_MOST_STEPS:,} steps")


def _called(run: ScriptRun, function: Function, arguments: list[Any], active: Active) -> Any:
    given = [*arguments, *[UNDEFINED] * len(function.parameters)]
    scope = ScriptScope(run.top, dict(zip(function.parameters, given, strict=False)))
    body = _FunctionCall(run)
    body.run(function.body, scope, active)
    return body.result()


def _some(active: Active) -> bool:
    return bool(np.any(active))


def _both(active: Active, condition: Any) -> Active:
    if active is True:
        return condition
    return active & condition if condition is not True else active


def _without(active: Active, gone: Active) -> Active:
    if gone is True:
        return False
    return active & ~gone if active is not True else ~gone


class _FunctionCall:
    """One call of a function, with the values that its pixels have returned so far."""

    def __init__(self, program: ScriptRun) -> None:
        self.program = program
        self.returned: list[tuple[Active, Any]] = []

    def result(self) -> Any:
        """Return the combined results of the pixels; undefined if there are none."""
        if not self.returned:
            return UNDEFINED
        *earlier, (_, value) = self.returned
        for active, given in reversed(earlier):
            value = choose(active, given, value, self.program.step)
        return value

    def run(self, statement: Statement, scope: ScriptScope, active: Active) -> Active:
        """Run a statement; return the pixels that continue with the next one."""
        if not _some(active):
            return False
        self.program.step()
        match statement:
            case Block(statements):
                return self._in_turn(statements, ScriptScope(scope), active)
            case Several(statements):
                return self._in_turn(statements, scope, active)
            case If():
                return self._branch(statement, scope, active)
            case Return(value):
                given = UNDEFINED if value is None else self.value(value, scope, active)
                self.returned.append((active, given))
                return False
            case Declare(name, value, constant):
                scope.values[name] = UNDEFINED if value is None else self.value(value, scope, active)
                scope.constants |= {name} if constant else set()
            case Assign(name, value):
                self._assign(name, self.value(value, scope, active), scope, active)
            case Perform(value):
                self.value(value, scope, active)
        return active

    def _in_turn(self, statements: tuple[Statement, ...], scope: ScriptScope, active: Active) -> Active:
        for statement in statements:
            active = self.run(statement, scope, active)
        return active

    def _branch(self, statement: If, scope: ScriptScope, active: Active) -> Active:
        holds = truth(self.value(statement.condition, scope, active))
        there = _both(active, holds) if isinstance(holds, np.ndarray) else (active if holds else False)
        elsewhere = _without(active, there)
        there = self.run(statement.yes, ScriptScope(scope), there)
        if statement.no is not None:
            elsewhere = self.run(statement.no, ScriptScope(scope), elsewhere)
        return there | elsewhere

    def _assign(self, name: str, value: Any, scope: ScriptScope, active: Active) -> None:
        holder = scope.holder(name)
        if holder is None:  # a new global variable, as without `use strict`
            holder = self.program.top
        if name in holder.constants:
            raise ScriptFault(f"{name} is constant and cannot be assigned to")
        holder.values[name] = choose(active, value, holder.values.get(name, UNDEFINED), self.program.step)

    def value(self, expression: ScriptExpression, scope: ScriptScope, active: Active) -> Any:
        """Return the value of an expression."""

        def of(part: ScriptExpression) -> Any:
            return self.value(part, scope, active)

        self.program.step()
        match expression:
            case Number(value):
                return np.float64(value)
            case Text(value):
                return value
            case Name(name):
                return _looked_up(name, scope)
            case Call(function, arguments):
                return self._call(function, [of(argument) for argument in arguments], active)
            case Array() | Record() | Member() | Element():
                return _structured(expression, of)
        return _computed(expression, of, self.program.step)

    def _call(self, name: str, arguments: list[Any], active: Active) -> Any:
        if name not in self.program.program.functions and name in FUNCTIONS:
            return FUNCTIONS[name](*arguments)
        return self.program.call(name, arguments, active)


def _looked_up(name: str, scope: ScriptScope) -> Any:
    holder = scope.holder(name)
    if holder is None:
        raise ScriptFault(f"{name} is not defined")
    return holder.values[name]


Of = Callable[[ScriptExpression], Any]
"""Returns the value of a part of an expression."""


def _structured(expression: Array | Record | Member | Element, of: Of) -> Any:
    """Evaluate an array or a record, or a part of one."""
    match expression:
        case Array(elements):
            return [of(element) for element in elements]
        case Record(members):
            return {name: of(member) for name, member in members}
        case Member(inner, name):
            return _member(inner, name, of)
        case Element(inner, place):
            return _element(of(inner), of(place))


def _computed(expression: Unary | Binary | Conditional, of: Of, step: Callable[[], None]) -> Any:
    """Evaluate an operator."""
    match expression:
        case Unary(operator, inner):
            return UNARY[operator](of(inner))
        case Binary():
            return _binary(expression, of, step)
        case Conditional(condition, yes, no):
            holds = truth(of(condition))
            if isinstance(holds, np.ndarray):
                return choose(holds, of(yes), of(no), step)
            return of(yes) if holds else of(no)


def _member(inner: ScriptExpression, name: str, of: Of) -> Any:
    if isinstance(inner, Name) and f"{inner.name}.{name}" in MEMBERS:
        return MEMBERS[f"{inner.name}.{name}"]
    holder = of(inner)
    if holder is UNDEFINED:
        raise ScriptFault(f"cannot read {name} of undefined")
    if isinstance(holder, list) and name == "length":
        return np.float64(len(holder))
    return holder.get(name, UNDEFINED) if isinstance(holder, Mapping) else UNDEFINED


def _element(holder: Any, place: Any) -> Any:
    if isinstance(holder, Mapping) and isinstance(place, str):
        return holder.get(place, UNDEFINED)
    if isinstance(holder, list) and isinstance(place, float):
        return holder[int(place)] if place.is_integer() and 0 <= place < len(holder) else UNDEFINED
    raise ScriptFault("elements are taken of arrays by number and of objects by name only")


def _binary(expression: Binary, of: Of, step: Callable[[], None]) -> Any:
    left = of(expression.left)
    if expression.operator not in {"&&", "||"}:
        return BINARY[expression.operator](left, of(expression.right))
    holds, wants = truth(left), expression.operator == "&&"
    if isinstance(holds, np.ndarray):
        right = of(expression.right)
        return choose(holds, right, left, step) if wants else choose(holds, left, right, step)
    return of(expression.right) if holds == wants else left
