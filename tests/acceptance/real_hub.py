"""The recorded pages of the real service, served as they came, with real patches behind their hrefs.

Only the host of the hrefs is another one; and as the recordings were made with links that repeat from page to
page, the links of each page are distinguished by its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from aiohttp import web

KEY = "real-hub-key"
COLLECTION = "bigearthnet_v1_source"
ITEMS_PATH = f"/mlhub/v1/collections/{COLLECTION}/items"
_RECORDED = b"https://api.radiant.earth"


@dataclass
class RealHub:
    """An application for aiohttp; `url` is set when it listens."""

    data: Path
    url: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)
    """File name -> content: what must be mirrored."""
    requests: list[str] = field(default_factory=list)
    _pages: dict[str | None, bytes] = field(default_factory=dict)
    _targets: dict[str, str] = field(default_factory=dict)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get(ITEMS_PATH, self._items)
        app.router.add_get("/mlhub/v1/collections/{name}", self._collection)
        app.router.add_get("/mlhub/v1/download/{link}", self._download)
        app.router.add_get("/blob/{name}", self._blob)
        return app

    def listen_at(self, url: str) -> None:
        """Read the recordings and point them at `url`."""
        self.url = url
        cursor = None
        for number in (1, 2):
            raw = (self.data / "mlhub" / "prod2021" / f"{COLLECTION}_items_page{number}.json").read_bytes()
            raw = raw.replace(_RECORDED, url.encode())
            raw = raw.replace(b"/download/dummy-", f"/download/page{number}-dummy-".encode())
            self._pages[cursor] = raw
            document = orjson.loads(raw)
            self._place(document["features"], number)
            cursor = document["links"][0]["href"].partition("next=")[2].partition("&")[0]
        self._pages[cursor] = b'{"features": [], "links": [], "type": "FeatureCollection"}'

    def _place(self, items: list[Mapping[str, object]], page: int) -> None:
        """Put a real patch behind each item, one after the other."""
        patches = sorted((self.data / "bigearthnet" / "s2").iterdir())
        for number, item in enumerate(items):
            patch = patches[(number + page) % len(patches)]
            name = str(item["id"]).removeprefix(COLLECTION + "_")
            assets: Mapping[str, Mapping[str, str]] = item["assets"]  # type: ignore[assignment]
            for band, asset in assets.items():
                self._targets[asset["href"].rpartition("/")[2]] = f"{name}_{band}.tif"
                path = patch / f"{patch.name}_{band}.tif"
                if path.exists():
                    self.bodies[f"{name}_{band}.tif"] = path.read_bytes()

    async def _items(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        if request.query.get("key") != KEY:
            return web.Response(status=401, text="<title>401 Unauthorized</title>", content_type="text/html")
        return web.Response(body=self._pages[request.query.get("next")], content_type="application/json")

    async def _collection(self, request: web.Request) -> web.Response:
        path = self.data / "mlhub" / "prod2021" / f"{request.match_info['name']}_collection.json"
        return web.Response(
            body=path.read_bytes().replace(_RECORDED, self.url.encode()), content_type="application/json"
        )

    async def _download(self, request: web.Request) -> web.Response:
        location = f"{self.url}/blob/{self._targets[request.match_info['link']]}"
        return web.Response(status=302, headers={"Location": location})

    async def _blob(self, request: web.Request) -> web.Response:
        self.requests.append(request.path_qs)
        body = self.bodies.get(request.match_info["name"])
        if body is None:
            return web.Response(status=404, body=b"<Error><Code>BlobNotFound</Code></Error>")
        return web.Response(body=body, content_type="application/octet-stream")
