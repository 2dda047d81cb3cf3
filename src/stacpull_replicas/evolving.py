"""A STAC API whose collection changes between two walks, to test repeated mirrors.

Each `evolve` publishes changes: items are added, removed and renamed, files change with and without another
size, items are touched, assets are added and removed. The changes are a pure function of (seed, step). They
are returned as an `Evolution`, with which a test can compare a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Unpack

import msgspec
from msgspec.structs import replace

from stacpull_replicas.draws import mix
from stacpull_replicas.faults import Responder
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, http_date, json_reply, precondition
from stacpull_replicas.object_store import Blob
from stacpull_replicas.replica_server import ReplicaServer, ServerOptions

COLLECTION = "evolving"
_BEGAN = datetime(2021, 3, 1, tzinfo=UTC)
_PER_PAGE = 10
_LENGTH = 400
_KINDS = ("added", "removed", "renamed", "rewritten", "resized", "touched", "asset_added", "asset_removed")


class EvolvingItem(msgspec.Struct, frozen=True):
    """One published item: the time of its last update, and its files by asset key."""

    updated: datetime
    files: Mapping[str, Blob]


class Evolution(msgspec.Struct):
    """The changes of one step: ids of items by kind. A renamed item is listed under its old id."""

    added: list[str] = []
    removed: list[str] = []
    renamed: list[str] = []
    rewritten: list[str] = []
    """One file has other bytes, but the same size."""
    resized: list[str] = []
    """One file has more bytes."""
    touched: list[str] = []
    """Only `updated` has changed."""
    asset_added: list[str] = []
    asset_removed: list[str] = []

    @property
    def gone(self) -> list[str]:
        return sorted(self.removed + self.renamed)

    @property
    def new(self) -> int:
        return len(self.added) + len(self.renamed)

    @property
    def changed(self) -> list[str]:
        return sorted(
            self.rewritten + self.resized + self.touched + self.asset_added + self.asset_removed,
        )


class EvolvingReplica(ReplicaServer):
    """One collection of `items` items with two files each.

    `validators` sets the validators of files: "etag" for a strong ETag and a date, "date", or "none".
    If it is not `dated`, the property `version` is in the place of `updated`.
    """

    server_names = ("api",)

    def __init__(
        self,
        *,
        items: int = 40,
        seed: int = 1,
        validators: Literal["etag", "date", "none"] = "etag",
        dated: bool = True,
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(**server)
        self.items: dict[str, EvolvingItem] = {}
        self.hidden: set[str] = set()
        """Items that exist but are on no page."""
        self._seed = seed
        self._step = 0
        self._made = 0
        self._validators = validators
        self._dated = dated
        self._next = self.items
        for _ in range(items):
            self._add()

    @property
    def base_url(self) -> str:
        """The URL of the collection, to use as SOURCE."""
        return f"{self.url('api')}/collections/{COLLECTION}"

    def files(self) -> dict[str, bytes]:
        """Return the expected files of a mirror with the default layout: content by path below DEST."""
        return {
            f"{COLLECTION}/{name}/{key}.bin": blob.data
            for name, item in self.items.items()
            for key, blob in item.files.items()
        }

    def evolve(self) -> Evolution:
        """Publish the next version. Each kind of change affects one or two items of its own."""
        self._step += 1
        evolution = Evolution()
        before, self._next = self.items, dict(self.items)
        names = sorted(before, key=lambda name: mix(self._seed, self._step, *name.encode()))
        for kind in _KINDS:
            for _ in range(1 + mix(self._seed, self._step, len(kind)) % 2):
                name = self._add() if kind == "added" else names.pop()
                getattr(evolution, kind).append(name)
                if kind != "added":
                    self._change(kind, name)
        self.items = self._next  # in one step, because another thread answers requests
        return evolution

    @property
    def _now(self) -> datetime:
        return _BEGAN + timedelta(days=self._step)

    def _add(self) -> str:
        self._made += 1
        name = f"item-{self._made:04d}"
        files = {key: self._blob(name, key) for key in ("data", "mask")}
        self._next[name] = EvolvingItem(self._now, files)
        return name

    def _blob(self, name: str, key: str, size: int = _LENGTH) -> Blob:
        text = f"{name} {key} of step {self._step:04d}\n".encode()
        return Blob((text * (size // len(text) + 1))[:size], self._now)

    def _change(self, kind: str, name: str) -> None:
        item = replace(self._next.pop(name), updated=self._now)
        files = dict(item.files)
        match kind:
            case "removed":
                return
            case "renamed":
                name = f"{name}-v{self._step}"
            case "rewritten":
                files["data"] = self._blob(name, "data", files["data"].size)
            case "resized":
                files["data"] = self._blob(name, "data", files["data"].size + 7)
            case "asset_added":
                files[f"extra{self._step}"] = self._blob(name, f"extra{self._step}")
            case "asset_removed" if len(files) > 1:
                del files[max(files.keys() - {"data"})]
        self._next[name] = replace(item, files=files)

    # --- replies -----------------------------------------------------------------------------------------

    def responders(self) -> Mapping[str, Responder]:
        return {"api": self.respond}

    def respond(self, request: RequestInfo) -> ReplicaReply:
        match request.path.strip("/").split("/"):
            case [""]:
                return json_reply(
                    {"type": "Catalog", "id": "evolving", "conformsTo": [], "links": []}, "root"
                )
            case ["collections", name] if name == COLLECTION:
                return json_reply(_COLLECTION, "collection")
            case ["collections", name, "items"] if name == COLLECTION:
                return self._page(request)
            case ["collections", name, "items", item] if name == COLLECTION and item in self.items:
                return json_reply(self._item(item), "item")
            case ["files", item, file] if item in self.items:
                return self._file(request, self.items[item].files.get(file.removesuffix(".bin")))
        return ReplicaReply(404, {"Content-Type": "application/json"}, b"{}", kind="gone")

    def _page(self, request: RequestInfo) -> ReplicaReply:
        first = int(request.parameter("offset") or 0)
        names = sorted(self.items.keys() - self.hidden)
        links = []
        if first + _PER_PAGE < len(names):
            links = [{"rel": "next", "href": f"{self.base_url}/items?offset={first + _PER_PAGE}"}]
        features = [self._item(name) for name in names[first : first + _PER_PAGE]]
        page = {"type": "FeatureCollection", "features": features, "links": links}
        return json_reply({**page, "numberMatched": len(names)}, "items")

    def _item(self, name: str) -> dict[str, Any]:
        item = self.items[name]
        version = {"updated" if self._dated else "version": item.updated.isoformat()}
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": COLLECTION,
            "geometry": None,
            "properties": {"datetime": "2021-01-01T00:00:00Z", **version},
            "links": [{"rel": "self", "href": f"{self.base_url}/items/{name}"}],
            "assets": {
                key: {"href": f"{self.url('api')}/files/{name}/{key}.bin", "file:size": blob.size}
                for key, blob in item.files.items()
            },
        }

    def _file(self, request: RequestInfo, blob: Blob | None) -> ReplicaReply:
        if blob is None:
            return ReplicaReply(404, kind="gone")
        headers = {"Content-Type": "application/octet-stream"}
        etag = f'"{blob.md5.hex()}"'
        if self._validators != "none":
            headers["Last-Modified"] = http_date(blob.modified)
        if self._validators == "etag":
            headers["ETag"] = etag
        if self._validators != "none" and precondition(request.conditions, etag, blob.modified) is not None:
            return ReplicaReply(304, headers, kind="unchanged")
        return ReplicaReply(200, headers, blob.data, kind="file")


_COLLECTION: dict[str, Any] = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": COLLECTION,
    "description": "A collection that changes between two walks.",
    "license": "CC0-1.0",
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    "links": [],
}
