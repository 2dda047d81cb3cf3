"""Declares options as fields of classes (attrs), and their help in the docstring of the class.

The command line, the readers of TOML and the environment, and the reference pages are generated from these.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs
import msgspec

from stacpull import arguments
from stacpull.arguments import ValueReader
from stacpull.redact import Secret

Form = Literal["value", "repeated", "switch", "pair", "count", "no_flag"]
"""On the command line: `--name VALUE`, once or repeated; `--name`; also `--no-name`; `-nn`; or not at all."""


def as_option(
    metavar: str = "", *, fixed: bool = False, remembered: bool = False, **members: Any
) -> dict[str, Any]:
    """Return the metadata of an option field. Its help is `help`, or else in the docstring of the class.

    Commands that continue a run, or fetch its assets again, use its `fixed` values and refuse others.
    `resume` uses `remembered` values again, unless others are given. JSON can hold both.
    """
    if fixed:
        members.setdefault("commands", "mirror plan")
    return {"option": {"metavar": metavar, **members}, "fixed": fixed, "remembered": remembered}


def option(default: Any, metavar: str = "", *, read: ValueReader | None = None, **members: Any) -> Any:
    """Return a field with its option. `read` is its reader; None for the usual reader of its type.

    Fields of more complex types are an `attrs.field` with `as_option(...)`, which type checkers understand.
    """
    return attrs.field(default=default, converter=read, metadata=as_option(metavar, **members))


def with_readers(kind: type, fields: list[Any]) -> list[Any]:
    """Make a class read its arguments, and name the one that it refuses (a `field_transformer` of attrs)."""
    hints = get_type_hints(kind)
    changed = []
    for field in fields:
        hint = hints[field.name]
        read = _reader(field.converter, hint)
        metadata = {"read": read, **field.metadata}
        if "option" in metadata:
            metadata["option"] = _derived(field.name, hint, field.default) | metadata["option"]
        converter = _naming(field.name, read)
        changed.append(field.evolve(converter=converter, metadata=metadata, type=hint))
    return changed


def _naming(name: str, read: ValueReader) -> ValueReader:
    return lambda value: arguments.read_as(name, read, value)  # without a type, which `help` would show


def _derived(name: str, hint: Any, default: object) -> dict[str, Any]:
    """Return what follows from the type of a field. A repeated option is named in the singular."""
    kind = get_args(hint)[0] if NoneType in get_args(hint) else hint
    derived: dict[str, Any] = {"name": name.replace("_", "-"), "form": "value"}
    if get_origin(hint) in (tuple, Mapping):
        derived = {"name": derived["name"].removesuffix("s"), "form": "repeated"}
    elif get_origin(kind) is Literal:
        derived["choices"] = get_args(kind)
    elif kind is bool:
        derived["form"] = "switch" if default is False else "pair"
    return derived


def _reader(read: Any, hint: Any) -> ValueReader:
    kinds = get_args(hint)
    if NoneType in kinds:
        read_other = _reader(read, kinds[0])
        return lambda value: None if value is None else read_other(value)
    if read is not None:
        return read  # type: ignore[no-any-return]
    if get_origin(hint) is Literal:
        return arguments.choice(*kinds)
    if attrs.has(hint):
        return partial(arguments.instance_of, hint)
    usual = {
        bool: arguments.read_switch,
        int: arguments.integer(),
        str: arguments.read_text,
        Secret: arguments.read_secret,
    }
    return usual.get(hint, lambda value: value)


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option, as its field declares it (`as_option`), with what follows from the field."""

    help: str
    holder: type  # the class with its field
    name: str  # in kebab case
    field: str  # the field that declares it
    read: ValueReader
    group: str  # the heading on help pages; by default, that of the field before it
    default: str  # as help pages show it
    commands: str  # the commands whose command line has it, separated by spaces
    form: Form
    basic: bool = False  # `--help` shows it; `--help all` shows every option
    short: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    load: Callable[[str], object] | None = None
    """Resolves text for `read`, to the content of a file or the task of a job array, but not in Python."""
    environment: tuple[str, ...] = ()  # variables of other programs, used if its own is not set
    bare_value: str = ""  # the value of `--NAME` without a value; another one is given as `--NAME=VALUE`
    has_variable: bool = False  # STACPULL_NAME sets it

    def is_negated_by(self, flag: str) -> bool:
        return self.form == "pair" and flag == f"--no-{self.name}"

    def has_flag(self, flag: str) -> bool:
        return flag in {f"--{self.name}", f"-{self.short}"} or self.is_negated_by(flag)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that set it, by precedence. Only options with a single value have any."""
        if self.form == "repeated" or not self.has_variable:
            return ()
        return (f"STACPULL_{self.name.replace('-', '_').upper()}", *self.environment)


def declared_options(
    holder: type, group: str, *, commands: str = "", has_variables: bool = False
) -> Iterator[Option]:
    """Yield the options of a class and of the classes that it holds; a field may name its own `commands`."""
    entries = r"^    (\w+)(?: \(.+?\))?: (.+(?:\n {8}.+)*)"
    found = re.findall(entries, inspect.getdoc(holder) or "", re.MULTILINE)
    helps = {name: " ".join(text.split()) for name, text in found}
    for field in attrs.fields(holder):
        if attrs.has(field.type):
            yield from declared_options(field.type, group, commands=commands, has_variables=has_variables)
        if "option" not in field.metadata:
            continue
        members = {
            "holder": holder,
            "field": field.name,
            "read": field.metadata["read"],
            "help": helps.get(field.name, ""),  # `python -OO` has no docstrings
            "group": group,
            "commands": commands,
            "has_variable": has_variables,
            **field.metadata["option"],
        }
        group = members["group"]
        if members["form"] == "repeated":
            members["help"] += " May be repeated."
        shown = _shown(field.default, members["name"], members["form"], members["metavar"])
        yield Option(default=members.pop("shown", shown), **members)


def _shown(default: object, name: str, form: Form, metavar: str) -> str:
    if isinstance(default, bool):
        return name if default else ""
    if isinstance(default, int | float) and form != "count":
        return f"{default:g}" if default or isinstance(default, int) else "no limit"
    if default is None and metavar.endswith("|auto"):
        return "auto"
    return default if isinstance(default, str) else ""
