"""Compiles and evaluates CQL2, the filter language of OGC 21-065r2, as text or JSON.

    text ─cql2─▶ ┐
                 ├▶ JSON tree ─compile─▶ Expression: item ─▶ True | False | None (unknown)
    JSON ───────▶ ┘

The library `cql2` parses the text. Items are evaluated here, because `matches` of that library silently
returns wrong results (`tests/filters/language/test_against_cql2.py` lists them): BETWEEN and IN with times, a
date with a timestamp, CASEI in a list, comparisons with NULL, boxes across the antimeridian, names with dots.

Logic has three values (OGC 21-065r2, 7.7): a predicate is unknown if the item lacks a value that it needs,
and NOT of unknown is unknown. An item is kept if the expression is true.

A time is a span: a date is a whole day. `<` means completely before, `>` completely after, and `=` that the
spans overlap. The `t_` operators are those of table 9, after Allen (1983), on first and last instants.
"""

from __future__ import annotations

import json
import math
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck, LeftOut
from stacpull.filters.interval import TimeSpan, time_span
from stacpull.filters.properties import Reference, unknown_names
from stacpull.models import Json
from stacpull.spelling import similar

Truth = bool | None
Evaluate = Callable[[Json, dict[str, Any]], Any]

_POSITION: Final = re.compile(r"--> (\d+):(\d+)")
_EXPECTED: Final = re.compile(r"= expected (.+)")
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_BARE_DATE: Final = re.compile(r"(?<![\w.])\d{4}-\d\d-\d\d(?![\d.])")
_VALUE_RULES: Final = frozenset({"Identifier", "DECIMAL", "SingleQuotedString", "Expr"})
_UNKNOWN: Final = "unknown to the filter"

# --- parsing ----------------------------------------------------------------------------------------------


def parse_filter(text: str) -> Any:
    """Parse CQL2 text, or CQL2 JSON if it begins with `{`. Return the JSON tree."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise _error(text, error.pos, f"this is not valid JSON: {error.msg}") from error
        except RecursionError:
            raise UsageError("--filter is nested too deeply.") from None
    bare = _BARE_DATE.search(_QUOTED.sub(lambda quoted: " " * len(quoted.group()), text))
    if bare is not None:
        raise _error(text, bare.start(), f"write a date as DATE('{bare.group()}')")

    import cql2  # noqa: PLC0415 -- not needed without a filter

    try:
        return cql2.Expr(text).to_json()
    except Exception as error:  # the library raises bare Exception, and no other class for text
        position, expected = _POSITION.search(str(error)), _EXPECTED.search(str(error))
        if position is None:
            raise UsageError(f"--filter cannot be read as CQL2: {error}") from error
        line, column = int(position[1]), int(position[2])
        offset = sum(len(before) for before in text.splitlines(keepends=True)[: line - 1]) + column - 1
        rules = frozenset(re.findall(r"\w+", expected[1])) if expected else frozenset()
        problem = "AND, OR, a comparison or the end is expected"
        if rules & _VALUE_RULES:
            problem = "a value or a property is missing"
        raise _error(text, offset, problem) from error


def filter_text(tree: Any) -> str:
    import cql2  # noqa: PLC0415 -- not needed without a filter

    return str(cql2.Expr(tree).to_text())


def _error(text: str, offset: int, problem: str) -> UsageError:
    """Return an error with the line of `text` that contains `offset`, and a mark under the offset."""
    offset = min(offset, len(text))
    start = text.rfind("\n", 0, offset) + 1
    line = text[start:].partition("\n")[0].expandtabs(1)
    return UsageError(f"--filter: {problem}, here:\n  {line}\n  {' ' * (offset - start)}^")


# --- values -----------------------------------------------------------------------------------------------

_ALWAYS: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_SHORTEST_TIME: Final = len("2020-01-01")


def _span(value: object) -> TimeSpan | None:
    """Return a span, or that of a text with an instant or a day; None if it is none of these."""
    if isinstance(value, str):
        return time_span(value) if len(value.strip()) >= _SHORTEST_TIME else None
    return value if isinstance(value, tuple) else None


def _span_between(first: TimeSpan | None, last: TimeSpan | None) -> TimeSpan | None:
    """Return the span from the start of one to the end of another; None if it would end before it starts."""
    return (first[0], last[1]) if first and last and first[0] <= last[1] else None


def _item_time(reference: Reference) -> Evaluate:
    """Return the evaluation of `datetime`, or of the item's start and end if it has no `datetime`."""

    def value(item: Json, properties: dict[str, Any]) -> Any:
        found = reference.value(item, properties)
        if found is not None:
            return found
        start, end = _span(properties.get("start_datetime")), _span(properties.get("end_datetime"))
        if start is None and end is None:
            return None
        reference.found = True
        return _span_between(start or _ALWAYS, end or _ALWAYS)

    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- operators --------------------------------------------------------------------------------------------


