"""Reads TOML files with the line of each key, and config files.

The keys of a config file are `source`, `dest` and the names of options, in kebab or snake case.
`[credentials]` contains `query = { key = "${NAME}" }`, which is sent to the source, and `profile`, which is
equal to `credentials = "NAME"` without a table. Anything else is an error with the key, its line, and the
nearest known key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from stacpull.arguments import ReadArgument
from stacpull.config.options import BY_NAME
from stacpull.errors import UsageError
from stacpull.spelling import similar
from stacpull.system import expanded

if TYPE_CHECKING:
    from tomlkit.container import Container

T = TypeVar("T")

PLACES = ("source", "dest")
"""The arguments that may stand in a config file."""
_PACKAGE = Path(__file__).parents[1]
_LONGEST = 100
"""The most lines between the beginning of a statement and the line with the error."""


class Setting(NamedTuple):
    """A raw value, and its origin: "configs/x.toml, line 4, layout"."""

    value: object
    where: str

    def read(self, reader: Callable[[Any], T]) -> T:
        """Return the value, read by `reader`.

        Raises:
            UsageError: It is invalid. The message states its origin.
        """
        try:
            return reader(self.value)
        except ValueError as problem:
            raise UsageError(f"{self.where} {problem}.") from problem


class Config(msgspec.Struct, frozen=True):
    """The content of a config file: `options` by kebab name, `query` the parameters of `[credentials]`."""

    places: Mapping[str, Setting] = msgspec.field(default_factory=dict)
    """SOURCE and DEST: `source`, `dest`."""
    options: Mapping[str, Setting] = msgspec.field(default_factory=dict)
    query: Mapping[str, Setting] = msgspec.field(default_factory=dict)


class TomlEntry(NamedTuple):
    """A key with its tomlkit item, file and line."""

    path: Path
    line: int
    key: str
    item: Any

    @property
    def name(self) -> str:
        """The key in kebab case."""
        return self.key.replace("_", "-")

    @property
    def value(self) -> Any:
        """The value as plain Python; a date or time of TOML as the text that `--datetime` takes."""
        value = self.item.unwrap()
        return value.isoformat() if isinstance(value, date) else value

    @property
    def where(self) -> str:
        """File, line and key, for messages."""
        return f"{self.path}, line {self.line}, {self.key}"

    @property
    def children(self) -> list[TomlEntry]:
        """The entries of a table, which start below its header if it has one, else on its own line."""
        from tomlkit.items import Table  # noqa: PLC0415

        headed = isinstance(self.item, Table) and not self.item.is_super_table()
        return list(_entries(self.item.value, self.path, self.line + headed))

    def read(self, reader: ReadArgument) -> Any:
        """Return the value, read by `reader`.

        Raises:
            UsageError: It is invalid. The message states the file and line.
        """
        try:
            return reader(self.value)
        except ValueError as problem:
            raise self.wrong(str(problem)) from problem

    def wrong(self, problem: str) -> UsageError:
        """Return an error with the file and line; `problem` has no period at its end."""
        end = "" if problem.endswith("?") else "."
        return UsageError(f"{self.where}: {problem}{end}")


def config_path(given: str) -> Path:
    """Return the path of the config file for `--config`: a file, or a shipped config by its name.

    A file takes precedence over a shipped config with the same name.

    Raises:
        UsageError: There is neither a file nor a shipped config with that name.
    """
    path = expanded(given)
    if (path.exists() and not path.is_dir()) or path.name != given or path.suffix not in {"", ".toml"}:
        return path
    shipped = shipped_config(f"{path.stem}.toml")
    if shipped.exists() or path.suffix:
        return shipped if shipped.exists() else path
    names = sorted(one.stem for one in shipped_config("").glob("*.toml"))
    hint = nearest(given, names) or f"; there are {', '.join(names)}."
    raise UsageError(f"--config {given}: there is no such file, and no config of that name{hint}")


def shipped_config(name: str) -> Path:
    """Return the path of `configs/NAME` in a checkout, or else in the installed package."""
    checkout = _PACKAGE.parents[1] / "configs" / name
    return checkout if checkout.exists() else _PACKAGE / "configs" / name


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a question with the nearest known name, or an empty string if none is similar."""
    close = similar(name, known)
    return f"; did you mean {close[0]}?" if close else ""


