"""A little STAC API on loopback, whose items a test gives: any server can be the host of their assets."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.items import feature
from tests.security.sources import COLLECTION, Source, json_answer

from stacpull.models import Json

_MEDIA_TYPE = "application/octet-stream"


class StacApi(Source):
    """Items may be put at any time.

    An href may be a function, called for each reply, as of services that sign.
    """

    def __init__(self) -> None:
        self._items: dict[str, Mapping[str, Json]] = {}
        super().__init__(routes={f"/collections/{COLLECTION}/items": lambda _: self._page()})

    def put(self, item: str, hrefs: Mapping[str, str | Callable[[], str]], **fields: Any) -> None:
        """Let `item` have the assets `hrefs`, each with `fields`; one of that id is replaced."""
        same = {"type": _MEDIA_TYPE, **fields}
        self._items[item] = {key: {"href": href, **same} for key, href in hrefs.items()}
        one = {f"/collections/{COLLECTION}/items/{item}": lambda _: json_answer(self._feature(item))}
        self._routes = {**self._routes, **one}

    def _page(self) -> Any:
        features = [self._feature(name) for name in sorted(self._items)]
        return json_answer({"type": "FeatureCollection", "features": features, "links": []})

    def _feature(self, name: str) -> Json:
        assets = {
            key: asset | {"href": asset["href"]() if callable(asset["href"]) else asset["href"]}
            for key, asset in self._items[name].items()
        }
        links = [{"rel": "self", "href": f"{self.api}/items/{name}"}]
        return feature(name, assets=assets, links=links)
