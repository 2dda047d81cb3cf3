"""Selects the assets of an item, also of source items, by key, role and media type.

An asset must match any `--asset`, no `--exclude-asset`, any of the roles and any of the media types.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from stacpull.json_values import list_or_empty, media_type_of, object_or_empty
from stacpull.models import Json
from stacpull.selection import Selection

_WILD: Final = re.compile(r"[*?\[]")


class AssetFilter:
    def __init__(self, selection: Selection) -> None:
        self._globs = tuple(glob for glob in selection.assets if glob)
        self._keep = _any_glob(self._globs)
        self._drop = _any_glob(selection.exclude_assets)
        conditions = ((name, compiled(selection)) for name, compiled in CONDITIONS.items())
        self._conditions = tuple((name, holds) for name, holds in conditions if holds is not None)
        self.members = tuple(name for name, _ in self._conditions)

    def keeps(self, key: str, asset: Json) -> bool:
        """Return True if the asset is selected. If it is not an object, it counts as one without members."""
        return self.keeps_object(key, key) and (not self._conditions or self._is_of_kind(asset))

    def may_hold(self, key: str, asset: Json) -> bool:
        """Return True if objects below the prefix `key` may be selected, whatever their names are."""
        below = any(_may_begin(glob, f"{key}/") for glob in self._globs)
        is_dropped = self._drop and self._drop.fullmatch(key)
        return self.keeps(key, asset) or bool(below and not is_dropped and self._is_of_kind(asset))

    def keeps_object(self, key: str, name: str) -> bool:
        """Return True if an object is selected, after `may_hold`. A glob of the prefix selects all."""
        if self._drop and self._drop.fullmatch(name):
            return False
        return not self._keep or bool(self._keep.fullmatch(key) or self._keep.fullmatch(name))

    def _is_of_kind(self, asset: Any) -> bool:
        members = object_or_empty(asset)
        return all(holds(members.get(name)) for name, holds in self._conditions)


Condition = Callable[[Any], bool]
"""Returns True if the value of a member is selected; the value is None if it is absent. Never raises."""


def _media_types(selection: Selection) -> Condition | None:
    """Compile `--media-type`. Parameters are ignored: `image/tiff; profile=cog` is an `image/tiff`."""
    wanted = _any_glob(map(media_type_of, selection.media_types))
    return None if wanted is None else lambda media_type: bool(wanted.fullmatch(media_type_of(media_type)))


def _roles(selection: Selection) -> Condition | None:
    wanted = frozenset(selection.roles)
    if not wanted:
        return None
    return lambda roles: any(isinstance(role, str) and role in wanted for role in list_or_empty(roles))


CONDITIONS: Final[dict[str, Callable[[Selection], Condition | None]]] = {
    "type": _media_types,
    "roles": _roles,
}
"""By member of an asset, the function that compiles the condition on it, or returns None if there is none."""


def _may_begin(glob: str, beginning: str) -> bool:
    head = _WILD.split(glob, maxsplit=1)[0]
    return head.startswith(beginning) or (head != glob and beginning.startswith(head))


def _any_glob(globs: Iterable[str]) -> re.Pattern[str] | None:
    patterns = [fnmatch.translate(glob) for glob in globs if glob]
    return re.compile("|".join(patterns)) if patterns else None
