"""A host of rasters, in a thread of its own: it serves ranges, counts what it sends, and lists items."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tests.items import feature
from tests.net.memory import Answer, Fault
from tests.net.wire_server import ReceivedRequest, WireServer

from stacpull.net.fields import requested_range


class RasterHost(WireServer):
    """The rasters by path, how they are served, and the requests.

    Attributes:
        delay: Seconds before each answer.
        change_after: Requests for rasters after which they have another ETag, once; 0: never.
        broken_after: Requests for rasters after which a connection breaks off half way, once; 0: never.
        stated: What the items state of an asset besides its href, by its key.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.files: dict[str, bytes] = {}
        self.stated: dict[str, dict[str, Any]] = {}
        self.etags = self.ranges = True
        self.version = 1
        self.delay = 0.0
        self.change_after = self.broken_after = self.sent = 0

    def raster_requests(self) -> list[tuple[str, str | None]]:
        found = [(one.target, one.headers.get("range")) for one in self.requests if one.target in self.files]
        self.requests.clear()
        return found

    def items(self, names: Mapping[str, Mapping[str, str]], base: str = "") -> bytes:
        """Return an ItemCollection: the asset keys of each item, and their paths below `base`."""
        base = base or self.url("")
        features = [
            feature(
                name,
                collection="scenes",
                geometry={"type": "Point", "coordinates": [9.0, 46.0]},
                bbox=[9.0, 46.0, 9.0, 46.0],
                properties={"datetime": "2024-06-01T00:00:00Z"},
                assets={
                    key: {"href": base + path, **self.stated.get(key, {})} for key, path in assets.items()
                },
            )
            for name, assets in names.items()
        ]
        return json.dumps({"type": "FeatureCollection", "features": features}).encode()

    async def _answer_one(self, *connection: Any) -> bool:
        await asyncio.sleep(self.delay)
        return await super()._answer_one(*connection)

    def _turn(self, request: ReceivedRequest) -> Answer:
        path = request.target.partition("?")[0]
        body = self.files.get(path)
        count = sum(one.target in self.files for one in self.requests)
        if 0 < self.change_after < count:
            self.version, self.change_after = self.version + 1, 0
        if breaks := 0 < self.broken_after < count:
            self.broken_after = 0
        if body is None:
            return Answer(404)
        fields = {"Content-Type": "image/tiff" if path.endswith(".tif") else "application/geo+json"}
        etag = f'"v{self.version}"'
        if self.etags:
            fields["ETag"] = etag
            if request.headers.get("if-none-match") == etag:
                return Answer(304, headers=fields)
        unchanged = request.headers.get("if-range") in {None, etag}
        found = requested_range(request.headers.get("range", "")) if self.ranges and unchanged else None
        if found is not None:
            start, stop, _ = found.indices(len(body))
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            body = body[start:stop]
        self.sent += len(body) // 2 if breaks else len(body)
        return Answer(206 if found else 200, body, fields, Fault.TRUNCATED if breaks else None)
