"""Where the assets of an item came from, and where the item says that they are now.

An ETag is of one URL (RFC 9110, 8.8): two URLs may both call their first version "1", and a date says nothing
of a file beside. So the source is asked under the ETag that is kept only where the asset's href, its
signature cut, is the one that the bytes here came from. Rows of assets do not keep that; it is told by the
document of the item, as it is written or waits to be. So that this stays true, who plans forgets the ETag
of an asset when the document is renewed, or `--prefer` is another, and it is somewhere else by that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from stacpull.ledger.schema import STATE_DONE
from stacpull.models import Json, PlannedItem
from stacpull.planning.hrefs import asset_hrefs
from stacpull.planning.prefixes import object_of
from stacpull.redact import place_of
from stacpull.urls import is_local

__all__ = ["Places", "TellsPlaces", "first_place", "forget_validators", "leave_out", "nothing_told"]

TellsPlaces = Callable[[int, tuple[str, ...]], Mapping[str, str]]
"""Returns, of an item's row, what `first_place` was under a `--prefer` for each key."""


class _Planned(Protocol):
    """What is known of an asset: the last run that planned it."""

    @property
    def run(self) -> int: ...


def nothing_told(_item: int, _prefer: tuple[str, ...]) -> Mapping[str, str]:
    """Tell of no asset where it came from."""
    return {}


def first_place(asset: object, base: str | None, prefer: tuple[str, ...]) -> str | None:
    """Return where an asset is fetched from first, credentials and signature cut; None if nowhere."""
    href = asset.get("href") if isinstance(asset, dict) else None
    local = href if isinstance(href, str) and is_local(href) else None
    hrefs = asset_hrefs(asset, local or base, prefer)
    return place_of(hrefs[0]) if isinstance(hrefs, tuple) and hrefs else None


class Places:
    """Those of one item that is planned again. Asks only when it is asked, before the document is renewed."""

    def __init__(
        self,
        item: PlannedItem,
        failed: Collection[str],
        before: Callable[[tuple[str, ...]], Mapping[str, str]],
        prefer_of: Callable[[int], tuple[str, ...]],
        prefer: tuple[str, ...],
    ) -> None:
        """Prepare.

        Args:
            item: as it is planned now.
            failed: keys of those that are of this run now, and cannot be fetched.
            before: tells where each was, under a `--prefer`.
            prefer_of: the `--prefer` of a run.
            prefer: that of this one.
        """
        self._item = item
        self._failed = failed
        self._before = before
        self._known: dict[tuple[str, ...], Mapping[str, str]] = {}
        self._prefer_of = prefer_of
        self._prefer = prefer

    def is_same(self, key: str, old: _Planned) -> bool:
        """Return True if the bytes of an asset came from where it is now.

        Of a collection's own assets nothing tells, and each run asks about them: they are taken to be there.
        """
        if self._item.of_collection:
            return True
        prefer = self._prefer_of(old.run)
        if prefer not in self._known:
            self._known[prefer] = self._before(prefer)
        before = self._known[prefer].get(key)
        return before is not None and before == self._now(key, prefer)

    def are_preferred_otherwise(self, planned: Iterable[_Planned]) -> bool:
        """Return True if a run that planned one of these last had another `--prefer`."""
        return any(self._prefer_of(run) != self._prefer for run in {old.run for old in planned})

    def is_listed(self, key: str) -> bool:
        """Return True if the document has an asset under that key."""
        assets = self._item.document.get("assets")
        return isinstance(assets, dict) and key in assets

    def _now(self, key: str, prefer_before: tuple[str, ...]) -> str | None:
        planned = next((asset.href for asset in self._item.assets if asset.key == key), None)
        if planned is not None:
            return place_of(planned)
        assets = self._item.document.get("assets")
        asset: Json | None = object_of(assets, key) if isinstance(assets, dict) else None
        return first_place(asset, self._item.href, self._prefer if key in self._failed else prefer_before)


def leave_out(db: sqlite3.Connection, assets: Iterable[tuple[int, bool]]) -> None:
    """Note that the source is to be asked about assets: rows, and whether they are open."""
    db.executemany(
        "INSERT INTO unasked VALUES (?, ?) ON CONFLICT DO UPDATE SET is_open = is_open OR excluded.is_open",
        assets,
    )


def forget_validators(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Ask for the whole of these when it comes to that; what was opened again stays as it is."""
    forget = f"UPDATE assets SET etag = NULL WHERE id = ? AND state = {STATE_DONE}"
    db.executemany(forget, ((row,) for row in rows))
