"""Extract the commands and Python blocks of a page, and run them in order in one shell.

A ```console block has commands (`$ …`, continued with a backslash) and optionally their output. A ```python
block is a program that may use `await`. Both run as written, except that `run_page` replaces the hosts and
ports of the page by those of the test servers.

Output is compared line by line. Numbers that differ between runs (times, rates, dates, ports) are treated as
equal, and a line `...` matches any number of lines.
"""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.ran import Ran

__all__ = ["Block", "Step", "blocks_of", "differs", "run_page"]

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(
    r"([A-Z_]+=\S+ )*(pip install|git clone|bash scripts/(test|demo|make-venv)|\.venv/bin/mkdocs)\b"
)
"""Commands that install or download something, or run this test suite."""
_VARIES = (
    (re.compile(r"\d[\d,.]*( ?(s|ms|min|h|B|kB|MB|GB)(/s)?\b)"), r"N\1"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?"), "TIME"),
    (re.compile(r"pid \d+"), "pid N"),
)


@dataclass(frozen=True)
class Step:
    """One command or program of a page."""

    kind: Literal["shell", "python"]
    text: str
    shown: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and its first line in the file."""

    language: str
    text: str
    line: int


def blocks_of(text: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        indent = match[1]
        body = "".join(line.removeprefix(indent) for line in match[3].splitlines(keepends=True))
        yield Block(match[2], body, text.count("\n", 0, match.start()) + 2)


def steps_of(text: str) -> list[Step]:
    steps = []
    for block in blocks_of(text):
        if block.language == "python":
            steps.append(Step("python", block.text, (), block.line))
        elif block.language == "console":
            steps.extend(_commands(block))
    return steps


def _commands(block: Block) -> Iterator[Step]:
    command: list[str] = []
    shown: list[str] = []
    start = block.line
    for number, line in enumerate(block.text.splitlines()):
        if command and command[-1].endswith("\\"):
            command.append(line)
        elif line.startswith("$ "):
            if command:
                yield Step("shell", "\n".join(command), tuple(shown), start)
            command, shown, start = [line[2:]], [], block.line + number
        else:
            assert command, f"line {block.line + number}: output without a command"
            shown.append(line)
    if command:
        yield Step("shell", "\n".join(command), tuple(shown), start)


def is_run(step: Step) -> bool:
    return not (step.kind == "shell" and _NOT_RUN.match(step.text))


def run_page(
    text: str,
    folder: Path,
    replace: Mapping[str, str],
    environment: Mapping[str, str],
    programs: Sequence[Path] = (),
) -> list[tuple[Step, Ran]]:
    """Run the steps of a page in one shell in `folder`, and return their results.

    Args:
        folder: An empty directory.
        replace: Texts and their replacements, such as hosts.
        programs: Directories that precede those of this interpreter on PATH.
    """
    steps = [step for step in steps_of(text) if is_run(step)]
    path = os.pathsep.join(map(str, [*programs, Path(sys.executable).parent]))
    script = ["set -m", f"PATH={shlex.quote(path)}:$PATH"]
    for number, step in enumerate(steps):
        body = step.text
        for old, new in replace.items():
            body = body.replace(old, new)
        if step.kind == "python":
            program = folder / f".program{number}.py"
            program.write_text(_as_program(body))
            body = f"python {shlex.quote(str(program))}"
        script += [
            f"exec 1>{shlex.quote(str(folder))}/.out{number} 2>{shlex.quote(str(folder))}/.err{number}",
            body,
            f"echo $? > {shlex.quote(str(folder))}/.code{number}",
        ]
    file = folder / ".page.sh"
    file.write_text("\n".join([*script, "kill %% $REPLICA_PID 2>/dev/null", ""]))
    subprocess.run(["bash", str(file)], cwd=folder, env={**os.environ, **environment}, check=False)
    ran = []
    for number, step in enumerate(steps):
        parts = [folder / f".{name}{number}" for name in ("code", "out", "err")]
        code, out, err = (part.read_text() if part.exists() else "" for part in parts)
        ran.append((step, Ran(int(code or -1), out, err)))
    return ran


def _as_program(text: str) -> str:
    """Return a block as a script: a block with `await` at its top level runs in an event loop."""
    compile(text, "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    return (
        "import ast, asyncio, inspect\n"
        f"code = compile({text!r}, 'block', 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)\n"
        "space = {'__name__': '__main__'}\n"
        "running = eval(code, space)\n"
        "if inspect.iscoroutine(running):\n"
        "    asyncio.run(running)\n"
    )


def differs(shown: tuple[str, ...], printed: str) -> str | None:
    """Return the first line of the page that differs from the output, None if there is none."""
    lines = [_same(line) for line in printed.splitlines()]
    at = 0
    anywhere = False
    for line in shown:
        if line.strip() in {"...", "…"}:
            anywhere = True
            continue
        wanted = _same(line)
        if anywhere:
            while at < len(lines) and lines[at] != wanted:
                at += 1
        if at >= len(lines) or lines[at] != wanted:
            return line
        at, anywhere = at + 1, False
    return (
        None if anywhere or at == len(lines) or not shown else f"(then {printed.splitlines()[at]!r} follows)"
    )


def _same(line: str) -> str:
    for pattern, text in _VARIES:
        line = pattern.sub(text, line)
    return " ".join(line.split())
