"""Sources and hosts of which a scenario writes every word."""

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import Script, Scripted, WireServer, json_answer

from stacpull import MirrorReport, Options, S3Options, Selection, sync
from stacpull.net.transport import Request

__all__ = ["COLLECTION", "Source", "data", "feature", "json_answer", "mirrored", "mirrored_here"]

COLLECTION = "c"


def data(_request: Request) -> Answer:
    return Answer(body=b"data")


def mirrored(
    dest: Path,
    features: Sequence[Mapping[str, Any]] = (),
    *,
    selection: Mapping[str, Any] | None = None,
    others: Callable[[Request], Scripted] = data,
    routes: Mapping[str, Script] | None = None,
    **options: Any,
) -> MirrorReport:
    """Mirror a source, whose paths stand as hrefs in its items, and which is also the endpoint of S3."""
    with Source(features, others=others, routes=routes) as source:
        s3 = S3Options(endpoint_url=source.url(""), no_sign_request=True, region="us-east-1")
        given = Options(retries=0, s3=s3, **options)
        return sync.mirror(source.api, dest, selection=Selection(**(selection or {})), options=given)


def mirrored_here(directory: Path, **assets: bytes) -> Path:
    """Mirror the item `cat/item.json` below a directory, whose assets are files beside it, to `m` there."""
    (directory / "cat").mkdir()
    for key, content in assets.items():
        (directory / "cat" / key).write_bytes(content)
    source = directory / "cat/item.json"
    source.write_bytes(json.dumps(feature("i", {key: key for key in assets})).encode())
    sync.mirror(source, directory / "m")
    return directory / "m"


class Source(WireServer):
    """A STAC API with one collection on one page; `others` answers every path that is not the API's own.

    Features may be set once the server runs, when its port is known.
    """

    def __init__(
        self,
        features: Sequence[Mapping[str, Any]] = (),
        *,
        others: Callable[[Request], Scripted] | None = None,
        routes: Mapping[str, Script] | None = None,
        tls: ssl.SSLContext | None = None,
        name: str = "127.0.0.1",
    ) -> None:
        self.features = list(features)
        self.links: list[Mapping[str, str]] = []
        self.name = name
        self._others = others
        own: dict[str, Script] = {
            f"/collections/{COLLECTION}": lambda _: json_answer(collection(COLLECTION)),
            f"/collections/{COLLECTION}/items": lambda _: json_answer(
                {"type": "FeatureCollection", "features": self.features, "links": self.links}
            ),
        }
        super().__init__({**own, **(routes or {})}, tls=tls)

    @property
    def api(self) -> str:
        return self.url(f"/collections/{COLLECTION}")

    def url(self, path: str, host: str | None = None) -> str:
        return super().url(path, host or self.name)

    def _turn(self, request: Any) -> Scripted:
        known = request.target in self._routes or request.target.partition("?")[0] in self._routes
        if self._others is None or known:
            return super()._turn(request)
        return self._others(Request(request.target, request.method, request.headers, request.body))
