"""Compiles and evaluates CQL2, the filter language of OGC 21-065r2, as text or JSON.

    text ─cql2─▶ ┐
                 ├▶ JSON tree ─compile─▶ Expression: item ─▶ True | False | None (unknown)
    JSON ───────▶ ┘

The library `cql2` parses the text. Items are evaluated here, because `matches` of that library silently
returns wrong results (docs/meaning.md lists them): BETWEEN and IN with times, a date with a timestamp, CASEI
in a list, comparisons with NULL, boxes across the antimeridian, names with dots.

Logic has three values (OGC 21-065r2, 7.7): a predicate is unknown if the item lacks a value that it needs,
and NOT of unknown is unknown. An item is kept if the expression is true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck, LeftOut, left_out
from stacpull.filters.cql2_operators import (
    ALWAYS,
    ARITHMETIC,
    ARRAYS,
    COMPARISONS,
    RELATIONS,
    TimeSpan,
    casei,
    contained,
    item_span,
    like_pattern,
    span_between,
    span_of,
    unaccented,
)
from stacpull.filters.places import GeometryNotes
from stacpull.filters.properties import Reference, unknown_names
from stacpull.models import Json
from stacpull.spelling import similar

_POSITION: Final = re.compile(r"--> (\d+):(\d+)")
_EXPECTED: Final = re.compile(r"= expected (.+)")
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_BARE_DATE: Final = re.compile(r"(?<![\w.])\d{4}-\d\d-\d\d(?![\d.])")
_KINDS: Final = (
    (frozenset({"Identifier", "DECIMAL", "SingleQuotedString", "Expr"}), "a value or a property is missing"),
    (frozenset({"And", "Or", "Eq"}), "AND, OR, a comparison or the end is expected"),
)


def parse_filter(text: str) -> Any:
    """Parse CQL2 text, or CQL2 JSON if it begins with `{`. Return the JSON tree.

    Raises:
        UsageError: It cannot be parsed. The message shows the line with a mark under the error.
    """
    if text.lstrip().startswith("{"):
        return _json(text)
    bare = _BARE_DATE.search(_QUOTED.sub(lambda quoted: " " * len(quoted.group()), text))
    if bare is not None:
        raise _error(text, bare.start(), f"write a date as DATE('{bare.group()}')")
    return _text(text)


def filter_text(tree: Any) -> str:
    """Return a CQL2 JSON tree as CQL2 text."""
    import cql2  # noqa: PLC0415 -- not needed without a filter

    return str(cql2.Expr(tree).to_text())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _error(text, error.pos, f"this is not valid JSON: {error.msg}") from error
    except RecursionError:
        raise UsageError("--filter is nested too deeply.") from None


def _text(text: str) -> Any:
    import cql2  # noqa: PLC0415 -- not needed without a filter

    try:
        return cql2.Expr(text).to_json()
    except Exception as error:  # the library raises bare Exception, and no other class for text
        position = _POSITION.search(str(error))
        if position is None:
            raise UsageError(f"--filter cannot be read as CQL2: {error}") from error
        line, column = int(position[1]), int(position[2])
        offset = sum(len(before) for before in text.splitlines(keepends=True)[: line - 1]) + column - 1
        raise _error(text, offset, _expectation(str(error))) from error


def _expectation(message: str) -> str:
    """Translate the grammar rules that the parser expected into a phrase for the user."""
    expected = _EXPECTED.search(message)
    rules = frozenset(re.findall(r"\w+", expected[1])) if expected else frozenset()
    return next((words for kinds, words in _KINDS if kinds & rules), "this is not CQL2")


def _error(text: str, offset: int, problem: str) -> UsageError:
    return UsageError(f"--filter: {problem}, here:\n{pointed(text, offset)}")


def pointed(text: str, offset: int) -> str:
    """Return the line of `text` that contains `offset`, and below it a mark under the offset."""
    offset = min(offset, len(text))
    start = text.rfind("\n", 0, offset) + 1
    line = text[start:].partition("\n")[0]
    return f"  {line.expandtabs(1)}\n  {' ' * (offset - start)}^"


Evaluate = Callable[[Json, dict[str, Any]], Any]
_TEXTS: Final[dict[str, Callable[[Any], Any]]] = {"casei": casei, "accenti": unaccented}
_SPATIAL: Final = frozenset(
    f"s_{name}"
    for name in ("contains", "crosses", "disjoint", "equals", "intersects", "overlaps", "touches", "within")
)
_TWO, _THREE = 2, 3
_UNKNOWN: Final = "unknown to the filter"


class Expression(msgspec.Struct, frozen=True):
    """A compiled filter. `evaluate` returns True, False, or None for unknown."""

    evaluate: Evaluate
    references: tuple[Reference, ...]
    """The names used in the filter."""
    notes: GeometryNotes
    """Unusual geometries that were compared."""


class _Term(NamedTuple):
    """A compiled node. `constant`: it has the same value for every item; `truth`: it is a predicate."""

    evaluate: Evaluate
    constant: bool = False
    truth: bool = False


def compile_expression(tree: Any, text: str) -> Expression:
    """Compile a CQL2 JSON tree.

    Args:
        tree: The JSON tree.
        text: The filter as the user wrote it, for messages.

    Raises:
        UsageError: The tree is not a boolean expression of CQL2. The message shows the position in `text`.
    """
    compiler = _Compiler(text)
    try:
        root = compiler.predicate(tree)
    except RecursionError:
        raise UsageError("--filter is nested too deeply.") from None
    return Expression(root.evaluate, tuple(compiler.references), compiler.notes)


class _Compiler:
    def __init__(self, text: str) -> None:
        self.references: list[Reference] = []
        self.notes = GeometryNotes()
        self._text = text

    def wrong(self, problem: str, word: object = None) -> UsageError:
        """Return an error that points at `word` in the text."""
        found = None if word is None else re.search(re.escape(str(word)), self._text, re.IGNORECASE)
        if found is None:
            return UsageError(f"--filter: {problem}, in:\n{pointed(self._text, 0).rpartition(chr(10))[0]}")
        return _error(self._text, found.start(), problem)

    # --- nodes -------------------------------------------------------------------------------------------

    def predicate(self, node: Any) -> _Term:
        """Compile a node that must be a predicate."""
        term = self.node(node)
        if isinstance(node, dict) and "property" in node:
            return _Term(_only_boolean(term.evaluate), truth=True)
        if not term.truth:
            raise self.wrong(
                "a condition is expected (property = value, …), but this is only a value", _word(node)
            )
        return term

    def node(self, node: Any) -> _Term:
        if node is None or isinstance(node, bool | int | float | str):
            return _constant(node, truth=isinstance(node, bool))
        if isinstance(node, list):
            return self._array(node)
        if not isinstance(node, dict):
            raise self.wrong(f"{node!r} is not allowed here")
        for member, compiled in self._MEMBERS.items():
            if member in node:
                return compiled(self, node)
        raise self.wrong(f"an object with {', '.join(node) or 'no members'} is not part of CQL2", _word(node))

    def _array(self, members: Sequence[Any]) -> _Term:
        terms = [self.node(member) for member in members]
        parts = [term.evaluate for term in terms]
        return _folded(terms, lambda item, properties: [part(item, properties) for part in parts])

    def _property(self, node: Json) -> _Term:
        name = node["property"]
        if not isinstance(name, str):
            raise self.wrong(f"the name of a property must be a string, not {name!r}")
        reference = Reference(name)
        self.references.append(reference)
        if name.removeprefix("properties.") == "datetime":
            return _Term(_when(reference))
        return _Term(reference.value)

    def _date(self, node: Json) -> _Term:
        kind = "date" if "date" in node else "timestamp"
        return self._instant(node[kind], f"{kind.upper()}('…')")

    def _instant(self, value: Any, what: str) -> _Term:
        if isinstance(value, str):
            span = span_of(value)
            if span is None:
                raise self.wrong(f"{value!r} is not a valid time for {what}", value)
            return _constant(span)
        inner = self.node(value).evaluate
        return _Term(lambda item, properties: span_of(inner(item, properties)))

    def _interval(self, node: Json) -> _Term:
        ends = node["interval"]
        if not isinstance(ends, list) or len(ends) != _TWO:
            raise self.wrong("INTERVAL needs two ends", "interval")
        terms = [_constant(ALWAYS) if end in ("..", "") else self._instant(end, "INTERVAL") for end in ends]
        start, end = (term.evaluate for term in terms)

        def between(item: Json, properties: dict[str, Any]) -> TimeSpan | None:
            first, last = start(item, properties), end(item, properties)
            return None if first is None or last is None else span_between(first, last)

        return _folded(terms, between)

    def _geometry(self, node: Json) -> _Term:
        from stacpull.filters.shapes import box_shape, read_shape  # noqa: PLC0415 -- shapely is heavy

        if "bbox" in node:
            try:
                return _constant(box_shape(node["bbox"]))
            except (TypeError, ValueError) as error:
                raise self.wrong(f"this is not a box: {error}", "bbox") from error
        found = read_shape(node, trusted=True)
        if found is None:
            raise self.wrong(f"this {node['type']} cannot be read", node["type"])
        return _constant(found.geometry)

    def _operation(self, node: Json) -> _Term:
        name = node["op"]
        kind = self._OPERATORS.get(name.lower()) if isinstance(name, str) else None
        if kind is None:
            near = similar(str(name).lower(), self._OPERATORS)
            hint = f"; did you mean {near[0].upper()}?" if near else ""
            raise self.wrong(f"there is no operator or function {name}{hint}", name)
        arguments = node.get("args", [])
        if not isinstance(arguments, list):
            raise self.wrong(f"`args` of {name} must be a list", name)
        if kind.arity is not None and len(arguments) != kind.arity:
            raise self.wrong(f"{name} takes {kind.arity} arguments, not {len(arguments)}", name)
        return kind.compiled(self, name.lower(), arguments)

    # --- operators ---------------------------------------------------------------------------------------

    def _logic(self, name: str, arguments: Sequence[Any]) -> _Term:
        terms = [self.predicate(argument) for argument in arguments]
        if not terms:
            raise self.wrong(f"{name.upper()} needs conditions", name)
        parts, decides = tuple(term.evaluate for term in terms), name == "or"

        def judge(item: Json, properties: dict[str, Any]) -> bool | None:
            truths = [part(item, properties) for part in parts]
            if decides in truths:
                return decides
            return None if None in truths else not decides

        return _Term(judge, truth=True)

    def _not(self, _name: str, arguments: Sequence[Any]) -> _Term:
        inner = self.predicate(arguments[0]).evaluate

        def judge(item: Json, properties: dict[str, Any]) -> bool | None:
            truth = inner(item, properties)
            return None if truth is None else not truth

        return _Term(judge, truth=True)

    def _is_null(self, _name: str, arguments: Sequence[Any]) -> _Term:
        inner = self.node(arguments[0]).evaluate
        return _Term(lambda item, properties: inner(item, properties) is None, truth=True)

    def _compare(self, name: str, arguments: Sequence[Any]) -> _Term:
        return self._of_two(COMPARISONS[name], arguments)._replace(truth=True)

    def _calculate(self, name: str, arguments: Sequence[Any]) -> _Term:
        if name == "-" and len(arguments) == 1:
            arguments = [0, *arguments]
        if len(arguments) != _TWO:
            raise self.wrong(f"{name} takes 2 arguments, not {len(arguments)}", name)
        return self._of_two(ARITHMETIC[name], arguments)

    def _of_two(self, function: Callable[[Any, Any], Any], arguments: Sequence[Any]) -> _Term:
        terms = [self.node(argument) for argument in arguments]
        one, other = (term.evaluate for term in terms)
        return _folded(
            terms, lambda item, properties: function(one(item, properties), other(item, properties))
        )

    def _transform(self, name: str, arguments: Sequence[Any]) -> _Term:
        terms, function = [self.node(arguments[0])], _TEXTS[name]
        inner = terms[0].evaluate
        return _folded(terms, lambda item, properties: function(inner(item, properties)))

    def _like(self, _name: str, arguments: Sequence[Any]) -> _Term:
        value, pattern = (self.node(argument) for argument in arguments)
        wanted = pattern.evaluate({}, {}) if pattern.constant else None
        if not isinstance(wanted, str):
            raise self.wrong("LIKE needs a pattern in single quotes", "like")
        inner, matches = value.evaluate, like_pattern(wanted).fullmatch

        def judge(item: Json, properties: dict[str, Any]) -> bool | None:
            text = inner(item, properties)
            return matches(text) is not None if isinstance(text, str) else None

        return _Term(judge, truth=True)

    def _between(self, _name: str, arguments: Sequence[Any]) -> _Term:
        value, low, high = arguments
        return self._logic("and", [{"op": ">=", "args": [value, low]}, {"op": "<=", "args": [value, high]}])

    def _in(self, _name: str, arguments: Sequence[Any]) -> _Term:
        value, members = (self.node(argument) for argument in arguments)
        one, many = value.evaluate, members.evaluate

        def judge(item: Json, properties: dict[str, Any]) -> bool | None:
            found = many(item, properties)
            if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
                found = found[0]  # `'a' IN labels`: the property is the list
            return contained(one(item, properties), found) if isinstance(found, list) else None

        return _Term(judge, truth=True)

    def _arrays(self, name: str, arguments: Sequence[Any]) -> _Term:
        function = ARRAYS[name]
        written = [argument if isinstance(argument, list | dict) else [argument] for argument in arguments]

        def judge(one: Any, other: Any) -> bool | None:
            return function(one, other) if isinstance(one, list) and isinstance(other, list) else None

        return self._of_two(judge, written)._replace(truth=True)

    def _relation(self, name: str, arguments: Sequence[Any]) -> _Term:
        relation = RELATIONS["t_intersects" if name == "anyinteracts" else name]
        terms = [self._instant(a, name.upper()) if isinstance(a, str) else self.node(a) for a in arguments]
        one, other = (term.evaluate for term in terms)

        def judge(item: Json, properties: dict[str, Any]) -> bool | None:
            first, second = span_of(one(item, properties)), span_of(other(item, properties))
            return None if first is None or second is None else relation(first, second)

        return _Term(judge, truth=True)

    def _spatial(self, name: str, arguments: Sequence[Any]) -> _Term:
        from stacpull.filters.shapes import spatial_relation  # noqa: PLC0415 -- shapely is heavy

        one, other = (self.node(argument) for argument in arguments)
        constants = [term.evaluate({}, {}) if term.constant else None for term in (one, other)]
        relation = spatial_relation(name, one.evaluate, other.evaluate, constants, self.notes)
        return _Term(relation, truth=True)

    class _Operator(NamedTuple):
        compiled: Callable[[_Compiler, str, Sequence[Any]], _Term]
        arity: int | None

    _OPERATORS: ClassVar[dict[str, _Operator]] = {
        **dict.fromkeys(("and", "or"), _Operator(_logic, None)),
        "not": _Operator(_not, 1),
        "isnull": _Operator(_is_null, 1),
        **dict.fromkeys(COMPARISONS, _Operator(_compare, _TWO)),
        **dict.fromkeys(ARITHMETIC, _Operator(_calculate, None)),
        **dict.fromkeys(_TEXTS, _Operator(_transform, 1)),
        "like": _Operator(_like, _TWO),
        "between": _Operator(_between, _THREE),
        "in": _Operator(_in, _TWO),
        **dict.fromkeys(ARRAYS, _Operator(_arrays, _TWO)),
        **dict.fromkeys((*RELATIONS, "anyinteracts"), _Operator(_relation, _TWO)),
        **dict.fromkeys(_SPATIAL, _Operator(_spatial, _TWO)),
    }
    _MEMBERS: ClassVar[dict[str, Callable[[_Compiler, Json], _Term]]] = {
        "op": _operation,
        "property": _property,
        "date": _date,
        "timestamp": _date,
        "interval": _interval,
        "bbox": _geometry,
        "coordinates": _geometry,
        "geometries": _geometry,
    }


def _constant(value: Any, *, truth: bool = False) -> _Term:
    return _Term(lambda _item, _properties: value, constant=True, truth=truth)


def _folded(terms: Sequence[_Term], evaluate: Evaluate) -> _Term:
    """Return the term of `evaluate`, as a constant if it does not depend on the item."""
    if all(term.constant for term in terms):
        return _constant(evaluate({}, {}))
    return _Term(evaluate)


def _only_boolean(evaluate: Evaluate) -> Evaluate:
    def judge(item: Json, properties: dict[str, Any]) -> bool | None:
        value = evaluate(item, properties)
        return value if isinstance(value, bool) else None

    return judge


def _when(reference: Reference) -> Evaluate:
    """Return the evaluation of `datetime`, or of the item's start and end if it has no `datetime`."""

    def value(item: Json, properties: dict[str, Any]) -> Any:
        found = reference.value(item, properties)
        if found is None:
            found = item_span(properties)
            reference.found = reference.found or found is not None
        return found

    return value


