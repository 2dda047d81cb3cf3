"""What an API says that it can do: the conformance classes of its landing page. Pure.

Sources: STAC API 1.0.0 (core, item search, filter extension) and its release candidates, OGC API Features
part 1 (7.4) and part 3. Versions in the URIs are passed over; what they stand for did not change.
"""

from __future__ import annotations

from typing import NamedTuple

from stacpull.models import Json

__all__ = ["NOTHING", "Ability", "ability"]

_SEARCH = ("/item-search",)
_FILTER = ("/item-search#filter", "/item-search/#filter")
_ITEMS = ("/ogcapi-features-1/1.0/conf/core", "/ogcapi-features")
_JSON, _TEXT = ("/conf/cql2-json",), ("/conf/cql2-text",)


class Ability(NamedTuple):
    """What may be asked: `items` takes bbox and datetime, `search` more, `post` is search by POST."""

    items: bool = False
    search: bool = False
    post: bool = False
    cql2_json: bool = False
    cql2_text: bool = False


NOTHING = Ability()


def ability(landing: Json) -> Ability:
    """Return what the landing page `landing` (its `conformsTo`) promises."""
    stated = landing.get("conformsTo")
    classes = [uri.rstrip("/") for uri in stated if isinstance(uri, str)] if isinstance(stated, list) else []

    def conforms(endings: tuple[str, ...]) -> bool:
        return any(uri.endswith(endings) for uri in classes)

    search = conforms(_SEARCH)
    filters = search and conforms(_FILTER)
    return Ability(
        items=conforms(_ITEMS),
        search=search,
        post=search and _offers_post(landing),
        cql2_json=filters and conforms(_JSON),
        cql2_text=filters and conforms(_TEXT),
    )


def _offers_post(landing: Json) -> bool:
    links = landing.get("links")
    return any(
        link.get("rel") == "search" and str(link.get("method")).upper() == "POST"
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict)
    )
