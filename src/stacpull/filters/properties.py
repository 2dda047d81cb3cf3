"""Looking up what a filter names in an item: `eo:cloud_cover`, `proj.code`, `collection`.

A name means, in this order: `id`, `collection`, `geometry` or `bbox` of the item itself; a property of just
that name; a member of a property, with dots between the names (`view.sun.azimuth`, `bands.0.name`). A leading
`properties.` may be left out. Absent and null are the same: None.
"""

from __future__ import annotations

from typing import Any, Final

from stacpull.models import Json

__all__ = ["Reference"]

_OF_THE_ITEM: Final = frozenset({"id", "collection", "geometry", "bbox"})
_PREFIX: Final = "properties."


class Reference:
    """One name that a filter uses.

    Attributes:
        name: The name as the user wrote it.
        found: True once any item had a value there: a name that none has is misspelt, most likely.
    """

    __slots__ = ("_name", "_path", "found", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.found = False
        self._name = name.removeprefix(_PREFIX)
        self._path = tuple(self._name.split(".")) if "." in self._name else ()

    def __repr__(self) -> str:
        return f"Reference({self.name!r})"

    def value(self, item: Json, properties: dict[str, Any]) -> Any:
        """Return what the item has under the name; None if nothing."""
        value = item.get(self._name) if self._name in _OF_THE_ITEM else properties.get(self._name)
        if value is None and self._path:
            value = _descend(properties, self._path)
        if value is not None:
            self.found = True
        return value


def _descend(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
