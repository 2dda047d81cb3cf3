"""The options of `stacpull export` that are not options of a mirror."""

from __future__ import annotations

from pathlib import Path

from stacpull_export.export_command import _splits


def test_the_lists_of_a_split_are_joined(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(f"# ids\n{name},x\n")
    lists = [f"{split}=@{tmp_path}/{name}" for split, name in (("train", "a"), ("test", "b"), ("train", "c"))]
    assert _splits(lists) == {"train": ("a", "c"), "test": ("b",)}
