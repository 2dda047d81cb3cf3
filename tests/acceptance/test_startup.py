"""What a plain mirror imports: every module costs each run, however small, in both of its processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.acceptance.command import environment, run
from tests.acceptance.small_api import SmallApi

_NOTE_MODULES = """
import os, sys
leave = os._exit
def note(code):
    loaded = [name for name, module in sys.modules.items() if module is not None]
    with open(os.path.join({folder!r}, str(os.getpid()) + ".loaded"), "w") as out:
        out.write(" ".join(loaded))
    leave(code)
os._exit = note
"""
"""Both processes end by `os._exit`."""

IN_NEITHER = {
    "aioboto3", "botocore", "cql2", "matplotlib", "numpy", "pyarrow", "shapely", "stacpull.outputs",
    "stacpull.tiff", "stacpull_headers", "stacpull_replicas", "stacpull_trace", "urllib3",
}  # fmt: skip
NOT_IN_NETWORK_PROCESS = IN_NEITHER | {"pystac"}
NOT_IN_STORE_PROCESS = IN_NEITHER | {
    "aiofiles", "aiohttp", "asyncio", "attrs", "click", "concurrent.futures", "html", "http.client",
    "logging", "runpy", "ssl", "stacpull.filters.item_filter", "stacpull.net", "stacpull.reports",
    "stacpull.selection", "stacpull.sources", "subprocess", "tenacity", "tqdm", "uvloop",
}  # fmt: skip


def test_a_plain_mirror_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_NOTE_MODULES.format(folder=str(tmp_path)))
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), env["PYTHONPATH"]))

    async def mirror() -> int:
        async with SmallApi({"c": ["1", "2", "3"]}) as api:
            ran = await asyncio.to_thread(
                run, ["mirror", api.url("/"), str(tmp_path / "mirror"), "-C", "c"], env
            )
            return ran.code

    assert asyncio.run(mirror()) == 0
    loaded = [set(found.read_text().split()) for found in tmp_path.glob("*.loaded")]
    stores = [modules for modules in loaded if "stacpull.engine.store_server" in modules]
    networks = [modules for modules in loaded if "stacpull.fastpath.path" in modules]
    assert (len(loaded), len(stores), len(networks)) == (2, 1, 1)
    assert networks[0] & NOT_IN_NETWORK_PROCESS == set()
    assert stores[0] & NOT_IN_STORE_PROCESS == set()
