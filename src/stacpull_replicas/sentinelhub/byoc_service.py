"""BYOC (bring your own COG): collections, their tiles, and the files of a tile, whole or by ranges.

It serves only the owner of a collection; others get a 403. Lists are paged by `viewtoken`, with at most 100
entries per page. Some tiles have no `filesMetadata`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
import shapely

from stacpull_replicas.draws import mix
from stacpull_replicas.http_messages import (
    LARGE,
    RangeNotSatisfiable,
    ReplicaReply,
    RequestInfo,
    Stream,
    byte_range,
    http_date,
    precondition,
    range_still_valid,
)
from stacpull_replicas.sentinelhub.captures import BANDS, Archive, Capture
from stacpull_replicas.sentinelhub.catalog_service import BUCKET, path_of, with_crs
from stacpull_replicas.sentinelhub.geotiff import KINDS, RasterFile
from stacpull_replicas.sentinelhub.scenes import NODATA
from stacpull_replicas.sentinelhub.sentinelhub_service import Refusal, bad_payload, not_found, not_yours
from stacpull_replicas.sentinelhub.statistics_order import written
from stacpull_replicas.sentinelhub.tile_grid import EPSG, METRES

ROOT = "/api/v1/byoc"
_MOST = 100
_WITHOUT_METADATA = 25
"""One of this many tiles has no filesMetadata (but never a tile of the notebook)."""


@dataclass(frozen=True)
class Byoc:
    """The collections of the account, and the ids of collections of other accounts."""

    archives: Mapping[str, Archive]
    foreign: frozenset[str]
    user: str
    base_url: str

    def respond(self, request: RequestInfo, below: str) -> ReplicaReply:
        if request.method not in {"GET", "HEAD"}:
            raise Refusal(405, "COMMON_METHOD_NOT_ALLOWED", f"Method {request.method} is not allowed.")
        match below.strip("/").split("/"):
            case ["collections"]:
                return _json(self._page(request, [self._collection(name) for name in self.archives]))
            case ["collections", name]:
                self._archive(name)
                return _json({"data": self._collection(name)})
            case ["collections", name, "tiles"]:
                return _json(self._tiles(request, name))
            case ["collections", name, "tiles", tile]:
                return _json({"data": self._tile(name, self._capture(name, tile))})
            case ["collections", name, "tiles", tile, "files"]:
                return _json(self._files(name, self._capture(name, tile)))
            case ["collections", name, "tiles", tile, "files", *path]:
                return self._file(request, name, self._capture(name, tile), "/".join(path))
        raise not_found(f"Resource {request.path}")

    def _archive(self, name: str) -> Archive:
        if name in self.foreign:
            raise not_yours(name)
        if name not in self.archives:
            raise not_found(f"Collection {name}")
        return self.archives[name]

    def _capture(self, name: str, tile: str) -> Capture:
        capture = self._archive(name).by_id.get(tile)
        if capture is None:
            raise not_found(f"Tile {tile}")
        return capture

    def _page(self, request: RequestInfo, members: Sequence[Any]) -> dict[str, Any]:
        """Return a page of a list; the query gives its size and start."""
        count = _count(request.parameter("count"))
        start = _place(request.parameter("viewtoken"))
        end = start + count
        here = f"{self.base_url}{request.raw_path}"
        links: dict[str, str] = {"@id": f"{self.base_url}{request.target}"}
        if end < len(members):
            token = _token(end)
            links |= {"next": f"{here}?count={count}&viewtoken={token}", "nextToken": token}
        return {"data": list(members[start:end]), "links": links}

    def _collection(self, name: str) -> dict[str, Any]:
        captures = self.archives[name].captures
        bands = {
            band: {"source": kind.name, "bandIndex": place, "bitDepth": 16, "sampleFormat": "INT"}
            for kind in KINDS.values()
            for place, band in enumerate(kind.bands, 1)
        }
        return {
            "id": name,
            "accountId": self.user,
            "name": "Analysis-Ready PlanetScope (replica)",
            "s3Bucket": BUCKET,
            "created": _precise(captures[0].ingested),
            "requiresMetadataUpdate": False,
            "noData": NODATA,
            "isConfigured": True,
            "additionalData": {
                "bands": {band: bands[band] for band in BANDS},
                "maxMetersPerPixel": float(METRES),
                "fromSensingTime": written(captures[0].sensed),
                "toSensingTime": written(captures[-1].sensed),
            },
        }

    def _tiles(self, request: RequestInfo, name: str) -> dict[str, Any]:
        captures: Sequence[Capture] = self._archive(name).captures
        path = request.parameter("path")
        if path is not None:
            captures = [capture for capture in captures if path_of(capture, name) == path]
        page = self._page(request, captures)
        return page | {"data": [self._tile(name, capture) for capture in page["data"]]}

    def _tile(self, name: str, capture: Capture) -> dict[str, Any]:
        crs = f"EPSG::{EPSG}"
        metadata = {
            file.kind.name: {"headerSize": len(file.header), "etag": file.etag}
            for file in (file_of(capture, kind) for kind in KINDS)
        }
        additional: dict[str, Any] = {"filesMetadata": metadata} if _has_metadata(capture) else {}
        return {
            "id": capture.id,
            "created": _precise(capture.ingested),
            "ingestionStart": _precise(capture.ingested),
            "sensingTime": written(capture.sensed),
            "coverGeometry": with_crs(shapely.Polygon(capture.cover), crs),
            "tileGeometry": with_crs(shapely.box(*capture.square.bounds, ccw=False), crs),
            "path": path_of(capture, name),
            "status": "INGESTED",
            "additionalData": additional
            | {"minMetersPerPixel": float(METRES), "maxMetersPerPixel": float(METRES)},
        }

    def _files(self, name: str, capture: Capture) -> list[str]:
        """Return the names of a tile's files."""
        pattern = path_of(capture, name).rpartition("/")[2]
        return [pattern.replace("(BAND)", kind) for kind in KINDS]

    def _file(self, request: RequestInfo, name: str, capture: Capture, path: str) -> ReplicaReply:
        for kind, known in zip(KINDS, self._files(name, capture), strict=True):
            if path == known:
                return _sent(request, capture, file_of(capture, kind))
        raise not_found(f"File {path}")


