"""The recorded pages of the real service, served as they came, with real patches behind their hrefs.

Only the host of the hrefs is another one; and as the recordings were made with links that repeat from page to
page, the links of each page are distinguished by its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import orjson
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer

KEY = "real-hub-key"
COLLECTION = "bigearthnet_v1_source"
ITEMS_PATH = f"/mlhub/v1/collections/{COLLECTION}/items"
_RECORDED = b"https://api.radiant.earth"
_JSON = {"Content-Type": "application/json"}


class RealHub(WireServer):
    """`with RealHub(data) as hub`: `bodies` is what must be mirrored, by file name."""

    def __init__(self, data: Path) -> None:
        super().__init__({})
        self.data = data
        self.bodies: dict[str, bytes] = {}
        self._pages: dict[str | None, bytes] = {}
        self._targets: dict[str, str] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        cursor = None
        for number in (1, 2):
            raw = self._recorded(f"{COLLECTION}_items_page{number}.json")
            raw = raw.replace(b"/download/dummy-", f"/download/page{number}-dummy-".encode())
            self._pages[cursor] = raw
            document = orjson.loads(raw)
            self._place(document["features"], number)
            cursor = document["links"][0]["href"].partition("next=")[2].partition("&")[0]
        self._pages[cursor] = b'{"features": [], "links": [], "type": "FeatureCollection"}'
        return self

    def _recorded(self, name: str) -> bytes:
        raw = (self.data / "mlhub" / "prod2021" / name).read_bytes()
        return raw.replace(_RECORDED, self.url("").encode())

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

    def _turn(self, request: ReceivedRequest) -> Answer:
        url = urlsplit(request.target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path.strip("/").split("/"):
            case [*_, "items"] if query.get("key") != KEY:
                return Answer(401, b"<title>401 Unauthorized</title>", {"Content-Type": "text/html"})
            case [*_, "items"]:
                return Answer(200, self._pages[query.get("next")], _JSON)
            case [*_, "collections", name]:
                return Answer(200, self._recorded(f"{name}_collection.json"), _JSON)
            case [*_, "download", link]:
                return Answer(302, headers={"Location": self.url(f"/blob/{self._targets[link]}")})
            case ["blob", name] if name in self.bodies:
                return Answer(200, self.bodies[name], {"Content-Type": "application/octet-stream"})
        return Answer(404, b"<Error><Code>BlobNotFound</Code></Error>")
