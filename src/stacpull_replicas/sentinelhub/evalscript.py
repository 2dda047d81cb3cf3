"""Evalscripts for statistics, run on whole arrays: every branch runs, and each pixel keeps its own result.

esprima parses the script to a tree of nodes (https://github.com/estree/estree). An `if` whose condition is
an array runs both branches, each for its own pixels: an assignment changes only those, and a `return` ends
the function for them. `active` always selects the pixels: True for all of them, or a mask.

Operators and functions work on numbers and arrays (ECMA-262, 13 and 21.3). Every number is a 64-bit float.
Division by zero gives infinity or NaN, never an error.

A script needs `setup`, `evaluatePixel`, outputs and a data mask. The default sample type is FLOAT32; `bands`
of an output may be names. `dataMask` has one band for all outputs, or one for each output or band, with the
same name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache, partial, reduce
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Node = Any
"""A node of ESTree: `type`, `loc`, and what its type has."""
Active = Any
"""True, False, or an array of booleans: the pixels that a statement applies to."""
UNDEFINED = None
"""The value of undefined variables and members."""

DATA_MASK = "dataMask"
_TYPES: Mapping[str, type[np.generic]] = {
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "FLOAT32": np.float32,
    "AUTO": np.float32,
}
_MAX_BANDS = 1000
_MAX_LENGTH = 100_000
_DEEPEST_CALL = 20


class ScriptError(Exception):
    """The script cannot be parsed, or uses something that is not supported."""


class ScriptFault(Exception):  # noqa: N818 - an error of the script at run time
    """The script failed at run time: an undefined name, or a value of the wrong kind."""


def _number(value: Any) -> Any:
    if value is UNDEFINED:
        return np.nan
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype == bool else value
    if isinstance(value, bool | float | np.floating | np.bool_):
        return np.float64(value)
    if isinstance(value, list) and len(value) == 1:
        return _number(value[0])
    kind = "a string" if isinstance(value, str) else "an array" if isinstance(value, list) else "an object"
    raise ScriptFault(f"{kind} is used as a number")


def _truth(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value if value.dtype == bool else (value != 0) & ~np.isnan(value)
    if isinstance(value, float | np.floating):
        return bool(value != 0 and not np.isnan(value))
    return isinstance(value, list | dict) or bool(value)


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where a condition is true, otherwise `no`; arrays and records member by member."""
    if not isinstance(condition, np.ndarray):
        return yes if condition else no
    if isinstance(yes, list) and isinstance(no, list) and len(yes) == len(no):
        return [_choose(condition, a, b) for a, b in zip(yes, no, strict=True)]
    if isinstance(yes, dict) and isinstance(no, dict) and yes.keys() == no.keys():
        return {name: _choose(condition, yes[name], no[name]) for name in yes}
    if yes is UNDEFINED and no is UNDEFINED:
        return UNDEFINED
    if all(np.asarray(value).dtype == np.bool_ for value in (yes, no) if not isinstance(value, str)):
        return np.where(condition, yes, no)
    return np.where(condition, _number(yes), _number(no))


def _not(value: Any) -> Any:
    holds = _truth(value)
    return ~holds if isinstance(holds, np.ndarray) else not holds


def _equal(left: Any, right: Any) -> Any:
    if isinstance(left, str) or isinstance(right, str) or left is UNDEFINED or right is UNDEFINED:
        return type(left) is type(right) and left == right
    return _number(left) == _number(right)


def _numeric(operation: Callable[..., Any], operands: int) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        return operation(*map(_number, [*values, *[UNDEFINED] * operands][:operands]))

    return apply


def _all(operation: Callable[[Any, Any], Any], start: float) -> Callable[..., Any]:
    return lambda *values: reduce(operation, map(_number, values), np.float64(start))


_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "**": np.power,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
}
BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    **{name: _numeric(operation, 2) for name, operation in _ARITHMETIC.items()},
    "==": _equal,
    "===": _equal,
    "!=": lambda left, right: _not(_equal(left, right)),
    "!==": lambda left, right: _not(_equal(left, right)),
}
"""Operators that always evaluate both operands."""
UNARY: Mapping[str, Callable[[Any], Any]] = {"-": _numeric(np.negative, 1), "+": _number, "!": _not}
_SAME_NAMES = ("abs", "sqrt", "cbrt", "exp", "log", "log10", "log2", "floor", "ceil", "trunc", "sign", "sin")
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{f"Math.{name}": _numeric(getattr(np, name), 1) for name in (*_SAME_NAMES, "cos", "tan")},
    **{f"Math.{name}": _numeric(getattr(np, f"arc{name[1:]}"), 1) for name in ("asin", "acos", "atan")},
    "Math.round": _numeric(lambda value: np.floor(value + 0.5), 1),
    "Math.pow": _numeric(np.power, 2),
    "Math.atan2": _numeric(np.arctan2, 2),
    "Math.hypot": _all(np.hypot, 0.0),
    "Math.min": _all(np.minimum, np.inf),
    "Math.max": _all(np.maximum, -np.inf),
    "isNaN": _numeric(np.isnan, 1),
    "isFinite": _numeric(np.isfinite, 1),
    "index": _numeric(lambda left, right: (left - right) / (left + right), 2),
}
"""Built-in functions; `index` is defined by the service."""
CONSTANTS: Mapping[str, Any] = {"NaN": np.float64(np.nan), "Infinity": np.float64(np.inf), "undefined": None}
MEMBERS: Mapping[str | None, Any] = {"Math.PI": np.float64(np.pi), "Math.E": np.float64(np.e)}

