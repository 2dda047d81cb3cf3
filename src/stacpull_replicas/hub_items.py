"""The items of one replica: their ids, and their JSON, made from templates.

A page of 10,000 items is what costs the replica most; every item is one `bytes % mapping` over the document
that `hub_documents.py` wrote once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import orjson

from stacpull_replicas.dataset import Dataset, Patch, Ring, Site
from stacpull_replicas.hub_catalog import LARGE_COLLECTION, SOURCE_COLLECTION
from stacpull_replicas.hub_documents import ASSETS_OF, label_item, large_item, source_item
from stacpull_replicas.templates import Template

_LARGE_RING: Ring = [[24.0, 60.0], [24.1, 60.0], [24.1, 59.9], [24.0, 59.9], [24.0, 60.0]]
_TOKEN_HOLES = {name: [b"token%d" % number for number in range(len(ASSETS_OF[name]))] for name in ASSETS_OF}

Seal = Callable[[tuple[str, ...], int], list[bytes]]
"""Makes the opaque tokens of an item's download hrefs from (its assets, its index)."""


@dataclass(frozen=True)
class HubItems:
    """Writes the items of one replica and knows their ids: `base` is the root URL of the API."""

    base: str
    dataset: Dataset
    seal: Seal
    era: str = "2022"
    large_items: int = 0

    def count(self, collection: str) -> int:
        """How many items a collection has."""
        return self.large_items if collection == LARGE_COLLECTION else self.dataset.items

    def item_id(self, collection: str, index: int) -> str:
        """The id of an item."""
        if collection == LARGE_COLLECTION:
            return f"{collection}_{index:04d}"
        return f"{collection}_{self.dataset.name(index)}"

    def index_of(self, collection: str, item_id: str) -> int | None:
        """The index of the item with this id, None if there is none."""
        name = item_id.removeprefix(collection + "_")
        if name == item_id:
            return None
        if collection != LARGE_COLLECTION:
            return self.dataset.index_of(name)
        index = int(name) if name.isascii() and name.isdigit() else -1
        return index if 0 <= index < self.large_items and item_id == self.item_id(collection, index) else None

    @cached_property
    def _label_templates(self) -> dict[tuple[bool, bool], Template]:
        """By (has its list of classes, source link names the asset)."""
        return {
            (classes, assets): Template.of(
                label_item(self.base, self.era, with_classes=classes, with_assets=assets)
            )
            for classes in (False, True)
            for assets in (False, True)
        }

    @cached_property
    def _source_template(self) -> Template:
        return Template.of(source_item(self.base, self.era))

    @cached_property
    def _large_template(self) -> Template:
        return Template.of(large_item(self.base))

    def item(self, collection: str, index: int) -> bytes:
        """One item as JSON; its hrefs are new each time."""
        tokens = self.seal(ASSETS_OF[collection], index)
        fillings = dict(zip(_TOKEN_HOLES[collection], tokens, strict=True))
        if collection == LARGE_COLLECTION:
            fillings |= {b"number": b"%04d" % index, **_place(_LARGE_RING)}
            return self._large_template.fill(fillings)
        if collection == SOURCE_COLLECTION:
            fillings |= described(self.dataset.site(index), broken=self.era == "2021")
            return self._source_template.fill(fillings)
        patch = self.dataset.patch(index)
        fillings |= described(patch)
        fillings |= labelled(self.dataset, patch)
        kind = (self.dataset.has_class_list(index), index % 3 == 0)
        return self._label_templates[kind].fill(fillings)


def described(site: Site, *, broken: bool = False) -> dict[bytes, bytes]:
    """What fills the holes that label and source items share."""
    return {
        b"name": site.name.encode(),
        b"datetime": site.acquisition.datetime,
        **_place(site.ring(broken=broken)),
    }


def labelled(dataset: Dataset, patch: Patch) -> dict[bytes, bytes]:
    """What fills the holes of a label item beside those."""
    flags = orjson.dumps(dataset.flag_properties(patch))[1:-1]
    return {b"labels": orjson.dumps(patch.labels), b"flags": flags + b"," if flags else b""}


def _place(ring: Ring) -> dict[bytes, bytes]:
    return {b"bbox": orjson.dumps(bounds(ring)), b"ring": orjson.dumps(ring)}


def bounds(ring: Ring) -> list[float]:
    """West, south, east and north of a ring."""
    longitudes, latitudes = zip(*ring, strict=True)
    return [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
