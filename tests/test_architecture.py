"""The table of packages of docs/ARCHITECTURE.md, checked by reading every import."""

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.conftest import imports_only_public_names

import stacpull
from stacpull import sync

PACKAGE = Path(stacpull.__file__).parent
SOURCE = PACKAGE.parent

BASE = frozenset(
    {
        "arguments", "aws", "boxes", "byte_ranges", "caches", "child_process", "clock", "digests",
        "entry_points", "errors", "events", "hosts", "json_values", "models", "option_fields", "proxies",
        "public_functions", "redact", "reports", "runtime", "schemes", "selection", "suggestions", "system",
        "threads", "urls",
    }
)  # fmt: skip
PURE = frozenset({"filters", "planning"})
MAY_IMPORT: dict[str, frozenset[str]] = {
    **dict.fromkeys(BASE, BASE),
    **dict.fromkeys(PURE, BASE),
    "net": BASE,
    "config": BASE,
    "sources": BASE | {"net", "filters", "planning"},
    "transfer": BASE | {"config", "net", "planning", "http1", "store"},
    "http1": BASE | {"net"},
    "store": BASE,
    "ledger": BASE | {"planning"},
    "catalog": BASE | {"store", "planning"},
    "dest_address": BASE | {"config", "ledger", "store"},
    "engine": BASE
    | PURE
    | {"dest_address", "config", "net", "sources", "transfer", "http1", "store", "ledger", "catalog"},
}
"""Which packages a package may import, itself apart."""
DEFERRED: dict[str, frozenset[str]] = {
    "schemes": frozenset({"config", "net", "planning", "store", "transfer"})
}
"""What a package may import besides, but only inside of functions and for annotations: when it is used."""
EVERYTHING = frozenset({"cli", "__init__", "__main__", "sync"})
"""What may import every package: the command, and the package's own front (`stacpull`, `stacpull.sync`)."""

LIBRARIES: dict[str, frozenset[str]] = {
    "aiohttp": frozenset({"net"}),
    "httptools": frozenset({"http1"}),
    **dict.fromkeys(("aioboto3", "aiobotocore"), frozenset({"aws"})),
    **dict.fromkeys(("boto3", "botocore", "dataclasses"), frozenset()),
    "sqlite3": frozenset({"ledger"}),
    "pystac": frozenset({"catalog"}),
    "tqdm": frozenset({"cli"}),
    "click": frozenset({"cli"}),
}
"""Where a library may be imported; those not named here, everywhere."""
NEIGHBOURS: dict[str, frozenset[str]] = {
    "stacpull_cloud": frozenset(),
    "stacpull_dask": frozenset(),
    "stacpull_export": frozenset(),
    "stacpull_logins": frozenset(),
    "stacpull_raster": frozenset({"stacpull_export"}),
    "stacpull_replicas": frozenset(),
    "stacpull_trace": frozenset({"stacpull_export", "stacpull_logins", "stacpull_raster"}),
}
"""The packages beside `stacpull`, and those of them that each imports.

`stacpull` imports none of them: it finds their commands by entry points, and names their functions as text.
(`stacpull/__init__.pyi` names them for type checkers.)
"""

IMPURE = frozenset(
    {"aiofiles", "asyncio", "http", "shutil", "socket", "ssl", "subprocess", "tempfile", "threading"}
)
"""What does I/O: never in a pure package."""
ENVIRONMENT_PACKAGES = frozenset({"aws", "config", "cli", "proxies", "child_process", "system"})

