"""A copy of the package to which a test adds something: it runs the command of the copy."""

import json
import shutil
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.acceptance.command import COMMAND, Running, environment
from tests.acceptance.forked_command import MODULES, Forker
from tests.items import feature
from tests.ran import Ran

import stacpull

_ORIGINAL = Path(stacpull.__file__).parent
_CONFIGS = _ORIGINAL.parents[1] / "configs"


class ChangedCopy:
    """A copy of `stacpull` and its configs in a directory."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._package = top / "src" / "stacpull"
        unfinished = shutil.ignore_patterns("*.pyc.*")  # compiled modules that another process is writing
        shutil.copytree(_ORIGINAL, self._package, ignore=unfinished)
        shutil.copytree(_CONFIGS, top / "configs")
        own = {"HOME": str(top), "XDG_CONFIG_HOME": str(top), "COLUMNS": "100"}
        self._environment = environment(PYTHONPATH=str(self._package.parent), **own)

    def add(self, name: str, text: str) -> None:
        path = self._path(name)
        assert not path.exists()
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def install(self, name: str, module: str, entry_points: str) -> None:
        """Add another package, of one module."""
        self.add(f"../{name}.py", module)
        self.add(f"../{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        self.add(f"../{name}-1.0.dist-info/entry_points.txt", entry_points)

    def insert(self, name: str, text: str, *, before: str) -> None:
        """Insert text into a module, before the first line that contains `before`."""
        path = self._path(name)
        lines = path.read_text().splitlines(keepends=True)
        place = next(number for number, line in enumerate(lines) if before in line)
        path.write_text("".join([*lines[:place], text, *lines[place:]]))

    def publish(self, name: str, module: str) -> None:
        """Make an asynchronous function public, in `stacpull` and as a blocking call in `stacpull.sync`."""
        self.insert("__init__.pyi", f"from {module} import {name} as {name}\n", before="from stacpull.")
        self.insert("sync.py", f"    {name} = _blocking(stacpull.{name})\n", before="    plan = _blocking")

    def _path(self, name: str) -> Path:
        return (self._top if name.startswith("configs/") else self._package) / name

    def run(self, *arguments: str | Path, **environ: str) -> Ran:
        return self._ran([*map(str, arguments)], COMMAND, environ)

    def output(self, *arguments: str | Path, **environ: str) -> str:
        ran = self.run(*arguments, **environ)
        return ran.out + ran.err

    def evaluated(self, code: str) -> str:
        """Run Python code with the copy, and return its standard output."""
        ran = self._ran(["-c", code], sys.executable, {})
        assert ran.code == 0, ran.err
        return ran.out

    def _ran(self, arguments: list[str], program: str | Path, environ: Mapping[str, str]) -> Ran:
        env = {**self._environment, **environ}
        with Running(arguments, env, program=program, by=lambda: self._forker) as process:
            return process.ended()

    @cached_property
    def _forker(self) -> Forker:
        """Forks the commands. It has imported the copy: modules cannot be changed after the first command."""
        return Forker(self._environment, *MODULES)


def item_with(assets: Mapping[str, Any], name: str = "i") -> str:
    """Return an item with these assets as JSON, in one line."""
    item = feature(name, properties={"datetime": "2024-01-01T00:00:00Z"}, assets=assets)
    return json.dumps(item)
