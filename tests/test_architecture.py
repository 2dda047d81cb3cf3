"""The table of rooms of docs/ARCHITECTURE.md, held by reading every import of the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import stacpull
from stacpull import errors

PACKAGE = Path(stacpull.__file__).parent

BASE = frozenset(
    {
        "arguments", "caches", "clock", "digests", "errors", "events", "hosts", "models", "redact", "reports",
        "spans", "system",
    }
)  # fmt: skip
PURE = frozenset({"filters", "planning", "tiff"})
SIBLINGS = frozenset({"sources", "transfer", "store", "ledger"})
MAY_IMPORT: dict[str, frozenset[str]] = {
    **dict.fromkeys(BASE, BASE),
    "config": BASE,
    "net": BASE | {"config"},
    **dict.fromkeys(PURE, BASE),
    "sources": BASE | PURE | {"net"},
    "transfer": BASE | {"config", "net", "planning", "tiff"},
    "fastpath": BASE | {"config", "net"},
    "store": BASE | {"planning"},
    "ledger": BASE | {"planning"},
    "catalog": BASE | {"store", "ledger", "planning"},
    "tracing": BASE | {"config", "net", "transfer", "tiff", "ledger"},
    "engine": BASE | PURE | SIBLINGS | {"config", "net", "fastpath", "catalog", "tracing"},
    "replicas": frozenset(),
}
"""Which rooms a room may import, itself apart."""
EVERYTHING = frozenset({"cli", "__init__", "__main__", "sync", "notebook"})
"""What may import every room: the command, and the package's own front (`stacpull`, `stacpull.sync`)."""

LIBRARIES: dict[str, frozenset[str]] = {
    "aiohttp": frozenset({"net", "replicas"}),
    "httptools": frozenset({"net", "fastpath"}),
    **dict.fromkeys(("aioboto3", "aiobotocore", "boto3", "botocore"), frozenset({"transfer"})),
    "sqlite3": frozenset({"ledger"}),
    "pystac": frozenset({"catalog"}),
    "tomlkit": frozenset({"config"}),
    "tqdm": frozenset({"cli", "notebook"}),
    "click": frozenset({"cli"}),
}
"""Where a library may be imported; those not named here, everywhere."""
IMPURE = frozenset(
    {"aiofiles", "asyncio", "http", "shutil", "socket", "ssl", "subprocess", "tempfile", "threading"}
)
"""What does I/O: never in a pure room."""
ENVIRONMENT_ROOMS = frozenset({"config", "cli", "system"})

OWN_TASKS = {"engine/stream.py"}
"""A generator may not yield inside a task group (PEP 789): it awaits the one task it starts."""

