"""What a plain mirror imports: every module costs each run, however small, in both of its processes."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run
from tests.acceptance.small_api import SmallApi
from tests.ran import Ran

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
"""Both processes of the command end by `os._exit`, and so does the store process of a program."""

_PROGRAM = "import sys; from stacpull.sync import mirror; mirror(sys.argv[1], sys.argv[2], selection=None)"

IN_NEITHER = {
    "aioboto3", "botocore", "cql2", "matplotlib", "numpy", "pyarrow", "pystac", "shapely", "stacpull_export",
    "stacpull_raster", "stacpull_replicas", "stacpull_trace", "urllib3",
}  # fmt: skip
NOT_IN_NETWORK_PROCESS = IN_NEITHER | {
    "aiohttp", "csv", "multidict", "stacpull.aws", "stacpull.transfer.s3", "yarl",
}  # fmt: skip
NOT_IN_STORE_PROCESS = IN_NEITHER | {
    "aiofiles", "aiohttp", "asyncio", "attrs", "click", "concurrent.futures", "html", "http.client",
    "logging", "runpy", "ssl", "stacpull.filters.selection_filter", "stacpull.net", "stacpull.reports",
    "stacpull.selection", "stacpull.sources", "subprocess", "tenacity", "tqdm", "uvloop",
}  # fmt: skip


def mirror(dest: Path, env: dict[str, str], tls: ssl.SSLContext | None = None, *options: str) -> Ran:
    async def served() -> Ran:
        async with SmallApi({"c": ["1", "2", "3"]}, tls=tls) as api:
            return await asyncio.to_thread(run, ["mirror", api.url("/"), str(dest), "-C", "c", *options], env)

    return asyncio.run(served())


def noting_modules(folder: Path) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(_NOTE_MODULES.format(folder=str(folder)))
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join((str(folder), env["PYTHONPATH"]))
    return env


def test_a_plain_mirror_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    ran = mirror(tmp_path / "mirror", noting_modules(tmp_path))
    assert ran.code == 0, ran.err
    loaded = [set(found.read_text().split()) for found in tmp_path.glob("*.loaded")]
    store, network = sorted(loaded, key=lambda modules: "uvloop" in modules)
    assert network & NOT_IN_NETWORK_PROCESS == set()
    assert store & IN_NEITHER == set()


def test_the_store_process_of_a_program_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """It is a new interpreter; `run` may fork the store process of a command."""
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    program = [sys.executable, "-c", _PROGRAM, str(tmp_path / "items.json"), str(tmp_path / "mirror")]
    subprocess.run(program, env=noting_modules(tmp_path), check=True)
    (store,) = (set(found.read_text().split()) for found in tmp_path.glob("*.loaded"))
    assert "stacpull.engine.store_server" in store
    assert store & NOT_IN_STORE_PROCESS == set()


@pytest.mark.parametrize(("trusted", "code"), [(True, 0), (False, 4)])
def test_the_authorities_of_the_system_are_trusted(tmp_path, authority, trusted, code):
    """OpenSSL reads those from SSL_CERT_FILE."""
    env = environment(SSL_CERT_FILE=str(authority.bundle) if trusted else os.devnull)
    ran = mirror(tmp_path / "mirror", env, authority.server("127.0.0.1"))
    assert ran.code == code, ran.err
