"""Download a list of files as a user of obstore would. Runs in the environment that has obstore.

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
    """Return the store of a task: an HTTP root, or a bucket with or without signatures."""
    client: dict[str, Any] = {"allow_http": True, "timeout": "600s"}
    if task["authority"]:
        client["root_certificate"] = Path(task["authority"]).read_text()
    if task["endpoint"] is None:
        return HTTPStore.from_url(task["base"], client_options=client)
    signing = {"skip_signature": True}
    if task["keys"]:
        signing = {"access_key_id": task["keys"][0], "secret_access_key": task["keys"][1]}
    return S3Store(
        "bench",
        endpoint=task["endpoint"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options=client,
        **signing,
    )


async def fetch(store: Any, path: str, size: int, dest: Path) -> None:
    """Download one file."""
    reply = await obstore.get_async(store, path)
    if size < STREAMED:
        dest.write_bytes(await reply.bytes_async())  # noqa: ASYNC240 - as a user would write it
        return
    with dest.open("wb") as out:
        async for chunk in reply.stream(min_chunk_size=STREAMED):
            out.write(chunk)


async def main(task: dict[str, Any]) -> None:
    """Download all files with the number of connections that the task gives."""
    store, dest = open_store(task), Path(task["dest"])
    for folder in {str(Path(path).parent) for path, _ in task["files"]}:
        (dest / folder).mkdir()
    files = iter(task["files"])

    async def work() -> None:
        for path, size in files:
            await fetch(store, path, size, dest / path)

    async with asyncio.TaskGroup() as group:
        for _ in range(task["connections"]):
            group.create_task(work())


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    os._exit(0)  # obstore 0.12 sometimes aborts at exit, with all files in place
