"""BYOC (bring your own COG): collections, their tiles, and the files of a tile, whole or by ranges.

It serves only the owner of a collection; others get a 403. Lists are paged by `viewtoken`, with at most 100
entries per page. Some tiles have no `filesMetadata`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import shapely

from stacpull_replicas.draws import mix
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, http_date, json_reply, select
from stacpull_replicas.sentinelhub.captures import BANDS, Archive, Capture
from stacpull_replicas.sentinelhub.catalog_service import BUCKET, path_of, with_crs
from stacpull_replicas.sentinelhub.geotiff import KINDS, RasterFile
from stacpull_replicas.sentinelhub.scenes import NODATA
from stacpull_replicas.sentinelhub.sentinelhub_service import (
    JSON,
    Refusal,
    bad_payload,
    check_method,
    not_found,
)
from stacpull_replicas.sentinelhub.statistics_service import written
from stacpull_replicas.sentinelhub.tile_grid import EPSG, METRES

ROOT = "/api/v1/byoc"
_MAX_COUNT = 100
_WITHOUT_METADATA = 25
"""One of this many tiles has no filesMetadata (but never a tile of the notebook)."""


class Byoc(msgspec.Struct, frozen=True):
    """The collections of the account, and the ids of collections of other accounts."""

    archives: Mapping[str, Archive]
    foreign: frozenset[str]
    user: str
    base_url: str

    def respond(self, request: RequestInfo, below: str) -> ReplicaReply:
        check_method(request, "GET", "HEAD")
        match below.strip("/").split("/"):
            case ["collections"]:
                members = [self._collection(name) for name in self.archives]
                return json_reply(self._page(request, members), "byoc", JSON)
            case ["collections", name]:
                self._archive(name)
                return json_reply({"data": self._collection(name)}, "byoc", JSON)
            case ["collections", name, "tiles"]:
                return json_reply(self._tiles(request, name), "byoc", JSON)
            case ["collections", name, "tiles", tile]:
                return json_reply({"data": self._tile(name, self._capture(name, tile))}, "byoc", JSON)
            case ["collections", name, "tiles", tile, "files"]:
                return json_reply(self._files(name, self._capture(name, tile)), "byoc", JSON)
            case ["collections", name, "tiles", tile, "files", *path]:
                return self._file(request, name, self._capture(name, tile), "/".join(path))
        raise not_found(f"Resource {request.path}")

    def _archive(self, name: str) -> Archive:
        if name in self.foreign:
            message = f"You do not have sufficient permissions to access collection {name}."
            raise Refusal(403, "COMMON_INSUFFICIENT_PERMISSIONS", message)
        if name not in self.archives:
            raise not_found(f"Collection {name}")
        return self.archives[name]

    def _capture(self, name: str, tile: str) -> Capture:
        capture = self._archive(name).by_id.get(tile)
        if capture is None:
            raise not_found(f"Tile {tile}")
        return capture

    def _page(self, request: RequestInfo, members: Sequence[Any]) -> dict[str, Any]:
        numbers = []
        for name, default in (("count", _MAX_COUNT), ("viewtoken", 0)):
            text = request.parameter(name) or str(default)
            if (
                not text.isascii()
                or not text.isdigit()
                or (name == "count" and not 1 <= int(text) <= _MAX_COUNT)
            ):
                raise bad_payload(f"Invalid {name}: {text}", name)
            numbers.append(int(text))
        count, start = numbers
        end = start + count
        links: dict[str, Any] = {"@id": f"{self.base_url}{request.target}"}
        if end < len(members):
            here = f"{self.base_url}{request.raw_path}"
            links |= {"next": f"{here}?count={count}&viewtoken={end}", "nextToken": str(end)}
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
        additional: dict[str, Any] = {}
        words = capture.seed, capture.day.toordinal(), capture.square.column, capture.square.row
        if capture.printed is not None or mix(*words, 80) % _WITHOUT_METADATA:
            additional["filesMetadata"] = metadata
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
        pattern = path_of(capture, name).rpartition("/")[2]
        return [pattern.replace("(BAND)", kind) for kind in KINDS]

    def _file(self, request: RequestInfo, name: str, capture: Capture, path: str) -> ReplicaReply:
        for kind, known in zip(KINDS, self._files(name, capture), strict=True):
            if path == known:
                file = file_of(capture, kind)
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Accept-Ranges": "bytes",
                    "ETag": file.etag,
                    "Last-Modified": http_date(file.modified),
                }
                status, extra, body = select(request.headers, file, file.etag)
                return ReplicaReply(status, headers | extra, body, kind="file")
        raise not_found(f"File {path}")


@lru_cache(maxsize=256)
def file_of(capture: Capture, kind: str) -> RasterFile:
    return RasterFile(capture, KINDS[kind])


def _precise(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