def given(name: object, names: Iterable[str] = ()) -> Config:
    """Read the config file that `--config` names, if it does; see `load`."""
    if name == "":
        raise UsageError("--config must not be empty: name a file, or leave it out.")
    return load(config_path(str(name)), names) if name else Config()


def load(path: Path, names: Iterable[str] = ()) -> Config:
    """Read the config file at `path`.

    Args:
        path: The file.
        names: Options of the command that are not of the core.

    Raises:
        UsageError: It cannot be read, is not TOML, or has an unknown or duplicate key.
    """
    options: dict[str, Setting] = {}
    query: dict[str, Setting] = {}
    known = {*BY_NAME, *PLACES, *names}
    for entry in read_entries(path):
        if entry.name in options:
            raise entry.wrong("this option is set twice")
        if entry.name not in known:
            raise entry.wrong(f"there is no such option{nearest(entry.name, known)}")
        if entry.name == "credentials" and isinstance(entry.value, dict):
            profile, query = _credentials(entry)
            options |= profile
        else:
            options[entry.name] = Setting(entry.value, entry.where)
    places = {name: options.pop(name) for name in PLACES if name in options}
    return Config(places, options, query)


def _credentials(table: TomlEntry) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """Return the option `credentials` and the query parameters in `[credentials]`."""
    profile: dict[str, Setting] = {}
    query: dict[str, Setting] = {}
    for entry in table.children:
        if entry.key == "profile":
            profile["credentials"] = Setting(entry.value, entry.where)
        elif entry.key != "query":
            raise entry.wrong(f"there is no such key{nearest(entry.key, ('profile', 'query'))}")
        elif not isinstance(entry.value, dict):
            raise entry.wrong('must be a table: query = { key = "${NAME}" }')
        else:
            query = {child.key: Setting(child.value, child.where) for child in entry.children}
    return profile, query


def read_entries(path: Path) -> Iterator[TomlEntry]:
    """Return the top-level keys of the TOML file at `path`.

    Raises:
        UsageError: It cannot be read, or is not TOML.
    """
    import tomlkit  # noqa: PLC0415 - only needed where there is a TOML file
    from tomlkit.exceptions import ParseError, TOMLKitError  # noqa: PLC0415

    try:
        text = path.read_text(encoding="utf-8-sig")
        document = tomlkit.parse(text)
    except OSError as problem:
        raise UsageError(
            f"the config file {path} cannot be read: {problem.strerror or problem}."
        ) from problem
    except UnicodeDecodeError as problem:
        raise UsageError(f"the config file {path} is not UTF-8 text.") from problem
    except ParseError as problem:
        raise UsageError(_not_toml(path, text, problem.line)) from problem
    except TOMLKitError as problem:
        raise UsageError(f"{path} is not TOML: {problem}.") from problem
    return _entries(document, path, 1)


def _not_toml(path: Path, text: str, line: int) -> str:
    """Return a message with the error in `text`, and the line where the invalid statement begins.

    A parser notices an unclosed bracket some lines later, or only at the end of the file. `tomllib` reports
    what is missing; tomlkit does not.

    Args:
        path: The file.
        text: Its content.
        line: The line where tomlkit stopped.
    """
    import tomllib  # noqa: PLC0415 - for this message only

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        lines = text.splitlines(keepends=True)
        last = min(max(line, 1), len(lines))
        begins = next((n for n in range(last, max(0, last - _LONGEST), -1) if _is_toml(lines[: n - 1])), line)
        return f"{path}, line {begins}: this is not TOML: {problem}."
    return f"{path}, line {line}: this is not TOML."


def _is_toml(lines: list[str]) -> bool:
    import tomllib  # noqa: PLC0415 - as above

    try:
        tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def _entries(container: Container, path: Path, line: int) -> Iterator[TomlEntry]:
    """Yield the keys of a table whose text begins on `line`, each with its own line.

    tomlkit stores no positions, so the lines of the rendered text before each key are counted.
    """
    from tomlkit.container import Container  # noqa: PLC0415

    before = Container()
    for key, item in container.body:
        if key is not None:
            above = before.as_string().count("\n") + item.trivia.indent.count("\n")
            yield TomlEntry(path, line + above, key.key, item)
        before.body.append((key, item))
