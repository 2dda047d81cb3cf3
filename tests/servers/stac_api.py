"""A little STAC API on loopback, whose items a test gives: any server can be the host of their assets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from tests.items import collection, feature

from stacpull.models import Json

COLLECTION = "things"
_MEDIA_TYPE = "application/octet-stream"


class StacApi:
    """`with StacApi() as api`: one collection, served by a thread.

    Items may be put at any time; an href may be a function, called for each reply, as of services that sign.
    """

    def __init__(self, *, page_size: int = 10) -> None:
        self.requests: list[str] = []
        """The requested paths, in order."""
        self._items: dict[str, Mapping[str, Json]] = {}
        self._page_size = page_size
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stac-api", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._runner = self._do(self._start())
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self.source = f"{self.url}/collections/{COLLECTION}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def put(self, item: str, hrefs: Mapping[str, str | Callable[[], str]], **fields: Any) -> None:
        """Let `item` have the assets `hrefs`, each with `fields`; one of that id is replaced."""
        same = {"type": _MEDIA_TYPE, **fields}
        self._items[item] = {key: {"href": href, **same} for key, href in hrefs.items()}

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/collections/{name}", self._collection)
        app.router.add_get("/collections/{name}/items", self._page)
        app.router.add_get("/collections/{name}/items/{item}", self._item)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def _collection(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        links = [{"rel": "items", "href": f"{self.source}/items"}, {"rel": "self", "href": self.source}]
        return web.json_response(collection(COLLECTION, extent=extent, links=links))

    async def _page(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        start = int(request.query.get("start", 0))
        names = sorted(self._items)
        end = start + self._page_size
        links = [{"rel": "next", "href": f"{self.source}/items?start={end}"}] if end < len(names) else []
        return web.json_response(self._features(names[start:end]) | {"links": links})

    async def _item(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        name = request.match_info["item"]
        if name not in self._items:
            return web.json_response({"code": "NotFound", "description": "no such item"}, status=404)
        return web.json_response(self._feature(name))

    def _features(self, names: Sequence[str]) -> Json:
        features = [self._feature(name) for name in names]
        return {"type": "FeatureCollection", "features": features, "numberMatched": len(self._items)}

    def _feature(self, name: str) -> Json:
        assets = {
            key: asset | {"href": asset["href"]() if callable(asset["href"]) else asset["href"]}
            for key, asset in self._items[name].items()
        }
        links = [{"rel": "self", "href": f"{self.source}/items/{name}"}]
        return feature(
            name,
            collection=COLLECTION,
            geometry={"type": "Point", "coordinates": [10, 50]},
            bbox=[10, 50, 10, 50],
            assets=assets,
            links=links,
        )
