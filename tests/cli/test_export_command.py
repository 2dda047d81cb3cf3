"""The options of `stacpull export` that are not options of a mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacpull.cli.export_command import _split


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
    assert _split(f"train=@{tmp_path}/train.txt") == ("train", ("a", "b"))