def _word(node: Any) -> str | None:
    """Return a word to find a node in the text."""
    if isinstance(node, dict):
        found = node.get("op") or node.get("property")
        return found if isinstance(found, str) else None
    if isinstance(node, float) and node.is_integer():
        return str(int(node))
    return None if node is None else str(node)


class ExpressionCheck(ItemCheck):
    """`--filter`: keeps items for which the expression is true."""

    fields = ("filter",)
    may_take_long = True

    def __init__(self, text: str) -> None:
        """Compile a filter.

        Raises:
            UsageError: It is not a boolean expression of CQL2. The message shows the position.
        """
        self._expression = compile_expression(parse_filter(text), text)

    def __call__(self, item: Json, properties: dict[str, Any]) -> str | None:
        """Return whether the expression is false or unknown."""
        truth = self._expression.evaluate(item, properties)
        if truth is True:
            return None
        return "filter" if truth is False else _UNKNOWN

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - as in ItemCheck
        """Return notes about unknown items, unusual geometries and unknown names."""
        why = "--filter cannot be evaluated, because a property is absent or of another type."
        notes = left_out(counts, _UNKNOWN, why) + self._expression.notes.notes()
        if counts.get(_UNKNOWN):
            notes += unknown_names("--filter", self._expression.references)
        return notes
