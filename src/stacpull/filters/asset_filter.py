"""Selects the assets of an item by key, role and media type.

An asset is kept if its key matches any `--asset` and no `--exclude-asset`, and it has any of the roles and
any of the media types. The same applies to the assets of source items.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Any, Final

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.json_values import list_or_empty
from stacpull.models import Json
from stacpull.selection import Selection

_MEMO_SIZE: Final = 4096
_WILD: Final = re.compile(r"[*?\[]")


class AssetFilter:
    """A compiled selection of assets. Decisions are cached, because items repeat keys, types and roles."""

    __slots__ = ("_drop", "_everything", "_globs", "_keep", "_media_types", "_memo", "_roles")

    def __init__(
        self, *, keep: Iterable[str], drop: Iterable[str], roles: Iterable[str], media_types: Iterable[str]
    ) -> None:
        """Compile the conditions of a `stacpull.selection.Selection`."""
        self._globs = tuple(glob for glob in keep if glob)
        self._keep = _any_glob(self._globs)
        self._drop = _any_glob(drop)
        self._roles = frozenset(roles)
        self._media_types = _any_glob(_essence(media_type) for media_type in media_types)
        self._everything = not (self._keep or self._drop or self._roles or self._media_types)
        self._memo = Recent[tuple[str, Any, Any], bool](_MEMO_SIZE)

    def keeps(self, key: str, asset: Json) -> bool:
        """Return whether the asset is selected. Only the key of an asset that is not an object counts."""
        if self._everything:
            return True
        media_type, roles = _describing(asset)
        known = self._memo.get((key, media_type, roles))
        if known is None:
            known = self._decide(key, media_type, roles)
            if _is_short(key, media_type, roles):
                self._memo[key, media_type, roles] = known
        return known

    def may_hold(self, key: str, asset: Json) -> bool:
        """Return whether objects below a prefix may be selected, before their names are known."""
        if self._drop and self._drop.fullmatch(key):
            return False
        under = f"{key}/"
        named = any(_may_begin(glob, under) for glob in self._globs)
        if self._keep and not (named or self._keep.fullmatch(key)):
            return False
        return self._is_of_kind(*_describing(asset))

    def keeps_object(self, key: str, name: str) -> bool:
        """Return whether the object `name` (`key/…`) below the prefix `key` is selected.

        Call this after `may_hold`. A glob that matches the prefix selects or excludes all objects below it.
        """
        if self._drop and self._drop.fullmatch(name):
            return False
        return not self._keep or bool(self._keep.fullmatch(key) or self._keep.fullmatch(name))

    def _decide(self, key: str, media_type: str | None, roles: tuple[Any, ...]) -> bool:
        if self._keep and not self._keep.fullmatch(key):
            return False
        if self._drop and self._drop.fullmatch(key):
            return False
        return self._is_of_kind(media_type, roles)

    def _is_of_kind(self, media_type: str | None, roles: tuple[Any, ...]) -> bool:
        if self._roles and self._roles.isdisjoint(roles):
            return False
        return not self._media_types or bool(self._media_types.fullmatch(_essence(media_type or "")))


def compile_assets(selection: Selection) -> AssetFilter:
    """Compile the asset filters of a selection: globs on the key (case-sensitive), roles, media types.

    Parameters of a media type are ignored: `image/tiff; application=geotiff` is an `image/tiff`.
    """
    return AssetFilter(
        keep=selection.assets,
        drop=selection.exclude_assets,
        roles=selection.roles,
        media_types=selection.media_types,
    )


def _describing(asset: Any) -> tuple[str | None, tuple[Any, ...]]:
    """Return the asset's media type and roles, without invalid ones."""
    if not isinstance(asset, dict):
        return None, ()
    media_type, roles = asset.get("type"), asset.get("roles")
    named = tuple(role for role in list_or_empty(roles) if isinstance(role, str))
    return media_type if isinstance(media_type, str) else None, named


def _is_short(key: str, media_type: str | None, roles: tuple[str, ...]) -> bool:
    """Return whether the key, type and roles of an asset are short enough to be cached."""
    return len(key) + len(media_type or "") + sum(map(len, roles)) <= LONGEST_KEY


def _may_begin(glob: str, beginning: str) -> bool:
    """Return whether a name with this beginning may match a glob."""
    head = _WILD.split(glob, maxsplit=1)[0]
    return head.startswith(beginning) or (head != glob and beginning.startswith(head))


def _essence(media_type: str) -> str:
    """Return a media type without its parameters, in lower case (RFC 9110, 8.3.1)."""
    return media_type.partition(";")[0].strip().lower()


def _any_glob(globs: Iterable[str]) -> re.Pattern[str] | None:
    """Return one pattern for all globs, or None if there are no globs except empty ones."""
    patterns = [fnmatch.translate(glob) for glob in globs if glob]
    return re.compile("|".join(patterns)) if patterns else None