@lru_cache(maxsize=256)
def file_of(capture: Capture, kind: str) -> RasterFile:
    return RasterFile(capture, KINDS[kind])


def _sent(request: RequestInfo, capture: Capture, file: RasterFile) -> ReplicaReply:
    """Return the reply with a file or a range of it (RFC 9110, 14)."""
    modified = capture.ingested.replace(microsecond=0)
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": file.etag,
        "Last-Modified": http_date(modified),
    }
    status = precondition(request.headers, file.etag, modified)
    if status is not None:
        return ReplicaReply(status, headers, kind="file")
    try:
        span = byte_range(request.headers.get("range"), file.size)
    except RangeNotSatisfiable:
        return ReplicaReply(416, {**headers, "Content-Range": f"bytes */{file.size}"}, kind="file")
    if span is None or not range_still_valid(request.headers.get("if-range"), file.etag, modified):
        return ReplicaReply(200, headers, _body(file, 0, file.size), kind="file")
    start, stop = span
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    return ReplicaReply(206, headers, _body(file, start, stop), kind="file")


def _body(file: RasterFile, start: int, stop: int) -> bytes | Stream:
    if stop - start <= LARGE:
        return file.read(start, stop)
    return Stream(stop - start, lambda first, last: file.read(start + first, start + last))


def _has_metadata(capture: Capture) -> bool:
    words = capture.seed, capture.day.toordinal(), capture.square.column, capture.square.row
    return capture.printed is not None or mix(*words, 80) % _WITHOUT_METADATA != 0


def _precise(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _count(text: str | None) -> int:
    if text is None:
        return _MOST
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise bad_payload(f"count must be a whole number from 1 to {_MOST}.", "count")
    return int(text)


def _token(place: int) -> str:
    return base64.urlsafe_b64encode(f"from {place}".encode()).decode().rstrip("=")


def _place(token: str | None) -> int:
    if token is None:
        return 0
    try:
        word, number = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().split(" ")
        if word != "from":
            raise bad_payload("Invalid viewtoken.", "viewtoken")
        return int(number)
    except (binascii.Error, ValueError) as error:
        raise bad_payload("Invalid viewtoken.", "viewtoken") from error


def _json(document: Any) -> ReplicaReply:
    headers = {"Content-Type": "application/json;charset=utf-8"}
    return ReplicaReply(200, headers, orjson.dumps(document), kind="byoc", compressible=True)
