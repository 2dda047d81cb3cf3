"""Statements of docs/replicas.md about faults, checked."""

import re
from pathlib import Path

from stacpull_replicas import parse_faults
from stacpull_replicas.faults import FAULTS, KINDS

ROOT = Path(__file__).resolve().parents[2]
REPLICAS = (ROOT / "docs" / "replicas.md").read_text()
FAULT_SECTION = REPLICAS.partition("\n## Faults")[2].partition("\n## ")[0]


def test_every_fault_and_key_is_documented() -> None:
    rows = {
        found[1]: found[2]
        for found in re.finditer(r"^\| `([\w-]+)`(?:, `until`)? \|([^|]*)\|", FAULT_SECTION, re.MULTILINE)
    }
    assert all(f"`{name}`" in FAULT_SECTION for name in FAULTS)
    for name in FAULTS.keys() & rows.keys():
        assert set(re.findall(r"`(\w+)`", rows[name])) >= set(FAULTS[name].__struct_fields__), name
    for key in ("server", "path", "kind", "ranged", "nth", "every", "times", "per"):
        assert key in rows
    assert all(f"`{kind}`" in rows["kind"] for kind in KINDS)


def test_the_example_is_a_fault_file() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", FAULT_SECTION, re.DOTALL)
    assert len(parse_faults(example).rules) == 1
