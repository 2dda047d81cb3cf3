"""Compiles and evaluates CQL2, the filter language of OGC 21-065r2, as text or JSON.

The library `cql2` only parses: its `matches` is silently wrong about dates, NULL, and boxes across the
antimeridian. Logic has three values (7.7): a predicate is unknown if the item lacks a value. A date is a
span: `<` means completely before, `=` overlaps. The `t_` operators: table 9, after Allen (1983).
"""

import fnmatch
import glob
import json
import math
import operator
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, Final
from unicodedata import combining, normalize

import msgspec

from stacpull.clock import TimeSpan, parse_instant, time_span
from stacpull.errors import UsageError, did_you_mean
from stacpull.filters.item_filters import ItemFilter, LeftOut, PropertyName
from stacpull.json_values import is_number
from stacpull.models import Json

Value = Any  # a boolean, number, text, list, `TimeSpan` or geometry of shapely; None if it is unknown
ValueFunction = Callable[..., Value]  # of values; None if the result is unknown
Term = Callable[[Json, Json], Value]  # a compiled expression: a function of item and properties
Truth = bool | None

_OPERATOR: Final = re.compile(r"[<>=]+|[-+*/^%]|\b(?:not|div|like|in|between|is)\b", re.IGNORECASE)
_CONJUNCTION: Final = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)
_OPERAND_ENDS: Final = re.compile(r"\b(?:and|or)\b|,", re.IGNORECASE)
_MAX_CONDITIONS: Final = 5_000
_MAX_DEPTH: Final = 1_000  # parentheses times operators: the library recurses, and crashes after 2,000
_POSITION: Final = re.compile(r"--> (\d+):(\d+)")
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_BARE_DATE: Final = re.compile(r"(?<![\w.])\d{4}-\d\d-\d\d(?![\d.])|\bdatetime *[<>=]+ *\d", re.IGNORECASE)
_NOT_PUSHED: Final = {"datetime", "geometry", "bbox", "properties.id", "properties.collection"}
_CONVERSE: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
_ALL_TIME: Final = TimeSpan(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def parse_filter(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError(f"--filter is not valid JSON: {error}.") from error
    unquoted = _QUOTED.sub("''", text)
    if _BARE_DATE.search(unquoted):
        raise UsageError("--filter: write a date like DATE('2020-01-31').")
    if "==" in unquoted:
        raise UsageError("--filter: CQL2 compares with =, not ==.")
    steps = ({"(": 1, ")": -1}.get(character, 0) for character in unquoted)
    depth = max(accumulate(steps, initial=1))
    operators = max(len(_OPERATOR.findall(operand)) for operand in _OPERAND_ENDS.split(unquoted))
    conditions = len(_CONJUNCTION.findall(unquoted)) + 1
    if depth * max(2, operators) > _MAX_DEPTH or conditions > _MAX_CONDITIONS:
        problem = "--filter is nested too deeply or has too many operators (for ids, use --ids @FILE)."
        raise UsageError(problem)

    import cql2  # noqa: PLC0415 -- not needed without a filter

    try:
        return cql2.Expr(text).to_json()
    except Exception as error:  # the library raises bare Exception, and no other class for text
        position = _POSITION.search(str(error))
        if position is None:
            raise UsageError(f"--filter cannot be read as CQL2: {error}") from error
        row, column = map(int, position.groups())
        line = [*text.splitlines(), ""][row - 1]
        not_parsed = line[column - 1 :][:20].strip()
        hint = "; text takes single quotes: platform = 'a'" if re.match(r'["\w]', not_parsed) else ""
        where = f"from {not_parsed!r} on{hint}"
        if not not_parsed:
            where = "at its end: a value, a property or `)` is missing"
        raise UsageError(f"--filter cannot be read as CQL2 {where}.") from error


def _span(value: object) -> TimeSpan | None:
    if isinstance(value, str):
        return time_span(value) if len(value.strip()) >= len("2020-01-01") else None
    return value if isinstance(value, TimeSpan) else None


def _span_between(first: TimeSpan | None, last: TimeSpan | None) -> TimeSpan | None:
    if first is None or last is None or first.start > last.end:
        return None
    return TimeSpan(first.start, last.end)


def _item_time(_item: Json, properties: Json) -> Value:
    instant = properties.get("datetime")
    if instant is not None:
        return instant
    start = _span(properties.get("start_datetime"))
    end = _span(properties.get("end_datetime"))
    if start is None and end is None:
        return None
    return _span_between(start or _ALL_TIME, end or _ALL_TIME)


def _comparison(order: Callable[[Any, Any], bool]) -> ValueFunction:
    """Return a comparison (7.6). Booleans and lists can be equal, but have no order."""
    has_order = order not in (operator.eq, operator.ne)
    kinds: tuple[type, ...] = (str,) if has_order else (str, bool, list)

    def compare(left: Any, right: Any) -> Truth:
        if is_number(left) and is_number(right):
            if isinstance(left, float) or isinstance(right, float):  # CQL2 text has no other numbers
                with suppress(OverflowError):
                    return order(float(left), float(right))
            return order(left, right)
        left_span = _span(left)
        right_span = left_span and _span(right)
        if left_span is not None and right_span is not None:
            if left_span.start > right_span.end:
                return order(1, 0)
            if left_span.end < right_span.start:
                return order(-1, 0)
            return order(0, 0)
        for kind in kinds:
            if isinstance(left, kind) and isinstance(right, kind):
                return order(left, right)
        return None

    return compare


_EQUAL: Final = _comparison(operator.eq)
_AT_LEAST: Final = _comparison(operator.ge)
_AT_MOST: Final = _comparison(operator.le)


def _decided_by(decisive: bool, *truths: Truth) -> Truth:
    if decisive in truths:
        return decisive
    return None if None in truths else not decisive


def _is_in(value: Any, members: Any) -> Truth:
    """Return whether `value` equals one of `members` (7.9.4), as if they were compared with OR."""
    match members:
        case [list(labels)]:  # `'a' IN labels`: the property is the list
            members = labels
    if not isinstance(members, list):
        return None
    return _decided_by(True, *(_EQUAL(value, member) for member in members))


@lru_cache(maxsize=64)
def _matcher(like: str) -> Callable[[str], object]:
    r"""Compile a pattern of LIKE (7.9.2), in which `\x` matches `x`, to an expression of linear time."""
    wildcards = {"%": "*", "_": "?"}
    pattern = ""
    for escaped, plain in re.findall(r"\\(.)|(.)", like, re.DOTALL):
        pattern += wildcards.get(plain) or glob.escape(escaped or plain)
    return re.compile(fnmatch.translate(pattern)).fullmatch


def _on_text(change: Callable[[str], str]) -> ValueFunction:
    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(member) for member in value]
        return change(value) if isinstance(value, str) else None

    return changed


def _only(kind: type) -> ValueFunction:
    def checked(value: Value) -> Value:
        return value if isinstance(value, kind) else None

    return checked


def _with_operands(read: ValueFunction, function: ValueFunction) -> ValueFunction:
    def operated(left: Value, right: Value) -> Value:
        values = read(left), read(right)
        return None if None in values else function(*values)

    return operated


def _arithmetic(calculate: Callable[[float, float], Any]) -> ValueFunction:
    def calculated(left: Value, right: Value) -> float | None:
        if not (is_number(left) and is_number(right)):
            return None
        try:
            result = calculate(float(left), float(right))
        except (ArithmeticError, ValueError):
            return None
        return result if isinstance(result, float) and math.isfinite(result) else None

    return calculated


def _has_all(left: list[Any], right: list[Any]) -> Truth:
    return _decided_by(False, *(_is_in(member, left) for member in right))


def _shapes() -> Any:
    from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

    return shapes


def _related(name: str, left: Any, right: Any) -> Value:
    return _shapes().related(name, left, right)


_TEMPORAL: Final[dict[str, Callable[[TimeSpan, TimeSpan], bool]]] = {
    "after": lambda a, b: a.start > b.end,
    "before": lambda a, b: a.end < b.start,
    "contains": lambda a, b: a.start < b.start and a.end > b.end,
    "disjoint": lambda a, b: a.end < b.start or a.start > b.end,
    "during": lambda a, b: a.start > b.start and a.end < b.end,
    "equals": operator.eq,
    "finishedby": lambda a, b: a.start < b.start and a.end == b.end,
    "finishes": lambda a, b: a.start > b.start and a.end == b.end,
    "intersects": lambda a, b: a.start <= b.end and a.end >= b.start,
    "meets": lambda a, b: a.end == b.start,
    "metby": lambda a, b: a.start == b.end,
    "overlappedby": lambda a, b: b.start < a.start < b.end < a.end,
    "overlaps": lambda a, b: a.start < b.start < a.end < b.end,
    "startedby": lambda a, b: a.start == b.start and a.end > b.end,
    "starts": lambda a, b: a.start == b.start and a.end < b.end,
}
_array = partial(_with_operands, _only(list))
_CALCULATED: Final = ("casei", "accenti", "+", "-", "*", "/", "^", "%", "div")
"""The operators that are not predicates. `%` has the sign of the dividend, `div` rounds towards zero."""
_SPATIAL: Final = ("contains", "crosses", "disjoint", "equals", "intersects", "overlaps", "touches", "within")
_OPERATORS: Final[dict[str, ValueFunction]] = {
    "and": partial(_decided_by, False),
    "or": partial(_decided_by, True),
    "not": {True: False, False: True}.get,
    "=": _EQUAL,
    "<>": _comparison(operator.ne),
    "<": _comparison(operator.lt),
    "<=": _AT_MOST,
    ">": _comparison(operator.gt),
    ">=": _AT_LEAST,
    "isnull": lambda value: value is None,
    "like": _with_operands(_only(str), lambda text, like: _matcher(like)(text) is not None),
    "between": lambda value, low, high: _decided_by(False, _AT_LEAST(value, low), _AT_MOST(value, high)),
    "in": _is_in,
    "casei": _on_text(str.casefold),
    "accenti": _on_text(lambda text: "".join(c for c in normalize("NFKD", text) if not combining(c))),
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _arithmetic(operator.truediv),
    "^": _arithmetic(operator.pow),
    "%": _arithmetic(math.fmod),
    "div": _arithmetic(lambda a, b: float(math.trunc(a / b))),
    **{f"t_{name}": _with_operands(_span, test) for name, test in _TEMPORAL.items()},
    # arrays are sets (7.13): order and repetitions do not matter
    "a_contains": _array(_has_all),
    "a_containedby": _array(lambda a, b: _has_all(b, a)),
    "a_equals": _array(lambda a, b: _decided_by(False, _has_all(a, b), _has_all(b, a))),
    "a_overlaps": _array(lambda a, b: _decided_by(True, *(_is_in(member, a) for member in b))),
    **{f"s_{name}": partial(_related, name) for name in _SPATIAL},
}
_ARITY: Final = {"and": None, "or": None, "not": 1, "isnull": 1, "casei": 1, "accenti": 1, "between": 3}


class _Constant(msgspec.Struct, frozen=True):
    value: Value

    def __call__(self, _item: Json, _properties: Json) -> Value:
        return self.value


def _applied(function: ValueFunction, *terms: Term) -> Term:
    if all(isinstance(term, _Constant) for term in terms):
        return _Constant(function(*[term({}, {}) for term in terms]))
    return lambda item, properties: function(*[term(item, properties) for term in terms])


def compile_filter(text: str) -> tuple[Any, Term]:
    try:
        tree = parse_filter(text)
        return tree, _predicate(tree)
    except RecursionError:
        raise UsageError("--filter is nested too deeply.") from None


def _predicate(node: Any) -> Term:
    term = _term(node)
    match node:
        case bool():
            return term
        case {"property": _}:
            return _applied(_only(bool), term)
        case {"op": str(name)} if name.lower() not in _CALCULATED:
            return term
    what = node.get("op", "this") if isinstance(node, dict) else node
    raise UsageError(f"--filter: a condition is expected (property = value, …), but {what!r} is a value.")


def _term(node: Any) -> Term:
    match node:
        case None | bool() | int() | float() | str():
            return _Constant(node)
        case list():
            return _applied(lambda *members: list(members), *map(_term, node))
        case {"op": name}:
            return _operation(str(name), node.get("args", []))
        case {"property": "datetime" | "properties.datetime"}:
            return _item_time
        case {"property": str(name)}:
            return PropertyName(name).value
        case {"date": value}:
            return _instant(value, "DATE")
        case {"timestamp": value}:
            return _instant(value, "TIMESTAMP")
        case {"interval": [_, _] as ends}:
            return _applied(_span_between, *(_instant(end, "INTERVAL") for end in ends))
        case {"bbox": _} | {"coordinates": _} | {"geometries": _}:
            geometry = _shapes().geometry_of({**node, "geometry": node})
            if geometry is not None:
                return _Constant(geometry)
            raise UsageError(f"--filter: this {node.get('type', 'BBOX')} cannot be read.")
    raise UsageError(f"--filter: an object with {', '.join(node) or 'no members'} is not part of CQL2.")


def _instant(value: Any, what: str) -> Term:
    if not isinstance(value, str):
        return _applied(_span, _term(value))
    is_open = what == "INTERVAL" and value in ("..", "")
    span = _ALL_TIME if is_open else _span(value)
    if span is None or (what == "TIMESTAMP" and span.start < span.end):
        forms = "DATE('2018-01-16') or TIMESTAMP('2018-01-16T00:00:00Z')"
        raise UsageError(f"--filter: {value!r} is not a valid time for {what}('…'); use {forms}.")
    return _Constant(span)


def _operation(name: str, arguments: Any) -> Term:
    operation = name.lower()
    function = _OPERATORS.get(operation)
    if function is None:
        hint = did_you_mean(name.upper(), map(str.upper, _OPERATORS))
        raise UsageError(f"--filter: there is no operator or function {name}{hint}")
    if operation == "-" and isinstance(arguments, list) and len(arguments) == 1:
        arguments = [0, *arguments]
    arity = _ARITY.get(operation, 2)
    count = len(arguments) if isinstance(arguments, list) else 0
    if count == 0 or arity not in (count, None):
        raise UsageError(f"--filter: {name} takes {arity or 'conditions as'} arguments.")
    match operation.partition("_")[0]:
        case "and" | "or" | "not":
            terms = [_predicate(argument) for argument in arguments]
        case "a":
            lists = [node if isinstance(node, list | dict) else [node] for node in arguments]
            terms = [_term(node) for node in lists]
        case "t":
            terms = [_instant(value, "DATE") for value in arguments]
        case "s":
            terms = _geometries(arguments)
        case _:
            terms = [_term(argument) for argument in arguments]
    if operation == "like":
        pattern = terms[1].value if isinstance(terms[1], _Constant) else None
        if not isinstance(pattern, str):
            raise UsageError("--filter: LIKE needs a pattern in single quotes.")
    return _applied(function, *terms)


def _geometries(arguments: list[Any]) -> list[Term]:
    def geometry_of_item(item: Json, _properties: Json) -> Value:
        return _shapes().geometry_of(item)

    own = {"property": "geometry"}
    terms = []
    for argument in arguments:
        term = geometry_of_item if argument == own else _term(argument)
        if own in arguments and isinstance(term, _Constant) and hasattr(term.value, "bounds"):
            _shapes().in_degrees(term.value, "--filter")
        terms.append(term)
    return terms


def _pushable(node: Any, *, negated: bool = False) -> Json | None:
    if not isinstance(node, dict) or not isinstance(node.get("args"), list):
        return None
    name = str(node.get("op")).lower()
    arguments = node["args"]
    parts: list[Json | None]
    match name:
        case "and" | "or" | "not":
            parts = [_pushable(argument, negated=negated or name == "not") for argument in arguments]
        case "between":
            value, low, high = arguments
            name = "and"
            parts = [_pushable_test(">=", value, low), _pushable_test("<=", value, high)]
        case "in" if isinstance(arguments[0], dict) and isinstance(arguments[1], list):
            name = "or"
            parts = [_pushable_test("=", arguments[0], member) for member in arguments[1]]
        case _:
            return _pushable_test(name, *arguments) if name in _CONVERSE else None
    usable = [part for part in parts if part is not None]
    may_lose_parts = name == "and" and not negated  # fewer conditions keep more items, but not in NOT
    if len(usable) < len(parts) and not may_lose_parts:
        return None
    if name == "not":
        return {"op": "not", "args": usable}
    return combined(name, usable)


def _pushable_test(sign: str, left: Any, right: Any) -> Json | None:
    if isinstance(right, dict) and not isinstance(left, dict):
        return _pushable_test(_CONVERSE[sign], right, left)
    reference = left.get("property") if isinstance(left, dict) else None
    if not isinstance(reference, str):
        return None
    name = reference.removeprefix("properties.")
    if "." in name or {name, reference} & _NOT_PUSHED:
        return None
    # services differ in the order of strings (collations), and in times (ranges, whole days, zones)
    is_exact = isinstance(right, bool | str) and parse_instant(right) is None
    if is_number(right) or (is_exact and sign in ("=", "<>")):
        return {"op": sign, "args": [{"property": name}, right]}
    return None


def combined(name: str, conditions: list[Json]) -> Json | None:
    if len(conditions) > 1:
        return {"op": name, "args": conditions}
    return conditions[0] if conditions else None


class ExpressionFilter(ItemFilter):
    fields = ("filter",)
    warned_reason = "unknown to the filter"
    warning = "--filter cannot be evaluated, because a property is absent or of another type."

    def __init__(self, text: str) -> None:
        self._tree, self._evaluate = compile_filter(text)
        self._why: str | None = None  # for the first item that cannot be judged

    def __call__(self, item: Json, properties: Json) -> str | None:
        truth = self._evaluate(item, properties)
        if truth is not None:
            return None if truth else "filter"
        if self._why is None:
            self._why = self._why_unknown(item, properties)
        return self.warned_reason

    def _why_unknown(self, item: Json, properties: Json) -> str:
        terms = {name: _term({"property": name}) for name in properties_in(self._tree)}
        absent = sorted(name for name in terms if terms[name](item, properties) is None)
        if not absent:
            return " Numbers take no quotes. Text takes single quotes, a list 'TEXT' IN NAME (or --label)."
        hint = ". Text takes single quotes: 'a'."
        if len(absent) == 1:
            hint = did_you_mean(absent[0], properties.keys() - absent, otherwise=hint)
        return f" Absent: {', '.join(absent)}{hint}"

    def warnings(self, counts: LeftOut, *, complete: bool) -> list[str]:
        return [f"{text}{self._why or ''}" for text in super().warnings(counts, complete=complete)]

    def pushed_down(self) -> Json:
        return {"condition": _pushable(self._tree)}


def properties_in(node: Any) -> Iterator[str]:
    match node:
        case {"property": str(name)}:
            yield name
        case dict():
            yield from properties_in([*node.values()])
        case list():
            for part in node:
                yield from properties_in(part)
