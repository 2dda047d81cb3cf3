"""Download a list of files, or copy it into a bucket, as a user of obstore would, where obstore is installed.

    python obstore_peer.py TASK

TASK is the JSON file that scripts/benchmarks/tools.py writes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import obstore  # type: ignore[import-not-found] # in a separate venv
from obstore.store import HTTPStore, S3Store  # type: ignore[import-not-found]

STREAMED = 8 << 20
"""Larger files are streamed to disk."""


def open_store(task: dict[str, Any]) -> Any:
    """Return the store of a task: an HTTP root, or a bucket."""
    client: dict[str, Any] = {"allow_http": True, "timeout": "600s"}
    if task["authority"]:
        client["root_certificate"] = Path(task["authority"]).read_text()
    if task["endpoint"] is None:
        return HTTPStore.from_url(task["base"], client_options=client)
    return open_bucket("bench", "", task["endpoint"], *task["keys"])


def open_bucket(name: str, prefix: str, endpoint: str, access_key: str, secret_key: str) -> Any:
    """Return the store of a bucket."""
    return S3Store(
        name,
        prefix=prefix or None,
        endpoint=endpoint,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "600s"},
        access_key_id=access_key,
        secret_access_key=secret_key,
    )


async def fetch(store: Any, path: str, size: int, dest: Path, bucket: Any) -> None:
    """Download or copy one file."""
    reply = await obstore.get_async(store, path)
    if bucket is not None:
        body = await reply.bytes_async() if size < STREAMED else reply.stream(min_chunk_size=STREAMED)
        await obstore.put_async(bucket, path, body, chunk_size=STREAMED)
        return
    if size < STREAMED:
        dest.write_bytes(await reply.bytes_async())  # noqa: ASYNC240 - as a user would write it
        return
    with dest.open("wb") as out:
        async for chunk in reply.stream(min_chunk_size=STREAMED):
            out.write(chunk)


async def main(task: dict[str, Any]) -> None:
    """Download all files with the number of connections that the task gives."""
    store, dest = open_store(task), Path(task["dest"])
    bucket = open_bucket(*task["bucket"]) if task["bucket"] else None
    for folder in {str(Path(path).parent) for path, _ in task["files"]}:
        (dest / folder).mkdir()
    files = iter(task["files"])

    async def work() -> None:
        for path, size in files:
            await fetch(store, path, size, dest / path, bucket)

    async with asyncio.TaskGroup() as group:
        for _ in range(task["connections"]):
            group.create_task(work())


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    os._exit(0)  # obstore 0.12 sometimes aborts at exit, with all files in place
