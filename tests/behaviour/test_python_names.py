"""An argument of another library is answered with the one to use."""

from __future__ import annotations

import re
from typing import Any

import pytest

import stacpull

pytestmark = pytest.mark.behaviour


@pytest.mark.parametrize(
    ("kind", "name", "use"),
    [
        (stacpull.Selection, "limit", "max_items"),
        (stacpull.Selection, "query", "where"),
        (stacpull.Selection, "colections", "collections"),
        (stacpull.Options, "jobs", "concurrency"),
        (stacpull.sync.mirror, "limit_rate", "Options(limit_rate=...)"),
        (stacpull.sync.plan, "limit", "Selection(max_items=...)"),
        (stacpull.sync.verify, "repare", "repair"),
    ],
)
def test_an_unknown_argument_is_answered_with_the_one_to_use(kind: Any, name: str, use: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"no argument {name!r}: use {use}.") + "$"):
        kind(**{name: 1})
