"""The options of `stacpull export` that are not options of a mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacpull_export.export_command import _splits


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\n",
        "\ufeffa\nb\n",
        "# ids\na\n\nb\na\n",
        "a,x\nb,y\n",
        "patch;split\na;train\nb;train\n",
        '"a"\n"b"\n',
    ],
)
def test_the_list_of_a_split_has_the_forms_of_a_list_of_ids(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.txt").write_text(text, encoding="utf-8")
    assert _splits([f"train=@{tmp_path}/train.txt"]) == {"train": ("a", "b")}


def test_the_lists_of_a_split_are_joined(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    lists = [f"{split}=@{tmp_path}/{name}" for split, name in (("train", "a"), ("test", "b"), ("train", "c"))]
    assert _splits(lists) == {"train": ("a", "c"), "test": ("b",)}
