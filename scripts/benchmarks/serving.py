"""The replica as the origin of a benchmark, for machines without nginx.

    python -m scripts.benchmarks.serving ROOT PORT [ACCESS_KEY SECRET_KEY]

Serves the same as nginx in origins.py: STAC pages, redirects from `/r/…` to `/bench/…`, and the
files as an S3 bucket, which is public or, with keys, requires signatures.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.benchmarks.mixes import BUCKET, COLLECTION

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo
from stacpull_replicas.object_store import DirectoryStore
from stacpull_replicas.replica_server import ReplicaServer, Responder, fast_loop
from stacpull_replicas.s3_service import S3Access, S3Service

_PAGES = f"/collections/{COLLECTION}"


class BenchReplica(ReplicaServer):
    """A server for pages, redirects and files."""

    server_names = ("bench",)

    def __init__(self, root: Path, port: int, access: S3Access) -> None:
        super().__init__(port=port)
        self._root = root
        self._files = S3Service(DirectoryStore(root), access)

    def responders(self) -> Mapping[str, Responder]:
        """Return the only service."""
        return {"bench": self.respond}

    def respond(self, request: RequestInfo) -> ReplicaReply:
        """Answer a request."""
        path = request.path
        if path == _PAGES or path.startswith(f"{_PAGES}/"):
            return self._page(path.removeprefix(_PAGES)[1:] or "collection.json")
        if path.startswith("/r/"):
            return ReplicaReply(302, {"Location": f"/{BUCKET}/{path.removeprefix('/r/')}"}, kind="redirect")
        return self._files.respond(request)

    def _page(self, name: str) -> ReplicaReply:
        folder = self._root / "collections" / COLLECTION
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return ReplicaReply(404, kind="error")
        return ReplicaReply(200, {"Content-Type": "application/json"}, path.read_bytes(), kind="page")


async def serve(root: Path, port: int, access: S3Access) -> None:
    """Serve until the process is killed."""
    async with BenchReplica(root, port, access):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    place, number, *keys = sys.argv[1:]
    rules = S3Access(keys[0], keys[1]) if keys else S3Access("", "", anonymous=True)
    with asyncio.Runner(loop_factory=fast_loop) as runner:
        runner.run(serve(Path(place), int(number), rules))
