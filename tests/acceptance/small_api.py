"""A STAC API of a few lines on loopback, over which a scenario has every word."""

import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.parse import quote

from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import Scripted, WireServer, json_answer

from stacpull.net.transport import Request

__all__ = ["PER_PAGE", "SmallApi", "json_answer"]

PER_PAGE = 2


class SmallApi(WireServer):
    """`with SmallApi({"a": ["1", "2", "3"]}) as api`: items by collection, two on a page.

    Every item has the asset `data`, whose answer is `asset`, or what that makes of the request.
    `listed` is what `/collections` lists, `refused` the statuses of pages that are refused, by their names
    (`a:2`): both may be changed meanwhile.
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
        self.refused: dict[str, int] = {}
        reported = asset or Answer(body=b"data")
        answer = reported if callable(reported) else lambda _: reported
        root = {"type": "Catalog", "stac_version": "1.0.0", "id": "small", "description": "", "links": []}
        routes: dict[str, Callable[[Request], Scripted]] = {
            "/": lambda _: json_answer({**root, "conformsTo": []}),
            "/collections": self._collections,
        }
        for name, ids in items.items():
            routes[f"/collections/{name}"] = lambda _, name=name: json_answer(collection(name))
            routes[f"/collections/{name}/items"] = partial(self._page, name)
            routes |= {f"/assets/{name}/{quote(one)}": answer for one in ids}
        super().__init__(routes, tls=tls)

    def _collections(self, _request: Request) -> Answer:
        return json_answer({"collections": [collection(name) for name in self.listed], "links": []})

    def _page(self, name: str, request: Request) -> Answer:
        path, _, query = request.url.partition("?")
        fields = dict(field.split("=") for field in query.split("&"))
        number = int(fields.get("page", "1"))
        if f"{name}:{number}" in self.refused:
            return Answer(self.refused[f"{name}:{number}"], b"{}")
        shown, goes_on = self._listed(name, number)
        href = self.url(f"{path}?page={number + 1}")
        links = [{"rel": "next", "href": href}] if goes_on else []
        features = [self._item(name, one) for one in shown]
        return json_answer({"type": "FeatureCollection", "features": features, "links": links})

    def _listed(self, name: str, number: int) -> tuple[Sequence[str], bool]:
        """The ids of a page, and whether another one follows."""
        ids = self.items[name]
        return ids[(number - 1) * PER_PAGE : number * PER_PAGE], number * PER_PAGE < len(ids)

    def _item(self, collection: str, name: str) -> dict[str, object]:
        return feature(name, {"data": self.url(f"/assets/{collection}/{name}")}, collection=collection)
