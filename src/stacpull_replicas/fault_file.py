"""Fault plans as TOML (`stacpull serve … --faults FILE`); docs/replicas.md has the keys and examples.

    seed = 7

    [[fault]]
    kind = "object"         # which requests
    probability = 0.1       # which of them
    what = "close"          # what happens: the name of a fault, its own keys beside it
    after = 100

Everything that is wrong is said with its line. TOML's reader tells lines of syntax only, so those of keys are
looked up in the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stacpull_replicas import faults
from stacpull_replicas.fault_plan import KINDS, FaultPlan, Rule
from stacpull_replicas.faults import Fault

FAULTS: Mapping[str, type[Fault]] = {
    "status": faults.Status,
    "login-page": faults.LoginPage,
    "redirect": faults.Redirect,
    "alter": faults.Alter,
    "truncate": faults.Truncate,
    "damage": faults.Damage,
    "changed": faults.Changed,
    "whole": faults.Whole,
    "coded": faults.Coded,
    "page": faults.Page,
    "bomb": faults.Bomb,
    "delay": faults.Delay,
    "close": faults.Close,
    "stall": faults.Stall,
    "drip": faults.Drip,
    "overlong": faults.Overlong,
    "unframed": faults.Unframed,
    "fields": faults.Fields,
    "raw": faults.Raw,
}
"""What `what` may say; the keys of a fault are its fields."""

_RENAMED = {"from": "first", "until": "last"}
_CHOICES = {"kind": KINDS, "per": ("rule", "path")}
_AT_LEAST_1 = frozenset({"first", "last", "every", "times"})
_RULE_HEAD = re.compile(r"\s*\[\[\s*fault\s*\]\]")


class FaultFileError(ValueError):
    """A fault file is wrong; the message is a sentence that names file and line."""


def read_faults(path: Path) -> FaultPlan:
    """The plan in a file.

    Raises:
        FaultFileError: It cannot be read, or says something that is not understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultFileError(f"{path} cannot be read: {error}.") from error
    return parse_faults(text, str(path))


def parse_faults(text: str, name: str = "the fault file") -> FaultPlan:
    """The plan that `text` says; `name` is for messages.

    Raises:
        FaultFileError: It says something that is not understood.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FaultFileError(f"{name} is no TOML: {error}.") from error
    for key in document.keys() - {"seed", "fault"}:
        raise _wrong(name, text, None, key, "is no key of a fault file; it has seed and [[fault]]")
    seed, tables = document.get("seed", 0), document.get("fault", [])
    if not _is_whole(seed):
        raise _wrong(name, text, None, "seed", "must be a whole number")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _wrong(name, text, None, "fault", "must be written [[fault]]")
    rules = []
    for number, table in enumerate(tables):
        try:
            rules.append(_rule(table))
        except _KeyWrongError as wrong:
            raise _wrong(name, text, number, wrong.key, wrong.problem) from wrong
    return FaultPlan(tuple(rules), seed)


class _KeyWrongError(Exception):
    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem


def _rule(table: Mapping[str, Any]) -> Rule:
    what = table.get("what")
    if not isinstance(what, str) or what not in FAULTS:
        raise _KeyWrongError("what", f"must be one of {', '.join(FAULTS)}")
    kind = FAULTS[what]
    own = {field.name: field for field in fields(kind)}
    of_rule = {field.name: field for field in fields(Rule) if field.name != "fault"}
    told: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for key, value in table.items():
        if key == "nth":
            told |= {"first": _number(key, value), "last": _number(key, value)}
        elif key in own:
            made[key] = _value(key, value, get_type_hints(kind)[key])
        elif (name := _RENAMED.get(key, key)) in of_rule and key not in _RENAMED.values():
            told[name] = _checked(key, name, _value(key, value, get_type_hints(Rule)[name]))
        elif key != "what":
            known = ", ".join([*own, "nth", *_RENAMED, *(n for n in of_rule if n not in _RENAMED.values())])
            raise _KeyWrongError(key, f"is no key of a rule with {what}; it may have {known}")
    for missing in (name for name, field in own.items() if name not in made and _is_required(field)):
        raise _KeyWrongError("what", f"= {what!r} needs {missing}")
    return Rule(kind(**made), **told)


def _checked(key: str, name: str, value: Any) -> Any:
    """A value of a rule that is of the right type, if it also makes sense."""
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        raise _KeyWrongError(key, f"must be one of {', '.join(choices)}")
    if name in _AT_LEAST_1:
        _number(key, value)
    if name == "probability" and not 0 <= value <= 1:
        raise _KeyWrongError(key, "must be between 0 and 1")
    if name == "regex":
        try:
            re.compile(value)
        except re.error as error:
            raise _KeyWrongError(key, f"is no regular expression: {error}") from error
    return value


def _number(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _KeyWrongError(key, "must be a whole number from 1 on")
    return value


def _value(key: str, value: object, hint: Any) -> object:
    """A TOML value as the field of type `hint` wants it."""
    members = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    wanted = next(member for member in members if member is not NoneType)
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise _KeyWrongError(key, f"must be one of {', '.join(get_args(wanted))}")
        return value
    spoken, fits = _TYPES[wanted]
    if not fits(value):
        raise _KeyWrongError(key, f"must be {spoken}")
    if wanted is bytes:
        return str(value).encode()
    return tuple(value) if isinstance(value, list) else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_amount(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and value >= 0)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_TYPES: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", _is_whole),
    float: ("a number", _is_amount),
    str: ("text", _is_text),
    bytes: ("text", _is_text),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    tuple[str, ...]: ("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value))),
    Mapping[str, str]: (
        "a table of texts",
        lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    ),
}
"""How a field's type is called in a message, and which TOML values it takes. No number is below 0."""


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _wrong(name: str, text: str, rule: int | None, key: str, problem: str) -> FaultFileError:
    return FaultFileError(f"{name}, line {_line_of(text, rule, key)}: {key} {problem}.")


def _line_of(text: str, rule: int | None, key: str) -> int:
    """The line of a key of the `rule`-th [[fault]] (None: of the head), or else that of its table."""
    here, found = -1, 1
    wanted = re.compile(rf"""\s*(\[\[?\s*)?["']?{re.escape(key)}["']?\s*[]=.]""")
    for number, line in enumerate(text.splitlines(), 1):
        if _RULE_HEAD.match(line):
            here += 1
            if here == rule:
                found = number
        elif here == (-1 if rule is None else rule) and wanted.match(line):
            return number
    return found
