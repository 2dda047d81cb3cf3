"""Run an evalscript on whole arrays: every branch runs, and each pixel keeps the result of its own branch.

esprima parses the script to a tree of nodes (https://github.com/estree/estree). An `if` whose condition is
an array runs both branches, each for its own pixels: an assignment changes only those, and a `return` ends
the function for them. `active` always selects the pixels: True for all of them, or a mask.

Operators and functions work on numbers and arrays (ECMA-262, 13 and 21.3). Every number is a 64-bit float.
Division by zero gives infinity or NaN, never an error. Comparisons, `&&` and `||` work element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import esprima
import numpy as np

Node = Any
"""A node of ESTree: `type`, `loc`, and what its type has."""


class ScriptError(Exception):
    """The script cannot be parsed, or uses something that is not supported."""


class ScriptFault(Exception):  # noqa: N818 - an error of the script at run time
    """The script failed at run time: an undefined name, or a value of the wrong kind."""


_FUNCTIONS = frozenset({"FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"})
_SUPPORTED = _FUNCTIONS | {
    *("ArrayExpression", "AssignmentExpression", "BinaryExpression", "BlockStatement", "CallExpression"),
    *("ConditionalExpression", "EmptyStatement", "ExpressionStatement", "Identifier", "IfStatement"),
    *("Literal", "LogicalExpression", "MemberExpression", "ObjectExpression", "Program", "Property"),
    *("ReturnStatement", "UnaryExpression", "UpdateExpression", "VariableDeclaration", "VariableDeclarator"),
}


def parse(text: str) -> tuple[dict[str, Node], list[Node]]:
    """Return the functions of a script by name, and its other statements."""
    try:
        program = esprima.parseScript(text, {"loc": True})
    except esprima.Error as error:
        raise ScriptError(str(error)) from error
    for node in _nodes(program):
        if node.type not in _SUPPORTED:
            raise ScriptError(f"line {node.loc.start.line}: {node.type} is not supported")
        _check(node)
    functions: dict[str, Node] = {}
    statements: list[Node] = []
    for statement in program.body:
        if statement.type == "FunctionDeclaration":
            functions[statement.id.name] = statement
        elif statement.type == "VariableDeclaration" and _binds_functions(statement):
            functions |= {declared.id.name: declared.init for declared in statement.declarations}
        else:
            statements.append(statement)
    return functions, statements


def _nodes(node: Node) -> Iterator[Node]:
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        for name, value in vars(one).items():
            if name != "loc":
                waiting += [
                    part for part in (value if isinstance(value, list) else [value]) if hasattr(part, "loc")
                ]


def _binds_functions(statement: Node) -> bool:
    return all(
        declared.init is not None and declared.init.type in _FUNCTIONS for declared in statement.declarations
    )


def _check(node: Node) -> None:
    """Refuse what a supported node may contain besides."""
    targets = {"AssignmentExpression": "left", "UpdateExpression": "argument", "VariableDeclarator": "id"}
    names = (
        [getattr(node, targets[node.type])] if node.type in targets else getattr(node, "params", None) or []
    )
    if any(name.type != "Identifier" for name in names):
        raise ScriptError(f"line {node.loc.start.line}: only variables can be assigned to")
    if node.type == "CallExpression" and _dotted(node.callee) is None:
        raise ScriptError(f"line {node.loc.start.line}: only functions with a name can be called")
    operator = getattr(node, "operator", None)
    allowed = {
        "UnaryExpression": UNARY, "BinaryExpression": BINARY, "LogicalExpression": ("&&", "||"),
        "AssignmentExpression": {"=", *(f"{name}=" for name in BINARY)},
    }.get(node.type)  # fmt: skip
    if allowed is not None and operator not in allowed:
        raise ScriptError(f"line {node.loc.start.line}: `{operator}` is not supported")


def _dotted(node: Node) -> str | None:
    """Return the name of a function, such as `Math.abs`."""
    if node.type == "Identifier":
        return str(node.name)
    if node.type != "MemberExpression" or node.computed or (holder := _dotted(node.object)) is None:
        return None
    return f"{holder}.{node.property.name}"


UNDEFINED = None
"""The value of undefined variables and members."""


def number(value: Any) -> Any:
    """Return a value as a number: booleans are 0 and 1, undefined is NaN."""
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


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where a condition is true, otherwise `no`; arrays and records member by member."""
    if not isinstance(condition, np.ndarray):
        return yes if condition else no
    if isinstance(yes, list) and isinstance(no, list) and len(yes) == len(no):
        return [choose(condition, a, b) for a, b in zip(yes, no, strict=True)]
    if isinstance(yes, dict) and isinstance(no, dict) and yes.keys() == no.keys():
        return {name: choose(condition, yes[name], no[name]) for name in yes}
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

    def __init__(self, text: str) -> None:
        self.functions, statements = parse(text)
        self.depth = 0
        self.top = ScriptScope(values=dict(CONSTANTS), constants=set(CONSTANTS))
        with np.errstate(all="ignore"):
            for statement in statements:
                _FunctionCall(self).run(statement, self.top, active=True)

    def call(self, name: str, arguments: list[Any], active: Active = True) -> Any:
        function = self.functions.get(name)
        if function is None:
            raise ScriptFault(f"{name} is not defined")
        if self.depth >= _DEEPEST_CALL:
            raise ScriptFault(f"{name} calls itself too deeply")
        kept = dict(self.top.values) if self.depth == 0 else None  # a call must not affect the next one
        self.depth += 1
        given = [*arguments, *[UNDEFINED] * len(function.params)]
        names = [parameter.name for parameter in function.params]
        scope, body = ScriptScope(self.top, dict(zip(names, given, strict=False))), _FunctionCall(self)
        try:
            with np.errstate(all="ignore"):
                if function.body.type != "BlockStatement":  # an arrow with an expression
                    return body.value(function.body, scope, active)
                body.run(function.body, scope, active)
                return body.result()
        finally:
            self.depth -= 1
            self.top.values = kept if kept is not None else self.top.values


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
            value = choose(active, given, value)
        return value

    def run(self, node: Node, scope: ScriptScope, active: Active) -> Active:
        """Run a statement; return the pixels that continue with the next one."""
        if not bool(np.any(active)):
            return False
        match node.type:
            case "BlockStatement":
                inner = ScriptScope(scope)
                for statement in node.body:
                    active = self.run(statement, inner, active)
            case "IfStatement":
                return self._branch(node, scope, active)
            case "ReturnStatement":
                given = UNDEFINED if node.argument is None else self.value(node.argument, scope, active)
                self.returned.append((active, given))
                return False
            case "VariableDeclaration":
                for declared in node.declarations:
                    name, init = declared.id.name, declared.init
                    scope.values[name] = UNDEFINED if init is None else self.value(init, scope, active)
                    scope.constants |= {name} if node.kind == "const" else set()
            case "ExpressionStatement":
                self.value(node.expression, scope, active)
            case "FunctionDeclaration":
                raise ScriptFault(f"line {node.loc.start.line}: functions are defined at the top only")
        return active

    def _branch(self, node: Node, scope: ScriptScope, active: Active) -> Active:
        holds = truth(self.value(node.test, scope, active))
        there = _both(active, holds) if isinstance(holds, np.ndarray) else (active if holds else False)
        elsewhere = _without(active, there)
        there = self.run(node.consequent, ScriptScope(scope), there)
        if node.alternate is not None:
            elsewhere = self.run(node.alternate, ScriptScope(scope), elsewhere)
        return there | elsewhere

    def _assign(self, name: str, value: Any, scope: ScriptScope, active: Active) -> Any:
        holder = scope.holder(name)
        if holder is None:  # a new global variable, as without `use strict`
            holder = self.program.top
        if name in holder.constants:
            raise ScriptFault(f"{name} is constant and cannot be assigned to")
        holder.values[name] = choose(active, value, holder.values.get(name, UNDEFINED))
        return value

    def value(self, node: Node, scope: ScriptScope, active: Active) -> Any:
        def of(part: Node) -> Any:
            return self.value(part, scope, active)

        match node.type:
            case "Literal":
                is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
                return np.float64(node.value) if is_number else node.value
            case "Identifier":
                return _looked_up(node.name, scope)
            case "CallExpression":
                name, arguments = _dotted(node.callee) or "", [of(argument) for argument in node.arguments]
                if name not in self.program.functions and name in FUNCTIONS:
                    return FUNCTIONS[name](*arguments)
                return self.program.call(name, arguments, active)
            case "AssignmentExpression":
                given = of(node.right)
                changed = given if node.operator == "=" else BINARY[node.operator[:-1]](of(node.left), given)
                return self._assign(node.left.name, changed, scope, active)
            case "UpdateExpression":
                changed = BINARY[node.operator[0]](of(node.argument), np.float64(1))
                return self._assign(node.argument.name, changed, scope, active)
            case "ArrayExpression":
                return [UNDEFINED if element is None else of(element) for element in node.elements]
            case "ObjectExpression":
                return {_key(member): of(member.value) for member in node.properties}
            case "MemberExpression":
                return _member(node, of)
            case "ArrowFunctionExpression" | "FunctionExpression":
                raise ScriptFault(f"line {node.loc.start.line}: functions are defined at the top only")
        return _computed(node, of)


