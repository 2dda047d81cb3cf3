"""A STAC API of a few lines on loopback, over which a scenario has every word."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.parse import quote

import orjson
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import Scripted, WireServer

from stacpull.net.transport import Request

PER_PAGE = 2


class SmallApi(WireServer):
    """`async with SmallApi({"a": ["1", "2", "3"]}) as api`: items by collection, two on a page.

    Every item has the asset `data`, whose answer is `asset`, or what that makes of the request.
    `listed` is what `/collections` lists, `refused`
    which pages (`a:2`) answer 404: both may be changed meanwhile.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[str]],
        *,
        asset: Scripted | Callable[[Request], Scripted] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.items = items
        self.listed = list(items)
        self.refused: set[str] = set()
        reported = asset or Answer(body=b"data")
        answer = reported if callable(reported) else lambda _: reported
        root = {"type": "Catalog", "stac_version": "1.0.0", "id": "small", "description": "", "links": []}
        routes: dict[str, Callable[[Request], Scripted]] = {
            "/": lambda _: _json({**root, "conformsTo": []}),
            "/collections": self._collections,
        }
        for name, ids in items.items():
            routes[f"/collections/{name}"] = partial(_collection_answer, name)
            routes[f"/collections/{name}/items"] = partial(self._page, name)
            routes |= {f"/assets/{name}/{quote(one)}": answer for one in ids}
        super().__init__(routes, tls=tls)

    def _collections(self, _request: Request) -> Answer:
        return _json({"collections": [_collection(name) for name in self.listed], "links": []})

    def _page(self, name: str, request: Request) -> Answer:
        _, _, query = request.url.partition("?")
        fields = dict(field.split("=") for field in query.split("&"))
        number = int(fields.get("page", "1"))
        if f"{name}:{number}" in self.refused:
            return Answer(404, b"{}")
        ids = self.items[name]
        shown = ids[(number - 1) * PER_PAGE : number * PER_PAGE]
        path = f"/collections/{name}/items?page={number + 1}"
        more = [{"rel": "next", "href": self.url(path)}] if number * PER_PAGE < len(ids) else []
        features = [self._item(name, one) for one in shown]
        return _json({"type": "FeatureCollection", "features": features, "links": more})

    def _item(self, collection: str, name: str) -> dict[str, object]:
        return feature(name, {"data": self.url(f"/assets/{collection}/{name}")}, collection=collection)


def _collection(name: str) -> dict[str, object]:
    return {"type": "Collection", "stac_version": "1.0.0", "id": name, "description": name, "license": "CC0",
            "extent": {}, "links": []}  # fmt: skip


def _collection_answer(name: str, _request: Request) -> Answer:
    return _json(_collection(name))


def _json(document: object) -> Answer:
    return Answer(body=orjson.dumps(document), headers={"Content-Type": "application/json"})