_FUNCTION_NODES = frozenset({"FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"})
_SUPPORTED = _FUNCTION_NODES | {
    *("ArrayExpression", "AssignmentExpression", "BinaryExpression", "BlockStatement", "CallExpression"),
    *("ConditionalExpression", "EmptyStatement", "ExpressionStatement", "Identifier", "IfStatement"),
    *("Literal", "LogicalExpression", "MemberExpression", "ObjectExpression", "Program", "Property"),
    *("ReturnStatement", "UnaryExpression", "VariableDeclaration", "VariableDeclarator"),
}
_OPERATORS: Mapping[str, Collection[str]] = {
    "UnaryExpression": UNARY,
    "BinaryExpression": BINARY,
    "LogicalExpression": ("&&", "||"),
    "AssignmentExpression": {"=", *(f"{name}=" for name in BINARY)},
}


def _parsed(text: str) -> tuple[dict[str, Node], list[Node]]:
    import esprima  # noqa: PLC0415 - an extra

    try:
        program = esprima.parseScript(text, {"loc": True})
    except esprima.Error as error:
        raise ScriptError(str(error)) from error
    line = 1
    for node in _nodes(program):
        if node.loc is not None:  # the parts of a regular expression have none
            line = node.loc.start.line
        problem = f"{node.type} is not supported" if node.type not in _SUPPORTED else _problem_of(node)
        if problem:
            raise ScriptError(f"line {line}: {problem}")
    functions: dict[str, Node] = {}
    statements: list[Node] = []
    for statement in program.body:
        if statement.type == "FunctionDeclaration":
            functions[statement.id.name] = statement
        elif statement.type == "VariableDeclaration" and all(
            declared.init is not None and declared.init.type in _FUNCTION_NODES
            for declared in statement.declarations
        ):
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
                parts = value if isinstance(value, list) else [value]
                waiting += [part for part in parts if hasattr(part, "loc")]


def _problem_of(node: Node) -> str | None:
    """Return what a node of a supported type has that is not supported."""
    targets = {"AssignmentExpression": "left", "VariableDeclarator": "id"}
    params = getattr(node, "params", None) or []
    names = [getattr(node, targets[node.type])] if node.type in targets else params
    if any(name.type != "Identifier" for name in names):
        return "only variables can be assigned to"
    if node.type == "CallExpression" and _dotted(node.callee) is None:
        return "only functions with a name can be called"
    allowed = _OPERATORS.get(node.type)
    return None if allowed is None or node.operator in allowed else f"`{node.operator}` is not supported"


def _dotted(node: Node) -> str | None:
    if node.type == "Identifier":
        return str(node.name)
    if node.type != "MemberExpression" or node.computed or (holder := _dotted(node.object)) is None:
        return None
    return f"{holder}.{node.property.name}"


class _Scope(msgspec.Struct):
    """Variables, and the outer scope for other variables."""

    outer: _Scope | None = None
    values: dict[str, Any] = {}
    constants: set[str] = set()

    def holder(self, name: str) -> _Scope | None:
        """Return the nearest scope that has a variable; None if no scope has it."""
        here: _Scope | None = self
        while here is not None and name not in here.values:
            here = here.outer
        return here


