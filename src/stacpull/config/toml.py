"""Reading a config file: which option is set to what, and on which line.

Keys are the names of options, in kebab or snake case, at the top of the file. `[credentials]` holds what is
sent to the source: `query = { key = "${NAME}" }`, and `profile`, which is what `credentials = "NAME"` says
without a table. Anything else is an error that names the key, its line, and the nearest key there is.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stacpull.config.table import BY_NAME
from stacpull.errors import UsageError

if TYPE_CHECKING:
    from tomlkit.container import Container

__all__ = ["Config", "Entry", "Setting", "load", "nearest", "read_entries"]


_LONGEST = 100
"""Lines that a statement may be looked for above the place where it cannot be read."""


class Setting(NamedTuple):
    """A value as TOML gives it, and where it stands: "configs/x.toml, line 4, layout"."""

    value: object
    where: str


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says: `options` by kebab name, `query` the parameters of `[credentials]` as written."""

    options: Mapping[str, Setting] = field(default_factory=dict)
    query: Mapping[str, Setting] = field(default_factory=dict)


class Entry(NamedTuple):
    """A key with its item as tomlkit has it, and where it stands."""

    path: Path
    line: int
    key: str
    item: Any

    @property
    def name(self) -> str:
        """The key in kebab case."""
        return self.key.replace("_", "-")

    @property
    def setting(self) -> Setting:
        """Its value and place."""
        return Setting(self.item.unwrap(), f"{self.path}, line {self.line}, {self.key}")

    @property
    def children(self) -> list[Entry]:
        """The entries of a table: below its header if it has one, else on its own line."""
        from tomlkit.items import Table  # noqa: PLC0415

        headed = isinstance(self.item, Table) and not self.item.is_super_table()
        return list(_entries(self.item.value, self.path, self.line + headed))

    def wrong(self, problem: str) -> UsageError:
        """Return an error that names the place."""
        return UsageError(f"{self.path}, line {self.line}, {self.key}: {problem}")


def load(path: Path) -> Config:
    """Read the config file at `path`.

    Raises:
        UsageError: It cannot be read, is no TOML, or holds an unknown or repeated key.
    """
    return _interpret(read_entries(path))


def read_entries(path: Path) -> Iterator[Entry]:
    """Return the keys at the top of the TOML file at `path`.

    Raises:
        UsageError: It cannot be read, or is no TOML.
    """
    import tomlkit  # noqa: PLC0415 - a run without a config file need not pay for it
    from tomlkit.exceptions import ParseError, TOMLKitError  # noqa: PLC0415

    try:
        text = path.read_text(encoding="utf-8")
        document = tomlkit.parse(text)
    except OSError as problem:
        raise UsageError(f"the config file {path} cannot be read: {problem.strerror or problem}") from problem
    except UnicodeDecodeError as problem:
        raise UsageError(f"the config file {path} is not UTF-8 text") from problem
    except ParseError as problem:
        raise UsageError(_not_toml(path, text, problem.line)) from problem
    except TOMLKitError as problem:
        raise UsageError(f"{path} is not TOML: {problem}") from problem
    return _entries(document, path, 1)


def _not_toml(path: Path, text: str, line: int) -> str:
    """Say why `text` is not TOML, and on which line the statement begins that cannot be read.

    A bracket that is not closed is noticed some lines later, or only at the end of the file. `tomllib` says
    what is missing; tomlkit does not.

    Args:
        path: The file.
        text: What is in it.
        line: Where tomlkit stopped.
    """
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        lines = text.splitlines(keepends=True)
        last = min(max(line, 1), len(lines))
        begins = next((n for n in range(last, max(0, last - _LONGEST), -1) if _is_toml(lines[: n - 1])), line)
        return f"{path}, line {begins}: this is not TOML: {problem}."
    return f"{path}, line {line}: this is not TOML."


def _is_toml(lines: list[str]) -> bool:
    try:
        tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def _entries(container: Container, path: Path, line: int) -> Iterator[Entry]:
    """Yield the keys of a table whose text begins on `line`, each with the line that it stands on.

    tomlkit keeps no positions, but it renders any beginning of a document as it was written.
    """
    from tomlkit.container import Container  # noqa: PLC0415

    before = Container()
    for key, item in container.body:
        if key is not None:
            above = before.as_string().count("\n") + item.trivia.indent.count("\n")
            yield Entry(path, line + above, key.key, item)
        before.body.append((key, item))


def _interpret(entries: Iterator[Entry]) -> Config:
    options: dict[str, Setting] = {}
    query: dict[str, Setting] = {}
    for entry in entries:
        if entry.name in options:
            raise entry.wrong("this option is set twice")
        if entry.name not in BY_NAME:
            raise entry.wrong(f"there is no such option{nearest(entry.name, BY_NAME)}")
        if entry.name == "credentials" and isinstance(entry.item.unwrap(), dict):
            profile, query = _credentials(entry)
            options |= profile
        else:
            options[entry.name] = entry.setting
    return Config(options, query)


def _credentials(table: Entry) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """Return what `[credentials]` says of the option `credentials`, and its query parameters."""
    profile: dict[str, Setting] = {}
    query: dict[str, Setting] = {}
    for entry in table.children:
        if entry.key == "profile":
            profile["credentials"] = entry.setting
        elif entry.key != "query":
            raise entry.wrong(f"there is no such key{nearest(entry.key, ('profile', 'query'))}")
        elif not isinstance(entry.item.unwrap(), dict):
            raise entry.wrong('must be a table: query = { key = "${NAME}" }')
        else:
            query = {child.key: child.setting for child in entry.children}
    return profile, query


def nearest(name: str, known: Iterable[str]) -> str:
    """Return half a sentence that names the nearest of the known keys, empty if none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
