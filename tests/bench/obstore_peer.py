"""What a user of obstore would write to download a list of files. Run by the Python that has obstore.

    python obstore_peer.py TASK

TASK is the JSON that tests/bench/tools.py writes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import obstore  # type: ignore[import-not-found] # in a venv of its own
from obstore.store import HTTPStore, S3Store  # type: ignore[import-not-found]

STREAMED = 8 << 20
"""Files from this size on are written while they come in."""


def open_store(task: dict[str, Any]) -> Any:
    """The store of a task: one HTTP root, or a bucket with or without signatures."""
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
        dest.write_bytes(await reply.bytes_async())  # noqa: ASYNC240 - as a user would
        return
    with dest.open("wb") as out:
        async for chunk in reply.stream(min_chunk_size=STREAMED):
            out.write(chunk)


async def main(task: dict[str, Any]) -> None:
    """Download all files, as many at once as the task says."""
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
    os._exit(0)  # obstore 0.12 now and then aborts while Python is taken down, with all files in place