class ScriptRun:
    """A running program: its functions and its top-level statements."""

    def __init__(self, text: str) -> None:
        self.functions, statements = _parsed(text)
        self.depth = 0
        self.top = _Scope(values=dict(CONSTANTS), constants=set(CONSTANTS))
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
        names = [parameter.name for parameter in function.params]
        given = [*arguments, *[UNDEFINED] * len(names)]
        scope, body = _Scope(self.top, dict(zip(names, given, strict=False))), _FunctionCall(self)
        try:
            with np.errstate(all="ignore"):
                if function.body.type != "BlockStatement":  # an arrow with an expression
                    return body.value(function.body, scope, active)
                body.run(function.body, scope, active)
                return body.result()
        finally:
            self.depth -= 1
            self.top.values = kept if kept is not None else self.top.values


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
            value = _choose(active, given, value)
        return value

    def run(self, node: Node, scope: _Scope, active: Active) -> Active:
        """Run a statement; return the pixels that continue with the next one."""
        if not bool(np.any(active)):
            return False
        match node.type:
            case "BlockStatement":
                inner = _Scope(scope)
                for statement in node.body:
                    active = self.run(statement, inner, active)
            case "IfStatement":
                holds = _truth(self.value(node.test, scope, active))
                there, elsewhere = (
                    np.logical_and(active, holds),
                    np.logical_and(active, np.logical_not(holds)),
                )
                there = self.run(node.consequent, _Scope(scope), there)
                if node.alternate is not None:
                    elsewhere = self.run(node.alternate, _Scope(scope), elsewhere)
                return there | elsewhere
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

    def value(self, node: Node, scope: _Scope, active: Active) -> Any:
        of = partial(self.value, scope=scope, active=active)
        match node.type:
            case "Literal":
                is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
                return np.float64(node.value) if is_number else node.value
            case "Identifier":
                holder = scope.holder(node.name)
                if holder is None:
                    raise ScriptFault(f"{node.name} is not defined")
                return holder.values[node.name]
            case "CallExpression":
                name, arguments = _dotted(node.callee) or "", [of(argument) for argument in node.arguments]
                if name not in self.program.functions and name in FUNCTIONS:
                    return FUNCTIONS[name](*arguments)
                return self.program.call(name, arguments, active)
            case "AssignmentExpression":
                return self._assign(node, scope, active)
            case "ArrayExpression":
                return [UNDEFINED if element is None else of(element) for element in node.elements]
            case "ObjectExpression":
                keys = [m.key.name if m.key.type == "Identifier" else m.key.value for m in node.properties]
                return {str(key): of(m.value) for key, m in zip(keys, node.properties, strict=True)}
            case "MemberExpression":
                return _member_of(node, of)
        return _computed(node, of)

    def _assign(self, node: Node, scope: _Scope, active: Active) -> Any:
        name, given = node.left.name, self.value(node.right, scope, active)
        if node.operator != "=":
            given = BINARY[node.operator[:-1]](self.value(node.left, scope, active), given)
        holder = scope.holder(name) or self.program.top  # a new global variable, as without `use strict`
        if name in holder.constants:
            raise ScriptFault(f"{name} is constant and cannot be assigned to")
        holder.values[name] = _choose(active, given, holder.values.get(name, UNDEFINED))
        return given


def _computed(node: Node, of: Callable[[Node], Any]) -> Any:
    match node.type:
        case "UnaryExpression":
            return UNARY[node.operator](of(node.argument))
        case "BinaryExpression":
            return BINARY[node.operator](of(node.left), of(node.right))
        case "ConditionalExpression":
            holds, yes, no = _truth(of(node.test)), node.consequent, node.alternate
            if isinstance(holds, np.ndarray):
                return _choose(holds, of(yes), of(no))
            return of(yes if holds else no)
        case "LogicalExpression":
            left = of(node.left)
            holds = _truth(left) if node.operator == "&&" else _not(left)
            if isinstance(holds, np.ndarray):
                return _choose(holds, of(node.right), left)
            return of(node.right) if holds else left
    raise ScriptFault(f"line {node.loc.start.line}: functions are defined at the top only")


def _member_of(node: Node, of: Callable[[Node], Any]) -> Any:
    if (name := _dotted(node)) in MEMBERS:
        return MEMBERS[name]
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


class ScriptOutput(msgspec.Struct, frozen=True):
    """An output: its id, the names of its bands (B0, B1, … by default), and the type of its samples."""

    id: str
    bands: tuple[str, ...]
    sample_type: str

    @property
    def whole(self) -> bool:
        return "INT" in self.sample_type


class Evaluated(msgspec.Struct, frozen=True):
    """Values by output and band, in the output's type, and masks of the valid ones."""

    values: dict[tuple[str, str], NDArray[Any]]
    valid: dict[tuple[str, str], NDArray[np.bool_]]


class Evalscript(msgspec.Struct, frozen=True):
    """A parsed script: its input bands, its outputs, and the bands of its mask."""

    run: ScriptRun
    bands: tuple[str, ...]
    outputs: tuple[ScriptOutput, ...]
    masks: tuple[str, ...]

    def evaluate(self, samples: Mapping[str, NDArray[np.int16]]) -> Evaluated:
        given = {band: values.astype(np.float64) for band, values in samples.items()}
        count = len(next(iter(given.values())))
        result = self.run.call("evaluatePixel", [given, [], {}, {}, {}])
        if not isinstance(result, dict):
            raise ScriptFault(f"evaluatePixel must return an object with {DATA_MASK} and every output")
        masks = [values != 0 for values in _arrays(result, DATA_MASK, len(self.masks), count)]
        values: dict[tuple[str, str], NDArray[np.generic]] = {}
        valid: dict[tuple[str, str], NDArray[np.bool_]] = {}
        for output in self.outputs:
            arrays = _arrays(result, output.id, len(output.bands), count)
            for band, array in zip(output.bands, arrays, strict=True):
                own = [place for place, name in enumerate(self.masks) if name in {output.id, band}]
                values[output.id, band] = _typed(array, output.sample_type)
                valid[output.id, band] = masks[own[0] if own else 0] & np.isfinite(array)
        return Evaluated(values, valid)


