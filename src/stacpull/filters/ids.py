"""Selecting items by id: whole ids, or their endings.

Official split lists hold bare patch names (`S2A_MSIL2A_…_0_45`) where the service says
`bigearthnet_v1_labels_S2A_MSIL2A_…_0_45`. An ending must start behind a separator: `5_45` is no ending of
`…_15_45`.
"""

from __future__ import annotations

from typing import Any, Final

from stacpull.errors import UsageError
from stacpull.filters.verdict import Check, Verdict
from stacpull.models import Json, Selection

__all__ = ["compile_ids"]

_SEPARATORS: Final = frozenset("_-/.:")


def compile_ids(selection: Selection) -> Check | None:
    """Compile the ids of a selection; None if it has none.

    An item costs one look-up per distinct length of the ids asked for (a handful), however many they are.

    Raises:
        UsageError: One of the ids is empty.
    """
    if not selection.ids:
        return None
    asked = frozenset(text.strip() for text in selection.ids)
    if "" in asked:
        raise UsageError("An id given to --ids is empty: give whole ids or their endings.")
    lengths = tuple(sorted({len(text) for text in asked}))

    def check(item: Json, _properties: dict[str, Any]) -> Verdict | None:
        name = item.get("id")
        if not isinstance(name, str):
            return Verdict.IDS
        size = len(name)
        for length in lengths:
            start = size - length
            if start <= 0:
                break
            if name[start - 1] in _SEPARATORS and name[start:] in asked:
                return None
        return None if name in asked else Verdict.IDS

    return check
