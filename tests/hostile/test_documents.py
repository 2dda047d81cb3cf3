"""Statements of docs/reliability.md and docs/replicas.md about tests and faults, checked."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from stacpull_replicas import parse_faults
from stacpull_replicas.fault_plan import FAULTS, KINDS

pytestmark = pytest.mark.behaviour

ROOT = Path(__file__).resolve().parents[2]
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()
REPLICAS = (ROOT / "docs" / "replicas.md").read_text()
TABLE = RELIABILITY.partition("## Failures of servers")[2].partition("\n## ")[0]
FAULT_SECTION = REPLICAS.partition("\n## Faults")[2].partition("\n## ")[0]


def functions_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_each_failure_of_this_machine_in_the_docs_names_an_existing_test():
    machine = RELIABILITY.partition("## Failures of this machine")[2].partition("\n### ")[0]
    rows = [line for line in machine.splitlines() if line.startswith("| ") and "| tests |" not in line]
    known = set().union(*(functions_in(path) for path in (ROOT / "tests").rglob("test_*.py")))
    for row in rows:
        named = re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])
        assert named, row
        for text in named:
            place, _, test = text.partition(": ")
            if place.startswith(("tests/", "scripts/")):
                path = ROOT / place.split()[0]
                assert path.exists(), text
                assert not test or test in functions_in(path), text
            else:
                assert text in known, text
    assert len(rows) > 15


def test_documents_contain_no_merge_conflict_markers():
    for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]:
        text = path.read_text()
        assert "@@" not in text, path
        assert not re.search(r"^(<{7}|={7}|>{7})", text, re.MULTILINE), path


def test_every_row_names_tests_that_exist():
    named: set[str] = set()
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and "| tests |" not in line]
    for row in rows:
        proof = row.rpartition(" | ")[2]
        place = ""
        assert "`" in proof or "same" in proof, row
        for text in re.findall(r"`([^`]+)`", proof):
            file, colon, name = text.rpartition(": ")
            if text.startswith("tests/net/test_addresses"):
                assert (ROOT / text).exists()
                continue
            place = file if colon else place
            path = ROOT / place if place.startswith("tests/") else ROOT / "tests" / "hostile" / place
            if not place:  # after "same": the file of the row above
                path = ROOT / "tests" / "hostile" / "test_bodies.py"
            assert name in functions_in(path), f"{name} is not in {path}"
            named.add(name)
    assert len(rows) > 35
    for path in (ROOT / "tests" / "hostile").glob("test_*.py"):
        if path.stem != "test_documents":
            missing = {name for name in functions_in(path) if name.startswith("test_")} - named
            assert not missing - {
                "test_every_kind_of_redirect_is_followed",
                "test_an_invalid_redirect_is_a_failure",
            }


def test_every_fault_and_key_is_documented():
    rows = {
        found[1]: found[2]
        for found in re.finditer(r"^\| `([\w-]+)`(?:, `until`)? \|([^|]*)\|", FAULT_SECTION, re.MULTILINE)
    }
    for name, kind in FAULTS.items():
        assert set(re.findall(r"`(\w+)`", rows[name])) >= {field.name for field in fields(kind)}, name
    for key in ("server", "method", "path", "regex", "kind", "ranged", "nth", "every", "times", "per"):
        assert key in rows
    assert all(f"`{kind}`" in rows["kind"] for kind in KINDS)


def test_the_example_is_a_fault_file():
    (example,) = re.findall(r"```toml\n(.*?)```", FAULT_SECTION, re.DOTALL)
    assert len(parse_faults(example).rules) == 2
