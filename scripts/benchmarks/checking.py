"""Compare a downloaded tree with the files of the origin, byte by byte; extra files are errors, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from scripts.benchmarks.mixes import BUCKET, File

_BLOCK = 4 << 20
_NAMED = 3


class WrongTreeError(Exception):
    """A tree differs from the manifest; the message names the first wrong files and counts the others."""


def check(
    root: Path, files: list[File], dest: Path, place: Callable[[File], str], own: Iterable[str]
) -> None:
    """Compare the tree `dest` with the manifest. Raises WrongTreeError.

    `place` returns where a tool puts a file. `own` are patterns (fnmatch) of other files that it writes.
    """
    expected = {place(file): root / BUCKET / file.path for file in files}
    wrong = [f"{name} is {what}" for name, path in expected.items() if (what := _differs(path, dest / name))]
    patterns = tuple(own)
    wrong += [f"{name} is not of the manifest" for name in _strangers(dest, expected, patterns)]
    if wrong:
        raise WrongTreeError(wrong_tree(wrong))


def wrong_tree(wrong: Sequence[str]) -> str:
    """Return a sentence that names the first wrong files and counts the others."""
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return f"the tree is wrong: {', '.join(wrong[:_NAMED])}{more}"


def _differs(true: Path, found: Path) -> str | None:
    """Return how a file differs from the true one, None if it does not."""
    if not found.is_file():
        return "missing"
    if found.stat().st_size != true.stat().st_size:
        return f"of {found.stat().st_size} bytes, not {true.stat().st_size}"
    with true.open("rb") as left, found.open("rb") as right:
        while block := left.read(_BLOCK):
            if block != right.read(_BLOCK):
                return "altered"
    return None


def _strangers(dest: Path, expected: Iterable[str], own: tuple[str, ...]) -> Iterator[str]:
    known = set(expected)
    for path in sorted(dest.rglob("*")):
        name = path.relative_to(dest).as_posix()
        if path.is_file() and name not in known and not any(fnmatch(name, pattern) for pattern in own):
            yield name
