"""Reads TOML files with the line of each key, and config files.

The keys of a config file are `source`, `dest` and the names of options, in kebab or snake case.
`[credentials]` contains `query = { key = "${NAME}" }`, which is sent to the source, and `profile`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
from msgspec.structs import replace

from stacpull import arguments
from stacpull.config.options import BY_NAME
from stacpull.errors import UsageError, did_you_mean, why_unreadable
from stacpull.suggestions import advice_on
from stacpull.system import expand_user

T = TypeVar("T")

POSITIONAL_KEYS = ("source", "dest")
_PACKAGE = Path(__file__).parents[1]
_KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEYS = re.compile(rf"\s*(?P<header>\[\[?\s*)?(?P<keys>{_KEY}(?:\s*\.\s*{_KEY})*)\s*(?(header)\]|=)")


class Setting(NamedTuple):
    """A raw value, and its origin: "configs/x.toml, line 4, layout"."""

    value: object
    where: str

    def read(self, reader: Callable[[Any], T]) -> T:
        try:
            return arguments.read_as(self.where, reader, self.value)
        except OSError as problem:
            raise UsageError(f"{self.where} cannot read {problem.filename}: {problem.strerror}.") from problem


class Config(msgspec.Struct, frozen=True):
    """The content of a config file: `options` by kebab name, `query` the parameters of `[credentials]`."""

    name: str = ""  # as --config names the file
    addresses: Mapping[str, str] = msgspec.field(default_factory=dict)
    options: Mapping[str, Setting] = msgspec.field(default_factory=dict)
    query: Mapping[str, Setting] = msgspec.field(default_factory=dict)


class TomlEntry(NamedTuple):
    """A key of a TOML file with its value. `keys` are the keys of the tables around it, and its own."""

    path: Path
    keys: tuple[str, ...]
    content: Any
    lines: Mapping[tuple[str, ...], int]

    @property
    def key(self) -> str:
        return self.keys[-1]

    @property
    def name(self) -> str:
        return self.key.replace("_", "-")

    @property
    def value(self) -> Any:
        """The value as plain Python. Dates and times become text, as `--datetime` takes it."""
        return self.content.isoformat() if isinstance(self.content, date) else self.content

    @property
    def where(self) -> str:
        line = 1
        for depth in range(1, len(self.keys) + 1):  # the line of a table if that of the key is not known
            line = self.lines.get(self.keys[:depth], line)
        return f"{self.path}, line {line}, {self.key}"

    @property
    def children(self) -> list[Self]:
        return [self._replace(keys=(*self.keys, key), content=value) for key, value in self.content.items()]

    def read(self, reader: Callable[[Any], T]) -> T:
        return Setting(self.value, f"{self.where}:").read(reader)

    def error(self, problem: str) -> UsageError:
        return UsageError(f"{self.where}: {problem}.")

    def unknown_key_error(self, known: Iterable[str]) -> UsageError:
        names = sorted(known)
        end = did_you_mean(self.name, names, otherwise=f": use {', '.join(names)}.")
        return UsageError(f"{self.where}: there is no such key{end}")


def shipped_config(name: str) -> Path:
    """Return the path of `configs/NAME` in a checkout, or else in the installed package."""
    checkout = _PACKAGE.parents[1] / "configs" / name
    return checkout if checkout.exists() else _PACKAGE / "configs" / name


def read_config(name: object, options: Iterable[str] = ()) -> Config:
    """Read what `--config` names, if it is given: a file, or else a shipped config."""
    if name is None:
        return Config()
    path = expand_user(Setting(str(name), "--config").read(arguments.read_text))
    is_bare = path.name == name and path.suffix in {"", ".toml"}
    if is_bare and (path.is_dir() or not path.exists()):
        path = shipped_config(f"{path.stem}.toml")
        if not path.exists():
            shipped = sorted(file.stem for file in shipped_config("").glob("*.toml"))
            hint = did_you_mean(str(name), shipped, otherwise=f"; there are {', '.join(shipped)}.")
            raise UsageError(f"--config {name}: there is no file and no config of that name{hint}")
    return replace(read_config_file(path, options), name=str(name))


def read_config_file(path: Path, names: Iterable[str] = ()) -> Config:
    """Read the config file at `path`. The options of the core, and `names`, are known."""
    options: dict[str, Setting] = {}
    query: dict[str, Setting] = {}
    known = {*BY_NAME, *POSITIONAL_KEYS, *names}
    for entry in read_entries(path):
        name = entry.name
        value = entry.value
        pair = BY_NAME.get(name.removeprefix("no-"))
        if value is True and pair is not None and pair.is_negated_by(f"--{name}"):
            name = pair.name
            value = False
        if name in options:
            raise entry.error("this option is set twice")
        if name not in known:
            advice = advice_on(name, known - {*POSITIONAL_KEYS})
            hint = f": {advice}." if advice else did_you_mean(name, known)
            if isinstance(value, dict):
                hint = "; options do not belong in a table, except [credentials]."
            raise UsageError(f"{entry.where}: there is no such option{hint}")
        if name != "credentials" or not isinstance(value, dict):
            options[name] = Setting(value, entry.where)
            continue
        for child in entry.children:
            if child.key == "profile":
                options["credentials"] = Setting(child.value, child.where)
            elif child.key != "query":
                raise child.unknown_key_error(("profile", "query"))
            elif not isinstance(child.value, dict):
                raise child.error('must be a table: query = { key = "${NAME}" }')
            else:
                query = {field.key: Setting(field.value, field.where) for field in child.children}
    addresses = {}
    for key in POSITIONAL_KEYS:
        if key in options:
            addresses[key] = options.pop(key).read(arguments.read_text)
    return Config(addresses=addresses, options=options, query=query)


def read_entries(path: Path) -> list[TomlEntry]:
    import tomllib  # noqa: PLC0415 - only needed where there is a TOML file

    try:
        text = path.read_text(encoding="utf-8-sig") + "\n"  # or an error in the last line does not name it
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        at = re.search(r"at line (\d+)", str(problem))
        row = text.split("\n")[int(at[1]) - 1] if at else ""
        key = _KEYS.match(row)
        named = f", {key['keys']}" if key else ""
        hint = "; text needs quotes" if re.match("Invalid v|Expected n|Illegal", str(problem)) else ""
        raise UsageError(f"{path}{named} is not valid TOML: {problem}{hint}.") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"The config file {path} cannot be read: {why_unreadable(problem)}.") from problem
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    rows = text.split("\n")
    start = 0
    for number, begun in enumerate(map(_KEYS.match, rows)):
        if begun is None:
            continue
        try:
            tomllib.loads("\n".join(rows[start:number]))
        except tomllib.TOMLDecodeError:  # a value continues in this row, which only looks like a key
            continue
        start = number
        keys = tuple(key.strip("\"'") for key in re.findall(_KEY, begun["keys"]))
        if begun["header"]:
            table = keys
        else:
            keys = (*table, *keys)
        for depth in range(1, len(keys) + 1):
            lines.setdefault(keys[:depth], number + 1)
    return TomlEntry(path, (), content, lines).children
