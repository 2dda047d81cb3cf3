"""Selecting items by id: whole ids, or their endings.

Official split lists hold bare patch names (`S2A_MSIL2A_…_0_45`) where the service says
`bigearthnet_v1_labels_S2A_MSIL2A_…_0_45`. An ending must start behind a separator: `5_45` is no ending of
`…_15_45`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from stacpull.errors import UsageError
from stacpull.filters.verdict import Verdict
from stacpull.models import Json, Selection

__all__ = ["IdsCheck", "compile_ids"]

_SEPARATORS: Final = frozenset("_-/.:")
_NAMED = 3
"""Ids that a note names."""
_FILES: Final = (".csv", ".txt", ".json")


@dataclass(frozen=True, slots=True)
class IdsCheck:
    """Is the id of an item asked for? It remembers which ones were met.

    An item costs one look-up per distinct length of the ids asked for (a handful), however many they are.
    """

    asked: frozenset[str]
    lengths: tuple[int, ...]
    met: set[str] = field(default_factory=set)

    def __call__(self, item: Json, _properties: dict[str, Any]) -> Verdict | None:
        """Return IDS for an item whose id is not asked for, nor an ending of it."""
        name = item.get("id")
        if not isinstance(name, str):
            return Verdict.IDS
        size, found = len(name), name in self.asked
        if found:
            self.met.add(name)
        for length in self.lengths:
            start = size - length
            if start <= 0:
                break
            if name[start - 1] in _SEPARATORS and (ending := name[start:]) in self.asked:
                self.met.add(ending)
                found = True
        return None if found else Verdict.IDS

    def notes(self) -> list[str]:
        """Return what is told of ids that no item had, after a walk that saw all items."""
        missing = sorted(self.asked - self.met)
        if not missing:
            return []
        shown = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        file = next((one for one in missing if one.lower().endswith(_FILES)), None)
        hint = "" if file is None else f" A file of ids is given as --ids @{file}."
        asked = f"{len(missing):,} of the {len(self.asked):,} ids" if len(self.asked) > 1 else "the id"
        return [f"No item has {asked} asked for: {shown}.{hint}"]


def compile_ids(selection: Selection) -> IdsCheck | None:
    """Compile the ids of a selection; None if it has none.

    Raises:
        UsageError: One of the ids is empty.
    """
    if not selection.ids:
        return None
    asked = frozenset(text.strip() for text in selection.ids)
    if "" in asked:
        raise UsageError("An id given to --ids is empty: give whole ids or their endings.")
    return IdsCheck(asked, tuple(sorted({len(text) for text in asked})))
