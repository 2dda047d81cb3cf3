from __future__ import annotations

import pytest

from stacpull.config.id_lists import ids_in

PATCH = "S2A_MSIL2A_20170613T101031_0_45"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ()),
        ("\n# nothing\n", ()),
        ("a\nb\n", ("a", "b")),
        ("a\r\n\r\n b \n", ("a", "b")),
        ("# a list\na\n  # b\nc", ("a", "c")),
        (f"{PATCH}\n{PATCH}_1\n", (PATCH, f"{PATCH}_1")),
        (f"{PATCH},S1A_1\nX,S1B_2\n", (PATCH, "X")),
        ('"a","b"\n', ("a",)),
        ("\ufeffa\nb", ("a", "b")),
        ("a\nb\na\n", ("a", "b")),
        (",x\n", ()),
        ("patch_id,split\na,train\nb,train\n", ("a", "b")),
        ("split,patch_id\ntrain,a\ntrain,b\n", ("a", "b")),
        ("split;Patch ID\ntrain;a\n", ("a",)),
        ("split\tid\ntrain\ta\ntrain\n", ("a",)),
        ("id\na\n", ("a",)),
        ('"id","text"\n"a","x, y"\n', ("a",)),
        ("name,id\nthe first,a\n", ("a",)),
        ("URN:FEATURE:DATA:1\n", ("URN:FEATURE:DATA:1",)),
    ],
)
def test_reading_a_list_of_ids(text, ids):
    assert ids_in(text) == ids
