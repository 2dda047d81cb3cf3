"""Items and collections as sources list them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
    max_leaves=6,
)
_NONE: Mapping[str, str] = MappingProxyType({})


def feature(
    name: str, hrefs: Mapping[str, str] = _NONE, *, collection: str = "c", **more: Any
) -> dict[str, Any]:
    """An item with the hrefs of assets by key; other members replace."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": None,
        "links": [],
        "properties": {"datetime": "2020-01-01T00:00:00Z"},
        "assets": {key: {"href": href} for key, href in hrefs.items()},
        **more,
    }


def collection(name: str = "c", **more: Any) -> dict[str, Any]:
    """A collection; other members replace."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "description": name,
        "license": "CC0-1.0",
        "extent": {},
        "links": [],
        **more,
    }