VAGUE_NAMES = frozenset({"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})


class Module(NamedTuple):
    """One source file: its path under the package and its syntax tree."""

    place: Path
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The folder directly under the package, or the stem of a file directly in the package."""
        return self.place.parts[0] if len(self.place.parts) > 1 else self.place.stem


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes_of(tree: ast.Module) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree))


@pytest.fixture(autouse=True, scope="module")
def trees() -> Iterator[None]:
    """Forget the trees when the last test has used them: they take 100 MB."""
    yield
    tree_of.cache_clear()
    nodes_of.cache_clear()


def read_package(root: Path) -> list[Module]:
    paths = sorted(root.rglob("*.py"))
    return [Module(p.relative_to(root), p.read_text(), tree_of(p)) for p in paths]


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a module is imported: no functions, and nothing under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"
        if not is_typing and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from at_once(child)


def imported(module: Module, root_name: str, nodes: Iterable[ast.AST] | None = None) -> Iterator[str]:
    """Yield the dotted name of everything a module imports, relative imports made absolute."""
    here = (root_name, *module.place.parent.parts)
    for node in nodes_of(module.tree) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def import_violations(module: Module, root_name: str, packages: frozenset[str]) -> Iterator[str]:
    now = set(imported(module, root_name, at_once(module.tree)))
    for name in imported(module, root_name):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == root_name:
            if name in now or target not in DEFERRED.get(module.package, ()):
                yield from package_violations(module.package, target, packages)
        elif top in NEIGHBOURS:
            yield f"{module.package} must not import {top}: it is a package beside this one"
        elif module.package not in LIBRARIES.get(top, {module.package}):
            yield f"{module.package} must not import {top}"
        elif module.package in PURE and top in IMPURE:
            yield f"{module.package} is pure and must not import {top}"


def package_violations(package: str, target: str, packages: frozenset[str]) -> Iterator[str]:
    """Yield what is wrong with `package` importing `target`: public names of `stacpull` are allowed."""
    if package in EVERYTHING or target == package or target not in packages:
        return
    if package not in MAY_IMPORT:
        yield f"{package} is not a package of the table"
    elif target not in MAY_IMPORT[package]:
        yield f"{package} must not import {target}"


def environment_violations(module: Module) -> Iterator[str]:
    names = {"environ", "environb", "getenv", "putenv", "unsetenv"}
    found = any(
        (isinstance(n, ast.Attribute) and n.attr in names and getattr(n.value, "id", "") == "os")
        or (isinstance(n, ast.ImportFrom) and n.module == "os" and names & {a.name for a in n.names})
        for n in nodes_of(module.tree)
    )
    if found and module.package not in ENVIRONMENT_PACKAGES:
        yield f"{module.package} must not read the environment"


def task_violations(module: Module) -> Iterator[str]:
    """A task outside a task group has no owner: no one sees its exception or ends it."""
    for node in nodes_of(module.tree):
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


def sql_violations(module: Module) -> Iterator[str]:
    for node in nodes_of(module.tree) if module.package != "ledger" else ():
        runs = isinstance(node, ast.Attribute) and node.attr in {"execute", "executemany", "executescript"}
        if runs and ast.unparse(node.value) in {"db", "self.db", "self._db"}:
            yield "only `ledger` runs SQL"


def shape_violations(module: Module) -> Iterator[str]:
    vague = VAGUE_NAMES & {*module.place.parent.parts, *module.place.stem.split("_")}
    if vague:
        yield f"{min(vague)} says nothing: name the package after what it does"
    if module.text.strip() and ast.get_docstring(module.tree) is None:
        yield "a module opens with what it is for"


def undocumented_errors(modules: list[Module]) -> Iterator[str]:
    """Every class that derives from `StacpullError`, however far, is drawn in the tree of `errors`."""
    drawn = next((ast.get_docstring(m.tree) or "" for m in modules if m.place == Path("errors.py")), "")
    classes = {n.name: n for m in modules for n in nodes_of(m.tree) if isinstance(n, ast.ClassDef)}
    known = {"StacpullError"}
    bases = {c: {ast.unparse(base).rpartition(".")[2] for base in n.bases} for c, n in classes.items()}
    while grown := {c for c in classes if c not in known and known & bases[c]}:
        known |= grown
    yield from (
        f"errors.py: {name} is missing in the tree" for name in sorted(known) if name not in drawn.split()
    )


def violations(root: Path) -> list[str]:
    modules = read_package(root)
    packages = frozenset(m.package for m in modules) - {"__init__"}
    found = [*undocumented_errors(modules)]
    for module in modules:
        messages = [
            *import_violations(module, root.name, packages),
            *environment_violations(module),
            *task_violations(module),
            *sql_violations(module),
            *shape_violations(module),
        ]
        found += [f"{module.place}: {message}" for message in messages]
    return found


def test_imports_follow_the_table_of_packages() -> None:
    assert violations(PACKAGE) == []


def test_no_modules_import_each_other() -> None:
    """Count imports in functions and for types too, but not those of `schemes.py`: see `DEFERRED`."""
    modules = {".".join(("stacpull", *one.place.with_suffix("").parts)): one for one in read_package(PACKAGE)}
    imports = {
        name: {
            place
            for target in imported(one, "stacpull", at_once(one.tree) if one.package in DEFERRED else None)
            for place in (target, target.rpartition(".")[0])
            if place in modules
        }
        for name, one in modules.items()
    }
    TopologicalSorter(imports).prepare()  # raises CycleError


def test_every_allowed_import_is_used() -> None:
    used: dict[str, set[str]] = {}
    for module in read_package(PACKAGE):
        names = {name.split(".")[1] for name in imported(module, "stacpull") if name.startswith("stacpull.")}
        used.setdefault(module.package, set()).update(names)
    allowed = {package: packages - BASE for package, packages in MAY_IMPORT.items() if package not in BASE}
    assert allowed == {package: packages & used[package] for package, packages in allowed.items()}


def test_every_package_is_in_the_table_below_those_that_it_imports() -> None:
    assert {module.package for module in read_package(PACKAGE)} <= {*MAY_IMPORT, *EVERYTHING}
    page = (PACKAGE.parents[1] / "docs" / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"`(\w+)/`", "".join(re.findall(r"^\| (`[^|]*)\|", page, re.MULTILINE)))
    assert rows[-1] == "cli"
    for number, package in enumerate(rows[:-1]):
        assert MAY_IMPORT[package] - BASE <= {*rows[:number], "dest_address"}


def test_each_public_function_has_a_blocking_one() -> None:
    public = [getattr(stacpull, name) for name in stacpull.__all__]
    with_await = {one.__name__ for one in public if inspect.iscoroutinefunction(one)}
    assert set(sync.__all__) == with_await | {"failures", "status"}  # these two never wait
    assert not [name for name in sync.__all__ if inspect.iscoroutinefunction(getattr(sync, name))]


MAX_FILES, MAX_LINES = 110, 20_000


def test_a_mirror_imports_little() -> None:
    """What `stacpull mirror` imports, directly and indirectly, in functions and for type checkers.

    It asks the store process by names: it needs neither its batch writer, nor its publisher.
    """
    modules = {dotted("stacpull", module): module for module in read_package(PACKAGE)}
    found, todo = set[str](), {"stacpull.cli.mirror_command"}
    while todo:
        found |= todo
        names = {name for one in todo for name in imported(modules[one], "stacpull")}
        prefixes = {name.rsplit(".", cut)[0] for name in names | found for cut in range(name.count(".") + 1)}
        todo = (names | prefixes) & modules.keys() - found
    lines = sum(modules[name].text.count("\n") for name in found)
    assert len(found) <= MAX_FILES
    assert lines <= MAX_LINES


def test_no_function_has_more_than_60_lines() -> None:
    long = [
        f"{module.place}: {node.name}"
        for package in (PACKAGE.name, *NEIGHBOURS)
        for module in read_package(SOURCE / package)
        for node in ast.walk(ast.parse(module.text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert long == []


def dotted(package: str, module: Module) -> str:
    parts = module.place.with_suffix("").parts
    return ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def test_neighbours_import_public_names_and_only_the_neighbours_in_the_table() -> None:
    """Only commands import `cli`. The replicas are other machines: only their commands import the core."""
    used: dict[str, set[str]] = {package: set() for package in NEIGHBOURS}
    wrong = []
    for package in NEIGHBOURS:
        for module in read_package(SOURCE / package):
            is_command = module.place.stem.endswith("_command")
            for name in imported(module, package):
                top, *rest = name.split(".")
                is_core = top == PACKAGE.name
                if not is_core and top in NEIGHBOURS:
                    used[package] |= {top} - {package}
                is_private = any(part.startswith("_") and part != "__version__" for part in rest)
                is_for_commands = rest[:1] == ["cli"] or package == "stacpull_replicas"
                if (is_core and (is_private or (is_for_commands and not is_command))) or top == "dataclasses":
                    wrong.append(f"{package}/{module.place}: {name}")
    assert wrong == []
    assert used == NEIGHBOURS


TYPE_NAME = re.compile(r"_*[A-Z]\w*[a-z]\w*")
"""The name of a type, and not of a constant."""


def names_used_twice(source: Path) -> tuple[set[str], ...]:
    types, modules = Counter[str](), Counter[str]()
    for path in source.rglob("*.py"):
        types.update(name.lstrip("_") for name in types_of(tree_of(path)))
        modules[path.parent.name if path.stem == "__init__" else path.stem] += 1
    return tuple({name for name, times in counts.items() if times > 1} for counts in (types, modules))


def types_of(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the classes, private ones too, and of the aliases of types."""
    for node in nodes_of(tree):
        match node:
            case ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) if TYPE_NAME.fullmatch(name):
                yield name


def test_type_and_module_names_are_unique() -> None:
    types, modules = names_used_twice(SOURCE)
    assert types == set()
    assert modules == set()


REFERENCE = re.compile(r"`((?:\w+/)*\w+\.py)(?:: (\w+))?`")
"""A file that the map names, and a symbol that it defines."""


@cache
def defined_in(path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes_of(tree_of(path)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
    return names


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "internals.md"])
def test_files_and_symbols_named_in_the_docs_exist(page: str) -> None:
    top = PACKAGE.parents[1]
    text = (top / "docs" / page).read_text()
    found = REFERENCE.findall(text)
    assert len(found) > 50
    code = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    wrong = [name for name in re.findall(r"`(?:\w+\.)?(\w+_\w+|[A-Z]\w+)`", text) if name not in code]
    for file, name in found:
        path = next((p for p in (PACKAGE / file, top / "src" / file, top / file) if p.is_file()), None)
        if path is None or (name and name not in defined_in(path)):
            wrong.append(f"{file}: {name}")
    assert wrong == []


def test_the_path_of_an_asset_has_as_many_stations_and_names_as_it_says() -> None:
    page = (PACKAGE.parents[1] / "docs" / "ARCHITECTURE.md").read_text()
    numbers = r"passes (\d+) stations\. The table names (\d+) classes and functions in (\d+) files"
    stations, names, files = map(int, re.findall(numbers, page)[0])
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, stations + 1))
    named = {name for _, text in rows for name in re.findall(r"`(?:([\w/]+\.py): )?([\w.]+)`", text)}
    again = {("", name) for file, name in named if file}  # stations that other rows refer to
    assert len(named - again) == names
    assert len({file for file, _ in named if file}) == files
    assert max(len(text.partition(" | ")[2].split()) for _, text in rows) <= 25


def test_the_behaviour_suite_uses_only_the_public_front() -> None:
    """The tests in `tests/behaviour` must survive any change of the inside."""
    modules = sorted((Path(__file__).parent / "behaviour").glob("*.py"))
    assert [path.name for path in modules if not imports_only_public_names(path)] == []


def test_no_test_module_imports_from_another() -> None:
    """What several of them need is in the modules that `tests/README.md` names."""
    modules = sorted(Path(__file__).parent.rglob("*.py"))
    imports = re.compile(r"^ *(from|import) tests\.(\w+\.)*test_\w+", re.MULTILINE)
    assert [str(path) for path in modules if imports.search(path.read_text())] == []
