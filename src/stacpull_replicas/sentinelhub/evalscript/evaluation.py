"""Run a script on whole arrays: every branch is taken, and each pixel keeps what its own branch gave.

An `if` whose condition is an array runs both its sides, each for the pixels that go there: an assignment
changes those alone, a `return` ends the function for them. So `active` goes along everywhere: true for all
pixels, or an array that says for which.

Steps are counted, because a short script can ask for more than any machine can do: functions that call each
other twice, arrays that hold each other twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stacpull_replicas.sentinelhub.evalscript.errors import ScriptFault
from stacpull_replicas.sentinelhub.evalscript.operators import (
    BINARY,
    CONSTANTS,
    FUNCTIONS,
    MEMBERS,
    UNARY,
    UNDEFINED,
    choose,
    truth,
)
from stacpull_replicas.sentinelhub.evalscript.tree import (
    Array,
    Assign,
    Binary,
    Block,
    Call,
    Conditional,
    Declare,
    Element,
    Expression,
    Function,
    If,
    Member,
    Name,
    Number,
    Perform,
    Program,
    Record,
    Return,
    Several,
    Statement,
    Text,
    Unary,
)

_DEEPEST_CALL = 20
_MOST_STEPS = 10_000
"""Of one call from outside: statements, expressions and values that a condition chooses."""
Active = Any
"""True, False, or an array of booleans: the pixels for which something happens."""


@dataclass
class Scope:
    """Variables, and where to look for those that are not here."""

    outer: Scope | None = None
    values: dict[str, Any] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)

    def holder(self, name: str) -> Scope | None:
        """The nearest scope that has a variable."""
        here: Scope | None = self
        while here is not None and name not in here.values:
            here = here.outer
        return here


class Run:
    """A program that runs: its functions and what stands at its top."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.depth = 0
        self.steps = 0
        self.top = Scope(values=dict(CONSTANTS), constants=set(CONSTANTS))
        with np.errstate(all="ignore"):
            for statement in program.statements:
                _Body(self).run(statement, self.top, active=True)

    def call(self, name: str, arguments: list[Any], active: Active = True) -> Any:
        """Call a function of the program. Raises ScriptFault."""
        function = self.program.functions.get(name)
        if function is None:
            raise ScriptFault(f"{name} is not defined")
        if self.depth >= _DEEPEST_CALL:
            raise ScriptFault(f"{name} calls itself too deeply")
        kept = dict(self.top.values) if self.depth == 0 else None  # no call leaves anything for the next
        self.steps = 0 if self.depth == 0 else self.steps
        self.depth += 1
        try:
            with np.errstate(all="ignore"):
                return _called(self, function, arguments, active)
        finally:
            self.depth -= 1
            self.top.values = kept if kept is not None else self.top.values

    def step(self) -> None:
        """Count a step. Raises ScriptFault if the script takes too many."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise ScriptFault(f"the script takes more than {_MOST_STEPS:,} steps")


def _called(run: Run, function: Function, arguments: list[Any], active: Active) -> Any:
    given = [*arguments, *[UNDEFINED] * len(function.parameters)]
    scope = Scope(run.top, dict(zip(function.parameters, given, strict=False)))
    body = _Body(run)
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


class _Body:
    """One call of a function: what its pixels have returned so far."""

    def __init__(self, program: Run) -> None:
        self.program = program
        self.returned: list[tuple[Active, Any]] = []

    def result(self) -> Any:
        """What the pixels returned, put together; undefined if none did."""
        if not self.returned:
            return UNDEFINED
        *earlier, (_, value) = self.returned
        for active, given in reversed(earlier):
            value = choose(active, given, value, self.program.step)
        return value

    def run(self, statement: Statement, scope: Scope, active: Active) -> Active:
        """Do a statement; which pixels go on to the next."""
        if not _some(active):
            return False
        self.program.step()
        match statement:
            case Block(statements):
                return self._in_turn(statements, Scope(scope), active)
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

    def _in_turn(self, statements: tuple[Statement, ...], scope: Scope, active: Active) -> Active:
        for statement in statements:
            active = self.run(statement, scope, active)
        return active

    def _branch(self, statement: If, scope: Scope, active: Active) -> Active:
        holds = truth(self.value(statement.condition, scope, active))
        there = _both(active, holds) if isinstance(holds, np.ndarray) else (active if holds else False)
        elsewhere = _without(active, there)
        there = self.run(statement.yes, Scope(scope), there)
        if statement.no is not None:
            elsewhere = self.run(statement.no, Scope(scope), elsewhere)
        return there | elsewhere

    def _assign(self, name: str, value: Any, scope: Scope, active: Active) -> None:
        holder = scope.holder(name)
        if holder is None:  # without `use strict`, a new global variable
            holder = self.program.top
        if name in holder.constants:
            raise ScriptFault(f"{name} is constant and cannot be assigned to")
        holder.values[name] = choose(active, value, holder.values.get(name, UNDEFINED), self.program.step)

    def value(self, expression: Expression, scope: Scope, active: Active) -> Any:
        """What an expression comes to."""

        def of(part: Expression) -> Any:
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


def _looked_up(name: str, scope: Scope) -> Any:
    holder = scope.holder(name)
    if holder is None:
        raise ScriptFault(f"{name} is not defined")
    return holder.values[name]


Of = Callable[[Expression], Any]
"""Gives the value of a part of an expression."""


def _structured(expression: Array | Record | Member | Element, of: Of) -> Any:
    """Put an array or a record together, or take a part of one."""
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
    """Apply an operator."""
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


def _member(inner: Expression, name: str, of: Of) -> Any:
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