@lru_cache(maxsize=64)
def read_script(text: str, known_bands: tuple[str, ...]) -> Evalscript:
    """Parse an evalscript for a collection with these bands."""
    if len(text) > _MAX_LENGTH:
        raise ScriptError("the evalscript is too long")
    if not text.lstrip().startswith("//VERSION=3"):
        raise ScriptError("the evalscript must begin with //VERSION=3")
    try:
        run = ScriptRun(text)
        for function in ("setup", "evaluatePixel"):
            if function not in run.functions:
                raise ScriptError(f"the function {function} is missing")
        document = run.call("setup", [])
    except ScriptFault as fault:
        raise ScriptError(str(fault)) from fault
    except RecursionError as error:
        raise ScriptError("the evalscript is nested too deeply") from error
    if not isinstance(document, dict) or not {"input", "output"} <= document.keys():
        raise ScriptError("setup must return an object with input and output")
    bands = _input(document["input"], known_bands)
    given = document["output"]
    outputs = tuple(map(_output, given if isinstance(given, list) else [given]))
    ids = [output.id for output in outputs]
    if len(set(ids)) < len(ids):
        raise ScriptError("two outputs have the same id")
    if (mosaicking := document.get("mosaicking", "SIMPLE")) != "SIMPLE":
        raise ScriptError(f"mosaicking {mosaicking} is not supported")
    if DATA_MASK not in ids:
        raise ScriptError(f"an output with the id {DATA_MASK} is required")
    rest = tuple(output for output in outputs if output.id != DATA_MASK)
    return Evalscript(run, bands, rest, outputs[ids.index(DATA_MASK)].bands)


def _input(given: Any, known: Collection[str]) -> tuple[str, ...]:
    """Return the input bands of a script, given as names, or as objects with `bands`."""
    found: list[str] = []
    for member in given if isinstance(given, list) else [given]:
        named = member.get("bands") if isinstance(member, dict) else [member]
        if not isinstance(named, list) or not all(isinstance(band, str) for band in named):
            raise ScriptError("input must be band names, or objects with bands")
        if isinstance(member, dict) and member.get("units", "DN") not in ("DN", ["DN"]):
            raise ScriptError(f"units {member['units']} are not supported")
        found += named
    for band in found:
        if band not in known:
            raise ScriptError(f"Dataset with id: 1 has no band {band}. Available are {', '.join(known)}.")
    if not found:
        raise ScriptError("input names no band")
    return tuple(dict.fromkeys(found))


def _output(given: Any) -> ScriptOutput:
    if not isinstance(given, dict):
        raise ScriptError("output must be an object or a list of objects")
    bands = given.get("bands")
    if isinstance(bands, float) and bands.is_integer() and 0 < bands <= _MAX_BANDS:
        names = tuple(f"B{place}" for place in range(int(bands)))
    elif isinstance(bands, list) and bands and all(isinstance(name, str) for name in bands):
        names = tuple(bands)
    else:
        raise ScriptError(f"bands of an output must be a number up to {_MAX_BANDS} or a list of names")
    sample_type = given.get("sampleType", "FLOAT32")
    if sample_type not in _TYPES:
        raise ScriptError(f"sampleType {sample_type} is not supported")
    return ScriptOutput(str(given.get("id", "default")), names, str(sample_type))


def _arrays(result: dict[str, Any], output: str, bands: int, count: int) -> list[NDArray[np.float64]]:
    given = result.get(output)
    values = given if isinstance(given, list) else [given]
    if given is None or len(values) != bands:
        raise ScriptFault(f"output {output} must be returned with {bands} values")
    return [np.broadcast_to(np.asarray(_number(value), np.float64), (count,)) for value in values]


def _typed(values: NDArray[np.float64], sample_type: str) -> NDArray[Any]:
    kind = _TYPES[sample_type]
    if not issubclass(kind, np.integer):
        with np.errstate(over="ignore"):
            return values.astype(kind)
    limits = np.iinfo(kind)
    whole = np.clip(np.rint(np.nan_to_num(values, nan=0.0)), limits.min, limits.max)
    return whole.astype(kind)