VAGUE_NAMES = frozenset({"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})


class Module(NamedTuple):
    """One source file: its place under the package and its syntax tree."""

    place: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder directly under the package, or the stem of a file that lies there."""
        return self.place.parts[0] if len(self.place.parts) > 1 else self.place.stem


def read_package(package: Path) -> list[Module]:
    paths = sorted(package.rglob("*.py"))
    return [Module(p.relative_to(package), p.read_text(), ast.parse(p.read_text())) for p in paths]


def imported(module: Module, package: str) -> Iterator[str]:
    """Yield the dotted name of everything a module imports, relative imports made absolute."""
    here = (package, *module.place.parent.parts)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def import_violations(module: Module, package: str, rooms: frozenset[str]) -> Iterator[str]:
    for name in imported(module, package):
        top, _, rest = name.partition(".")
        if top == package:
            yield from room_violations(module.room, rest.partition(".")[0], rooms)
        elif module.room not in LIBRARIES.get(top, {module.room}):
            yield f"{module.room} must not import {top}"
        elif module.room in PURE and top in IMPURE:
            yield f"{module.room} is pure and must not import {top}"


def room_violations(room: str, target: str, rooms: frozenset[str]) -> Iterator[str]:
    """Tell what is wrong with `room` importing `target`: a name the front gives is nobody's room."""
    if room in EVERYTHING or target == room or target not in rooms:
        return
    if room not in MAY_IMPORT:
        yield f"{room} is no room of the table"
    elif target not in MAY_IMPORT[room]:
        yield f"{room} must not import {target}"


def environment_violations(module: Module) -> Iterator[str]:
    names = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    found = any(
        (isinstance(n, ast.Attribute) and n.attr in names and getattr(n.value, "id", "") == "os")
        or (isinstance(n, ast.ImportFrom) and n.module == "os" and names & {a.name for a in n.names})
        for n in ast.walk(module.tree)
    )
    if found and module.room not in ENVIRONMENT_ROOMS:
        yield f"{module.room} must not read the environment"


def task_violations(module: Module) -> Iterator[str]:
    """A task outside a task group has no owner: nobody sees its exception, nobody ends it."""
    if module.place.as_posix() in OWN_TASKS:
        return
    for node in ast.walk(module.tree):
        match node:
            case ast.ImportFrom(module="asyncio", names=names):
                if {"create_task", "ensure_future"} & {alias.name for alias in names}:
                    yield "start tasks in task groups only"
            case ast.Attribute(attr="ensure_future"):
                yield "start tasks in task groups only"
            case ast.Attribute(attr="create_task", value=ast.Call() | ast.Name(id="asyncio" | "loop")):
                yield "start tasks in task groups only"
            case ast.Attribute(attr="create_task", value=ast.Attribute(attr="loop" | "_loop")):
                yield "start tasks in task groups only"


def shape_violations(module: Module) -> Iterator[str]:
    vague = VAGUE_NAMES & {*module.place.parent.parts, *module.place.stem.split("_")}
    if vague:
        yield f"{min(vague)} says nothing: name the room after what it does"
    if module.text.strip() and ast.get_docstring(module.tree) is None:
        yield "a module opens with what it is for"


def undocumented_errors(modules: list[Module]) -> Iterator[str]:
    """Every class that derives from `StacpullError`, however far, is drawn in the tree of `errors`."""
    drawn = next((ast.get_docstring(m.tree) or "" for m in modules if m.place == Path("errors.py")), "")
    classes = {n.name: n for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef)}
    known = {"StacpullError"}
    while grown := {c for c, n in classes.items() if c not in known and known & base_names(n)}:
        known |= grown
    yield from (
        f"errors.py: {name} is missing in the tree" for name in sorted(known) if name not in drawn.split()
    )


def base_names(node: ast.ClassDef) -> set[str]:
    return {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}


def violations(package: Path) -> list[str]:
    modules = read_package(package)
    rooms = frozenset(m.room for m in modules) - {"__init__"}
    found = list(undocumented_errors(modules))
    for module in modules:
        messages = [
            *import_violations(module, package.name, rooms),
            *environment_violations(module),
            *task_violations(module),
            *shape_violations(module),
        ]
        found += [f"{module.place}: {message}" for message in messages]
    return found


def test_the_package_holds_the_table_of_rooms() -> None:
    assert violations(PACKAGE) == []


def test_every_room_is_in_the_table() -> None:
    rooms = {module.room for module in read_package(PACKAGE)}
    assert rooms <= {*MAY_IMPORT, *EVERYTHING}


def test_the_error_tree_is_drawn_with_the_true_exit_codes() -> None:
    drawn = dict(re.findall(r"(\w+Error)\s+(\d+)", errors.__doc__ or ""))
    true = {name: str(getattr(errors, name).exit_code) for name in errors.__all__}
    assert drawn == true


SOUND = {
    "__init__.py": '"""A package."""',
    "errors.py": '"""StacpullError 1"""\nclass StacpullError(Exception): ...',
    "models.py": '"""Values."""',
    "planning/__init__.py": '"""Pure."""',
    "store/__init__.py": '"""Bytes at rest."""',
    "ledger/__init__.py": '"""Truth."""\nimport sqlite3',
    "engine/__init__.py": '"""Puts together."""\nfrom made.ledger import x\nfrom .. import models',
    "engine/pool.py": '"""Workers."""\nasync def f(group):\n    group.create_task(g())',
    "cli/__init__.py": '"""Commands."""\nfrom made import engine\nimport click, os\nos.environ',
}


@pytest.mark.parametrize(
    ("place", "text", "complaint"),
    [
        ("store/a.py", "from made.ledger import x", "store must not import ledger"),
        ("store/a.py", "import made.engine.pool", "store must not import engine"),
        ("store/a.py", "from made import engine", "store must not import engine"),
        ("store/a.py", "from ..ledger import x", "store must not import ledger"),
        ("store/a.py", "def f():\n    from made.cli import x", "store must not import cli"),
        ("models.py", "from made.planning import x", "models must not import planning"),
        ("planning/a.py", "from made.store import x", "planning must not import store"),
        ("replicas/a.py", "from made import models", "replicas must not import models"),
        ("attic/a.py", "from made.planning import x", "attic is no room of the table"),
        ("store/a.py", "import sqlite3", "store must not import sqlite3"),
        ("store/a.py", "from aiohttp import web", "store must not import aiohttp"),
        ("store/a.py", "import httptools", "store must not import httptools"),
        ("engine/a.py", "import botocore.auth", "engine must not import botocore"),
        ("engine/a.py", "import pystac", "engine must not import pystac"),
        ("engine/a.py", "from tqdm import tqdm", "engine must not import tqdm"),
        ("engine/a.py", "import click", "engine must not import click"),
        ("cli/a.py", "import tomlkit", "cli must not import tomlkit"),
        ("planning/a.py", "import asyncio", "planning is pure and must not import asyncio"),
        ("engine/a.py", "import os\nos.environ['X']", "engine must not read the environment"),
        ("engine/a.py", "from os import getenv", "engine must not read the environment"),
        ("engine/a.py", "asyncio.create_task(f())", "start tasks in task groups only"),
        (
            "engine/a.py",
            "asyncio.get_running_loop().create_task(f())",
            "start tasks in task groups only",
        ),
        ("engine/a.py", "self._loop.create_task(f())", "start tasks in task groups only"),
        ("engine/a.py", "from asyncio import create_task", "start tasks in task groups only"),
        ("engine/a.py", "asyncio.ensure_future(f())", "start tasks in task groups only"),
        ("engine/utils.py", "x = 1", "utils says nothing"),
        ("engine/path_helpers.py", "x = 1", "helpers says nothing"),
        ("misc/a.py", "x = 1", "misc says nothing"),
        (
            "store/a.py",
            "class A(errors.StacpullError): ...",
            "A is missing in the tree",
        ),
        ("store/a.py", "class B(StacpullError): ...\nclass C(B): ...", "C is missing in the tree"),
    ],
)
def test_the_checker_finds(tmp_path: Path, place: str, text: str, complaint: str) -> None:
    package = tmp_path / "made"
    write_tree(package, {**SOUND, place: f'"""A module."""\n{text}\n'})
    found = violations(package)
    assert found
    assert all(complaint in message or "missing in the tree" in message for message in found)
    assert any(complaint in message for message in found)


def test_the_checker_wants_a_module_docstring(tmp_path: Path) -> None:
    write_tree(tmp_path / "made", {**SOUND, "store/a.py": "x = 1\n"})
    assert violations(tmp_path / "made") == ["store/a.py: a module opens with what it is for"]


def test_the_checker_accepts_a_sound_tree(tmp_path: Path) -> None:
    write_tree(tmp_path / "made", SOUND)
    assert violations(tmp_path / "made") == []


def write_tree(root: Path, files: dict[str, str]) -> None:
    for place, text in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
