"""A hub whose items state how many bytes their assets have: so a mirror sees what changed upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec.structs import replace

from stacpull_replicas import MlhubReplica
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo
from stacpull_replicas.object_store import DATASET_BUCKET, DATASET_PREFIX, large_key
from stacpull_replicas.replica_server import Responder

_LARGE = "large_files_v1_"


def key_of(item: str, asset: str) -> str:
    if item.startswith(_LARGE):
        return large_key(int(item.removeprefix(_LARGE)))
    patch = item.removeprefix("bigearthnet_v1_labels_").removeprefix("bigearthnet_v1_source_")
    tail = "labels_metadata.json" if asset == "labels" else f"{asset}.tif"
    return f"{DATASET_PREFIX}{patch}/{patch}_{tail}"


class SizedReplica(MlhubReplica):
    """As `MlhubReplica`, with `file:size` at each asset (https://github.com/stac-extensions/file)."""

    def responders(self) -> Mapping[str, Responder]:
        doors = dict(super().responders())
        plain = doors["api"]

        def sized(request: RequestInfo) -> ReplicaReply:
            reply = plain(request)
            return self._sized(reply) if reply.kind in {"item", "items"} and reply.status == 200 else reply

        return {**doors, "api": sized}

    def _sized(self, reply: ReplicaReply) -> ReplicaReply:
        document = orjson.loads(reply.body)
        for item in document.get("features", [document]):
            self._state_sizes(item)
        return replace(reply, body=orjson.dumps(document))

    def _state_sizes(self, item: dict[str, Any]) -> None:
        for name, asset in item["assets"].items():
            content = self.store.get(DATASET_BUCKET, key_of(item["id"], name))
            if content is not None:
                asset["file:size"] = content.size