def _key(member: Node) -> str:
    return str(member.key.name if member.key.type == "Identifier" else member.key.value)


def _looked_up(name: str, scope: ScriptScope) -> Any:
    holder = scope.holder(name)
    if holder is None:
        raise ScriptFault(f"{name} is not defined")
    return holder.values[name]


def _computed(node: Node, of: Callable[[Node], Any]) -> Any:
    """Evaluate an operator."""
    match node.type:
        case "UnaryExpression":
            return UNARY[node.operator](of(node.argument))
        case "BinaryExpression":
            return BINARY[node.operator](of(node.left), of(node.right))
        case "ConditionalExpression":
            holds = truth(of(node.test))
            if isinstance(holds, np.ndarray):
                return choose(holds, of(node.consequent), of(node.alternate))
            return of(node.consequent) if holds else of(node.alternate)
    left = of(node.left)
    holds, wants = truth(left), node.operator == "&&"
    if isinstance(holds, np.ndarray):
        right = of(node.right)
        return choose(holds, right, left) if wants else choose(holds, left, right)
    return of(node.right) if holds == wants else left


def _member(node: Node, of: Callable[[Node], Any]) -> Any:
    if (name := _dotted(node)) in MEMBERS:
        return MEMBERS[name or ""]
    holder = of(node.object)
    if node.computed:
        place = of(node.property)
        if isinstance(holder, Mapping) and isinstance(place, str):
            return holder.get(place, UNDEFINED)
        if isinstance(holder, list) and isinstance(place, float):
            return holder[int(place)] if place.is_integer() and 0 <= place < len(holder) else UNDEFINED
        raise ScriptFault("elements are taken of arrays by number and of objects by name only")
    if holder is UNDEFINED:
        raise ScriptFault(f"cannot read {node.property.name} of undefined")
    if isinstance(holder, list) and node.property.name == "length":
        return np.float64(len(holder))
    return holder.get(node.property.name, UNDEFINED) if isinstance(holder, Mapping) else UNDEFINED
