"""The documents name tests that there are, and every form of SOURCE has one that proves it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
DOCS = TESTS.parent / "docs"
_NAMED = re.compile(r"`(?:tests/)?((?:[a-z_]+/)*test_[a-z0-9_]+\.py)(?:::(test_\w+)|: (test_\w+))?")


def named(text: str) -> list[tuple[str, str]]:
    """Return the tests that a text names: file, and function or nothing."""
    return [(file, one or other) for file, one, other in _NAMED.findall(text)]


def missing(text: str) -> list[str]:
    """Return those that there are not. A bare file name is looked for anywhere."""
    found = []
    for file, function in named(text):
        paths = [TESTS / file] if "/" in file else list(TESTS.rglob(file))
        texts = [path.read_text() for path in paths if path.is_file()]
        if not any(f"def {function}" in one for one in texts):
            found.append(f"{file} {function}".rstrip())
    return found


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_test_that_a_document_names_is_there(document: str) -> None:
    assert missing((DOCS / document).read_text()) == []


def test_every_row_of_the_forms_of_source_names_a_test() -> None:
    rows = re.findall(
        r"^\| SOURCE \|.*\n\|[-|]+\n((?:\|.*\n)+)", (DOCS / "sources.md").read_text(), re.MULTILINE
    )
    without = [row for table in rows for row in table.splitlines() if not named(row)]
    assert len(rows) == 2
    assert without == []


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("`test_docs.py`", []),
        ("`tests/sources/test_api.py`", []),
        ("`sources/test_nothing.py`", ["sources/test_nothing.py"]),
        ("`test_docs.py: test_nothing_like_it`", ["test_docs.py test_nothing_like_it"]),
    ],
)
def test_a_test_that_is_not_there_is_told(text: str, lacks: list[str]) -> None:
    assert missing(text) == lacks