def _comparison(order: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Truth]:
    """Return a comparison (7.6). Booleans and lists can be equal, but have no order."""
    kinds: tuple[type, ...] = (str, bool, list) if order in (operator.eq, operator.ne) else (str,)

    def compare(one: Any, other: Any) -> Truth:
        if _is_number(one) and _is_number(other):
            with suppress(OverflowError):  # CQL2 text has no numbers but floats
                if isinstance(one, float) or isinstance(other, float):
                    one, other = float(one), float(other)
            return order(one, other)
        if (first := _span(one)) is not None and (second := _span(other)) is not None:
            return order((second[1] < first[0]) - (first[1] < second[0]), 0)
        is_comparable = any(isinstance(one, kind) and isinstance(other, kind) for kind in kinds)
        return order(one, other) if is_comparable else None

    return compare


_EQUAL, _AT_LEAST, _AT_MOST = _comparison(operator.eq), _comparison(operator.ge), _comparison(operator.le)


def _and(*truths: Truth) -> Truth:
    if False in truths:
        return False
    return None if None in truths else True


def _or(*truths: Truth) -> Truth:
    if True in truths:
        return True
    return None if None in truths else False


def _is_in(value: Any, members: Any) -> Truth:
    """Return whether `value` equals any of `members` (7.9.4); None if none does and any is unknown."""
    if isinstance(members, list) and len(members) == 1 and isinstance(members[0], list):
        members = members[0]  # `'a' IN labels`: the property is the list
    if not isinstance(members, list):
        return None
    if any(_EQUAL(value, member) for member in members):
        return True
    return None if value is None or None in members else False


@lru_cache(maxsize=64)
def like_pattern(pattern: str) -> re.Pattern[str]:
    r"""Compile a pattern of LIKE (7.9.2): `%` matches any text, `_` one character, `\x` matches `x`.

    Matching takes linear time: a `%` ends at the first match of the piece after it, and no other position is
    tried (an atomic group). This does not miss any match.
    """
    pieces = [""]
    for escaped, many, one, plain in re.findall(r"\\(.)|(%)|(_)|(.)", pattern, re.DOTALL):
        if many:
            pieces.append("")
        else:
            pieces[-1] += "." if one else re.escape(escaped or plain)
    first, *between = pieces
    if not between:
        return re.compile(first, re.DOTALL)
    *middle, last = between
    expression = first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"
    return re.compile(expression, re.DOTALL)


def _like(text: Any, pattern: str) -> Truth:
    return like_pattern(pattern).fullmatch(text) is not None if isinstance(text, str) else None


def _casei(value: Any) -> Any:
    if isinstance(value, list):
        return [_casei(member) for member in value]
    return value.casefold() if isinstance(value, str) else None


def _accenti(value: Any) -> Any:
    if isinstance(value, list):
        return [_accenti(member) for member in value]
    if not isinstance(value, str):
        return None
    return "".join(c for c in unicodedata.normalize("NFKD", value) if not unicodedata.combining(c))


