"""A little STAC API on loopback, whose items a test gives: any server can be the host of their assets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer, json_answer

from stacpull.models import Json

COLLECTION = "things"
_MEDIA_TYPE = "application/octet-stream"
_PER_PAGE = 10


class StacApi(WireServer):
    """`with StacApi() as api`: one collection, served by a thread.

    Items may be put at any time; an href may be a function, called for each reply, as of services that sign.
    """

    def __init__(self) -> None:
        super().__init__({})
        self._items: dict[str, Mapping[str, Json]] = {}

    @property
    def source(self) -> str:
        return self.url(f"/collections/{COLLECTION}")

    def put(self, item: str, hrefs: Mapping[str, str | Callable[[], str]], **fields: Any) -> None:
        """Let `item` have the assets `hrefs`, each with `fields`; one of that id is replaced."""
        same = {"type": _MEDIA_TYPE, **fields}
        self._items[item] = {key: {"href": href, **same} for key, href in hrefs.items()}

    def _turn(self, request: ReceivedRequest) -> Answer:
        url = urlsplit(request.target)
        match url.path.strip("/").split("/"):
            case ["collections", _]:
                links = [
                    {"rel": "items", "href": f"{self.source}/items"},
                    {"rel": "self", "href": self.source},
                ]
                return json_answer(collection(COLLECTION, links=links))
            case ["collections", _, "items"]:
                return self._page(int(parse_qs(url.query).get("start", ["0"])[0]))
            case ["collections", _, "items", name] if name in self._items:
                return json_answer(self._feature(name))
        return json_answer({"code": "NotFound", "description": "no such item"}, 404)

    def _page(self, start: int) -> Answer:
        names, end = sorted(self._items), start + _PER_PAGE
        links = [{"rel": "next", "href": f"{self.source}/items?start={end}"}] if end < len(names) else []
        features = [self._feature(name) for name in names[start:end]]
        counted = {"numberMatched": len(names), "links": links}
        return json_answer({"type": "FeatureCollection", "features": features, **counted})

    def _feature(self, name: str) -> Json:
        assets = {
            key: asset | {"href": asset["href"]() if callable(asset["href"]) else asset["href"]}
            for key, asset in self._items[name].items()
        }
        links = [{"rel": "self", "href": f"{self.source}/items/{name}"}]
        return feature(name, collection=COLLECTION, assets=assets, links=links)
