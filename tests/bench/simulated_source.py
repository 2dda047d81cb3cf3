"""The API and the file host of a simulated BigEarthNet, in memory.

A transport in place of HTTPS serves pages, items and the assets of the general path. Other assets come from a
fast path without connections, which checks and delivers them like the real one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson
from multidict import CIMultiDict
from tests.bench.simulated_patches import (
    ACQUISITIONS,
    API,
    CIRRUS,
    DAYS,
    FILES,
    LABELS,
    SIZES,
    SLOTS,
    SOURCE,
    Patches,
    content,
)

from stacpull.engine.pool import Pool
from stacpull.engine.shared_downloads import SharedDownloads
from stacpull.models import Arrival, Job
from stacpull.net.client import NetworkCounters
from stacpull.net.transport import BufferedResponse, Request, Transport
from stacpull.schemes.scheme import TransportSetup
from stacpull.schemes.web import Https

# --- documents: one template for each kind, with placeholders for the values of a patch --------------------


def _template(document: dict[str, Any]) -> bytes:
    """Turn the placeholders of a document into those of `%`: `<name>`, and `"<<ring>>"` with its quotes."""
    text = orjson.dumps(document).replace(b"%", b"%%")
    for field in (b"ring", b"bbox", b"labels"):
        text = text.replace(b'"<<%b>>"' % field, b"%%(%b)b" % field)
    for field in (b"name", b"day"):
        text = text.replace(b"<%b>" % field, b"%%(%b)b" % field)
    return text


def _item(collection: str, properties: dict[str, Any], assets: dict[str, Any]) -> dict[str, Any]:
    above, item = f"{API}/collections/{collection}", f"{collection}_<name>"
    links = [{"rel": rel, "type": "application/json", "href": above} for rel in ("collection", "parent")]
    links.append({"rel": "root", "type": "application/json", "href": f"{API}/"})
    links.append({"rel": "self", "type": "application/geo+json", "href": f"{above}/items/{item}"})
    return {
        "id": item,
        "bbox": "<<bbox>>",
        "type": "Feature",
        "links": links,
        "assets": assets,
        "geometry": {"type": "Polygon", "coordinates": "<<ring>>"},
        "collection": collection,
        "properties": {"datetime": "<day>T10:10:31Z", **properties},
        "stac_version": "1.0.0",
        "stac_extensions": [],
    }


CLASSES = tuple(f"Land cover class {number:02}" for number in range(1, 45))


def _label_item() -> bytes:
    properties = {
        "labels": "<<labels>>",
        "seasonal_snow": False,
        "cloud_and_shadow": False,
        "label:type": "vector",
        "label:tasks": ["classification"],
        "label:methods": ["manual"],
        "label:properties": ["labels"],
        "label:classes": [{"name": "labels", "classes": list(CLASSES)}],
        "label:description": "Labels of BigEarthNet",
    }
    href = f"{FILES}/<name>/labels.json"
    asset = {"href": href, "type": "application/json", "roles": ["data", "labels"], "title": "Labels"}
    document = _item(LABELS, properties, {"labels": asset})
    source = f"{API}/collections/{SOURCE}/items/{SOURCE}_<name>"
    document["links"].append({"rel": "source", "href": source, "type": "application/json"})
    return _template(document)


def _source_item(*, has_cirrus: bool) -> bytes:
    bands = [band for band in SIZES if band != "labels" and (has_cirrus or band != CIRRUS)]
    about = {band: {"name": band, "common_name": band.lower(), "description": band} for band in bands}
    assets = {
        band: {"href": f"{FILES}/<name>/{band}.tif", "type": "image/tiff", "eo:bands": [about[band]]}
        for band in bands
    }
    properties = {
        "gsd": 30,
        "eo:bands": list(about.values()),
        "platform": "Sentinel-2",
        "instruments": ["MSI"],
        "constellation": "Sentinel-2",
    }
    return _template(_item(SOURCE, properties, assets))


_LABEL_ITEM = _label_item()
_SOURCE_ITEMS = {has_cirrus: _source_item(has_cirrus=has_cirrus) for has_cirrus in (False, True)}


def _values(name: str, index: int) -> dict[bytes, bytes]:
    west, south = -9 + index % 4001 * 0.0101234567, 36 + index % 3001 * 0.0101234567
    east, north = west + 0.0123456789, south + 0.0109876543
    ring = [[[west, north], [east, north], [east, south], [west, south], [west, north]]]
    labels = [CLASSES[index % 43], CLASSES[index // 43 % 43]]
    return {
        b"name": name.encode(),
        b"day": str(DAYS[index % ACQUISITIONS]).encode(),
        b"ring": orjson.dumps(ring),
        b"bbox": orjson.dumps([west, south, east, north]),
        b"labels": orjson.dumps(labels),
    }


def _collection(name: str) -> dict[str, Any]:
    href = f"{API}/collections/{name}"
    interval = [f"{DAYS[0]}T00:00:00Z", f"{DAYS[-1]}T23:59:59Z"]
    return {
        "id": name,
        "type": "Collection",
        "description": "BigEarthNet, simulated",
        "license": "CDLA-Permissive-1.0",
        "stac_version": "1.0.0",
        "extent": {"spatial": {"bbox": [[-10, 36, 32, 68]]}, "temporal": {"interval": [interval]}},
        "links": [
            {"rel": "items", "type": "application/geo+json", "href": f"{href}/items"},
            {"rel": "self", "type": "application/json", "href": href},
        ],
    }


def _landing_page() -> dict[str, Any]:
    classes = ("ogcapi-features-1/1.0/conf/core", "ogcapi-features-1/1.0/conf/geojson")
    return {
        "type": "Catalog",
        "id": "simulated",
        "description": "A hub in memory",
        "stac_version": "1.0.0",
        "conformsTo": [
            "https://api.stacspec.org/v1.0.0/core",
            *(f"http://www.opengis.net/spec/{name}" for name in classes),
        ],
        "links": [
            {"rel": "self", "type": "application/json", "href": f"{API}/"},
            {"rel": "data", "type": "application/json", "href": f"{API}/collections"},
        ],
    }


# --- the transport ----------------------------------------------------------------------------------------

_NOT_FOUND = 404
_LARGEST_PAGE = 1000


class _Found(NamedTuple):
    body: bytes
    media_type: str = "application/geo+json"
    etag: str | None = None


class SimulatedTransport:
    """The API and the file host. `seconds` is the processor time spent on responses."""

    def __init__(self, patches: Patches) -> None:
        self.seconds = 0.0
        self._patches = patches

    def open(self, request: Request) -> _Exchange:
        return _Exchange(self, request)

    async def close(self) -> None:
        """Do nothing: no connection is open."""

    def respond(self, request: Request) -> BufferedResponse:
        """Return the response to a request."""
        began = time.thread_time()
        url = request.url
        found = self._file(url) if url.startswith(FILES) else self._document(url)
        if found is None:
            response = BufferedResponse(url, _NOT_FOUND, CIMultiDict({"Content-Length": "0"}), b"")
        else:
            response = self._whole(url, found, request.headers)
        self.seconds += time.thread_time() - began
        return response

    def file(self, url: str) -> tuple[Mapping[bytes, bytes], bytes]:
        """Return the header fields and the body of a file in the form of the fast path."""
        began = time.thread_time()
        found = self._file(url)
        if found is None:
            raise ValueError(f"{url} is not a file of this dataset")
        body = found.body
        fields = {
            b"content-type": found.media_type.encode(),
            b"content-length": b"%d" % len(body),
            b"etag": (found.etag or "").encode(),
        }
        self.seconds += time.thread_time() - began
        return fields, body

    def _whole(self, url: str, found: _Found, headers: Mapping[str, str]) -> BufferedResponse:
        status, body = 200, found.body
        fields = CIMultiDict({"Content-Type": found.media_type})
        if headers and headers.get("Range") == "bytes=0-0":  # `plan` requests the size
            status, body = 206, body[:1]
            fields["Content-Range"] = f"bytes 0-0/{len(found.body)}"
        fields["Content-Length"] = str(len(body))
        if found.etag is not None:
            fields["ETag"] = found.etag
        return BufferedResponse(url, status, fields, body)

    def _file(self, url: str) -> _Found | None:
        name, _, file = url[len(FILES) + 1 :].partition("/")
        key, _, suffix = file.partition(".")
        index, slot = self._patches.index_of(name), SLOTS.get(key)
        if index is None or slot is None or index >= self._patches.items:
            return None
        body = content(index, slot)
        kind = "image/tiff" if suffix == "tif" else "application/json"
        etag = f'"{0x5EDF_0000 + index % 65_536:x}-{len(body):x}"'  # nginx: time and size
        return _Found(body, kind, etag)

    def _document(self, url: str) -> _Found | None:
        parts = urlsplit(url)
        steps = parts.path.removeprefix("/v1").strip("/").split("/")
        match steps:
            case [""]:
                return _Found(orjson.dumps(_landing_page()), "application/json")
            case ["collections", name] if name in (LABELS, SOURCE):
                return _Found(orjson.dumps(_collection(name)), "application/json")
            case ["collections", name, "items"] if name == LABELS:
                return self._page(parse_qs(parts.query))
            case ["collections", name, "items", item] if name in (LABELS, SOURCE):
                return self._single(name, item)
        return None

    def _page(self, query: Mapping[str, list[str]]) -> _Found:
        limit = min(int(query.get("limit", ["10"])[0]), _LARGEST_PAGE)
        start = int(query.get("start", ["0"])[0])
        indices = range(start, min(start + limit, self._patches.items))
        links = []
        if indices.stop < self._patches.items:
            href = f"{API}/collections/{LABELS}/items?limit={limit}&start={indices.stop}"
            links.append({"rel": "next", "type": "application/geo+json", "href": href})
        about = orjson.dumps({"numberMatched": self._patches.items, "links": links})[1:]
        items = b",".join([self._json(LABELS, index) for index in indices])
        return _Found(b'{"type":"FeatureCollection","features":[%b],%b' % (items, about))

    def _single(self, collection: str, item: str) -> _Found | None:
        index = self._patches.index_of(item.removeprefix(f"{collection}_"))
        if index is None or index >= self._patches.items:
            return None
        return _Found(self._json(collection, index))

    def _json(self, collection: str, index: int) -> bytes:
        form = _LABEL_ITEM if collection == LABELS else _SOURCE_ITEMS[self._patches.has_cirrus(index)]
        return form % _values(self._patches.name(index), index)


class _Exchange:
    """One request and its response."""

    __slots__ = ("_request", "_transport")

    def __init__(self, transport: SimulatedTransport, request: Request) -> None:
        self._transport = transport
        self._request = request

    async def __aenter__(self) -> BufferedResponse:
        return self._transport.respond(self._request)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class SimulatedFastPath:
    """Fetches assets without connections (as `engine.fast_path.FastPath`).

    Args:
        sent: Provides the files.
        shared: The downloads that assets with the same href share.
        pool: Receives the results.
        counters: The counters of the run.
    """

    def __init__(
        self,
        sent: SimulatedTransport,
        shared: SharedDownloads,
        pool: Pool[Job, Arrival | None],
        counters: NetworkCounters,
    ) -> None:
        self._sent = sent
        self._shared = shared
        self._pool = pool
        self._counters = counters
        self._loop = asyncio.get_running_loop()

    def begin(self, job: Job) -> bool:
        """Receive an asset in the next iteration of the loop; return False if it needs the general path."""
        if job.stale or job.version_in_dest is not None or (download := self._shared.start(job)) is None:
            return False
        self._loop.call_soon(self._receive, job, download)
        return True

    def _receive(self, job: Job, download: Any) -> None:
        try:
            fields, body = self._sent.file(job.href)
            received = self._shared.fetcher.accept(job, job.href, fields, body)
        except Exception as error:  # noqa: BLE001 - otherwise the run would wait forever
            self._pool.spawn(_raised(error))
            return
        if received is None:
            self._pool.spawn(_raised(ValueError(f"{job.href} was not taken")))
            return
        self._shared.complete(download, received)
        self._counters.requests += 1
        self._counters.bytes_fetched += received.size
        self._pool.sink.put(job, received)

    async def close(self) -> None:
        """Do nothing: no connection is open."""


async def _raised(error: Exception) -> None:
    raise error


class SimulatedHttps(Https):
    """`https://` without a network."""

    def __init__(self, patches: Patches) -> None:
        self.sent = SimulatedTransport(patches)

    def transport(self, setup: TransportSetup) -> Transport:
        del setup
        return self.sent