def _calculation(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return an operator of 7.14 in double precision."""

    def calculation(one: Any, other: Any) -> Any:
        if not (_is_number(one) and _is_number(other)):
            return None
        try:
            found = calculate(float(one), float(other))
        except (ArithmeticError, ValueError):
            return None
        return found if isinstance(found, float) and math.isfinite(found) else None

    return calculation


def _sets(judge: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Truth]:
    """Return an operator of 7.13. Arrays are sets: order and repetitions do not matter."""
    return lambda a, b: judge(a, b) if isinstance(a, list) and isinstance(b, list) else None


def _has_all(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return all(_is_in(member, one) for member in other)


def _times(judge: Callable[[TimeSpan, TimeSpan], bool]) -> Callable[[Any, Any], Truth]:
    def relation(one: Any, other: Any) -> Truth:
        first, second = _span(one), _span(other)
        return None if first is None or second is None else judge(first, second)

    return relation


def _spatial(name: str) -> Callable[[Any, Any], Truth]:
    def relation(one: Any, other: Any) -> Truth:
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        return shapes.related(name, one, other)

    return relation


_LOGIC: Final[dict[str, Callable[..., Any]]] = {
    "and": _and,
    "or": _or,
    "not": lambda truth: None if truth is None else not truth,
}
_CALCULATED: Final[dict[str, Callable[..., Any]]] = {
    "casei": _casei,
    "accenti": _accenti,
    "+": _calculation(operator.add),
    "-": _calculation(operator.sub),
    "*": _calculation(operator.mul),
    "/": _calculation(operator.truediv),
    "^": _calculation(operator.pow),
    "%": _calculation(math.fmod),
    "div": _calculation(lambda a, b: float(math.trunc(a / b))),
}
"""The operators that are not predicates. `%` has the sign of the dividend, `div` rounds towards zero."""
_TEMPORAL: Final[dict[str, Callable[..., Any]]] = {
    "t_after": _times(lambda a, b: a[0] > b[1]),
    "t_before": _times(lambda a, b: a[1] < b[0]),
    "t_contains": _times(lambda a, b: a[0] < b[0] and a[1] > b[1]),
    "t_disjoint": _times(lambda a, b: a[1] < b[0] or a[0] > b[1]),
    "t_during": _times(lambda a, b: a[0] > b[0] and a[1] < b[1]),
    "t_equals": _times(lambda a, b: a == b),
    "t_finishedby": _times(lambda a, b: a[0] < b[0] and a[1] == b[1]),
    "t_finishes": _times(lambda a, b: a[0] > b[0] and a[1] == b[1]),
    "t_intersects": _times(lambda a, b: a[0] <= b[1] and a[1] >= b[0]),
    "t_meets": _times(lambda a, b: a[1] == b[0]),
    "t_metby": _times(lambda a, b: a[0] == b[1]),
    "t_overlappedby": _times(lambda a, b: b[0] < a[0] < b[1] < a[1]),
    "t_overlaps": _times(lambda a, b: a[0] < b[0] < a[1] < b[1]),
    "t_startedby": _times(lambda a, b: a[0] == b[0] and a[1] > b[1]),
    "t_starts": _times(lambda a, b: a[0] == b[0] and a[1] < b[1]),
}
_TEMPORAL["anyinteracts"] = _TEMPORAL["t_intersects"]
_ARRAYS: Final[dict[str, Callable[..., Any]]] = {
    "a_contains": _sets(_has_all),
    "a_containedby": _sets(lambda a, b: _has_all(b, a)),
    "a_equals": _sets(lambda a, b: _has_all(a, b) and _has_all(b, a)),
    "a_overlaps": _sets(lambda a, b: any(_is_in(member, a) for member in b)),
}
_OPERATORS: Final[dict[str, Callable[..., Any]]] = {
    **_LOGIC,
    **_CALCULATED,
    **_TEMPORAL,
    **_ARRAYS,
    "=": _EQUAL,
    "<>": _comparison(operator.ne),
    "<": _comparison(operator.lt),
    "<=": _AT_MOST,
    ">": _comparison(operator.gt),
    ">=": _AT_LEAST,
    "isnull": lambda value: value is None,
    "like": _like,
    "between": lambda value, low, high: _and(_AT_LEAST(value, low), _AT_MOST(value, high)),
    "in": _is_in,
    **{f"s_{one}": _spatial(one) for one in (
        "contains", "crosses", "disjoint", "equals", "intersects", "overlaps", "touches", "within"
    )},
}  # fmt: skip
"""What each operator and function does with the values of its arguments."""
_ARITY: Final = {"not": 1, "isnull": 1, "casei": 1, "accenti": 1, "between": 3}
"""The number of arguments, where it is not two."""

# --- compiling --------------------------------------------------------------------------------------------


class Expression(msgspec.Struct, frozen=True):
    """A compiled filter. `evaluate` returns True, False, or None for unknown; `references` are its names."""

    evaluate: Evaluate
    references: tuple[Reference, ...]


def compile_expression(tree: Any, text: str) -> Expression:
    compiler = _Compiler(text)
    try:
        root = compiler.predicate(tree)
    except RecursionError:
        raise UsageError("--filter is nested too deeply.") from None
    return Expression(root.evaluate, tuple(compiler.references))


class _Term(NamedTuple):
    evaluate: Evaluate
    is_constant: bool = False


def _constant(value: Any) -> _Term:
    return _Term(lambda _item, _properties: value, is_constant=True)


class _Compiler:
    def __init__(self, text: str) -> None:
        self.references: list[Reference] = []
        self._text = text

    def wrong(self, problem: str, word: object = None) -> UsageError:
        """Return an error that points at `word` in the text."""
        if isinstance(word, float) and word.is_integer():
            word = int(word)
        found = None if word is None else re.search(re.escape(str(word)), self._text, re.IGNORECASE)
        return _error(self._text, 0 if found is None else found.start(), problem)

    def predicate(self, node: Any) -> _Term:
        term = self.node(node)
        match node:
            case bool():
                return term
            case {"property": _}:
                return _joined(lambda value: value if isinstance(value, bool) else None, [term])
            case {"op": str(name)} if name.lower() not in _CALCULATED:
                return term
        word = node.get("op") if isinstance(node, dict) else node
        problem = "a condition is expected (property = value, …), but this is only a value"
        raise self.wrong(problem, word)

    def node(self, node: Any) -> _Term:
        match node:
            case None | bool() | int() | float() | str():
                return _constant(node)
            case list():
                return _joined(lambda *members: list(members), [self.node(member) for member in node])
            case {"op": name}:
                return self._operation(name, node.get("args", []))
            case {"property": str(name)}:
                self.references.append(reference := Reference(name))
                is_time = name.removeprefix("properties.") == "datetime"
                return _Term(_item_time(reference) if is_time else reference.value)
            case {"property": name}:
                raise self.wrong(f"the name of a property must be a string, not {name!r}")
        return self._literal(node)

    def _literal(self, node: Json) -> _Term:
        """Compile a time, an interval or a geometry."""
        match node:
            case {"date": value}:
                return self._instant(value, "DATE('…')")
            case {"timestamp": value}:
                return self._instant(value, "TIMESTAMP('…')")
            case {"interval": [_, _] as ends}:
                return _joined(_span_between, [self._instant(end, "INTERVAL") for end in ends])
            case {"interval": _}:
                raise self.wrong("INTERVAL needs two ends", "interval")
            case {"bbox": _} | {"coordinates": _} | {"geometries": _}:
                return self._geometry(node)
        raise self.wrong(f"an object with {', '.join(node) or 'no members'} is not part of CQL2")

    def _instant(self, value: Any, what: str) -> _Term:
        if not isinstance(value, str):
            return _joined(_span, [self.node(value)])
        span = _ALWAYS if what == "INTERVAL" and value in ("..", "") else _span(value)
        if span is None:
            raise self.wrong(f"{value!r} is not a valid time for {what}", value)
        return _constant(span)

    def _geometry(self, node: Json) -> _Term:
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        try:
            found = shapes.box_shape(node["bbox"]) if "bbox" in node else shapes.read_shape(node)
        except (TypeError, ValueError) as error:
            raise self.wrong(f"this is not a box: {error}", "bbox") from error
        if found is None:
            raise self.wrong(f"this {node.get('type')} cannot be read", node.get("type"))
        return _constant(shapes.prepare(found))

    def _operation(self, name: Any, arguments: Any) -> _Term:
        operation = str(name).lower()
        function = _OPERATORS.get(operation)
        if function is None:
            near = similar(operation, _OPERATORS)
            hint = f"; did you mean {near[0].upper()}?" if near else ""
            raise self.wrong(f"there is no operator or function {name}{hint}", name)
        if not isinstance(arguments, list):
            raise self.wrong(f"`args` of {name} must be a list", name)
        arguments = [0, *arguments] if operation == "-" and len(arguments) == 1 else arguments
        arity = _ARITY.get(operation, 2)
        if operation in ("and", "or"):
            if not arguments:
                raise self.wrong(f"{name.upper()} needs conditions", name)
        elif len(arguments) != arity:
            raise self.wrong(f"{name} takes {arity} arguments, not {len(arguments)}", name)
        return _joined(function, self._arguments(operation, arguments))

    def _arguments(self, operation: str, arguments: list[Any]) -> list[_Term]:
        if operation in _LOGIC:
            return [self.predicate(one) for one in arguments]
        if operation in _ARRAYS:
            arguments = [one if isinstance(one, list | dict) else [one] for one in arguments]
        elif operation in _TEMPORAL:
            arguments = [{"timestamp": one} if isinstance(one, str) else one for one in arguments]
        terms = [self.node(one) for one in arguments]
        if operation == "like":
            pattern = terms[1].evaluate({}, {}) if terms[1].is_constant else None
            if not isinstance(pattern, str):
                raise self.wrong("LIKE needs a pattern in single quotes", operation)
        return terms


def _joined(function: Callable[..., Any], terms: list[_Term]) -> _Term:
    """Return the term of a function of others, as a constant if it does not depend on the item."""
    parts = [term.evaluate for term in terms]
    if all(term.is_constant for term in terms):
        return _constant(function(*[part({}, {}) for part in parts]))
    return _Term(lambda item, properties: function(*[part(item, properties) for part in parts]))


class ExpressionCheck(ItemCheck):
    """`--filter`: keeps items for which the expression is true."""

    fields = ("filter",)
    may_take_long = True
    explained = (
        _UNKNOWN,
        "--filter cannot be evaluated, because a property is absent or of another type.",
    )

    def __init__(self, text: str) -> None:
        self._expression = compile_expression(parse_filter(text), text)

    def __call__(self, item: Json, properties: dict[str, Any]) -> str | None:
        truth = self._expression.evaluate(item, properties)
        if truth is True:
            return None
        return "filter" if truth is False else _UNKNOWN

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:
        notes = super().notes(counts, whole=whole)
        return notes + (unknown_names("--filter", self._expression.references) if notes else [])
