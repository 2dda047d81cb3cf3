"""Selects the assets of an item, also of linked items, by key, role and media type."""

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
        self._media_types = _any_glob(map(media_type_of, selection.media_types))
        self._roles = frozenset(selection.roles)
        self.reads_members = self._media_types is not None or bool(self._roles)

    def keeps(self, key: str, asset: Json) -> bool:
        """Return True if the asset is selected. If it is not an object, it counts as one without members."""
        return self.keeps_object(key, key) and (not self.reads_members or self._is_of_kind(asset))

    def may_hold(self, key: str, asset: Json) -> bool:
        """Return True if objects below the prefix `key` may be selected, whatever their names are."""
        if self.keeps(key, asset):
            return True
        start = f"{key}/"
        for glob in self._globs:
            head = _WILD.split(glob, maxsplit=1)[0]
            if head.startswith(start) or (head != glob and start.startswith(head)):
                return self._is_of_kind(asset) and not (self._drop and self._drop(key))
        return False

    def keeps_object(self, key: str, name: str) -> bool:
        """Return True if an object is selected, after `may_hold`. A glob of the prefix selects all."""
        if self._drop is not None and self._drop(name):
            return False
        return self._keep is None or bool(self._keep(key) or self._keep(name))

    def _is_of_kind(self, asset: Any) -> bool:
        members = object_or_empty(asset)
        media_type = media_type_of(members.get("type"))  # `image/tiff; profile=cog` is an `image/tiff`
        if self._media_types is not None and not self._media_types(media_type):
            return False
        roles = list_or_empty(members.get("roles"))
        texts = [role for role in roles if isinstance(role, str)]
        return not self._roles or not self._roles.isdisjoint(texts)


def _any_glob(globs: Iterable[str]) -> Callable[[str], object] | None:
    patterns = [fnmatch.translate(glob) for glob in globs if glob]
    return re.compile("|".join(patterns)).fullmatch if patterns else None
