"""stac-fastapi with pgstac, on a PostgreSQL of its own: a STAC API whose filters none of us wrote."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.servers.process import is_listening, program_path, running
from tests.serving import free_ports

_POSTGRES = Path("/usr/lib/postgresql/15/bin")
"""Where Debian puts it; 15 is what the extension of the same number was made for."""
_POSTGIS = _POSTGRES.parent / "lib" / "postgis-3.so"
_USER = "stac"


@dataclass(frozen=True)
class Pgstac:
    """A service that runs; `environment` is what its own tools want."""

    url: str
    environment: Mapping[str, str]
    work: Path

    def load(self, collections: Iterable[Mapping[str, Any]], items: Iterable[Mapping[str, Any]]) -> None:
        for kind, documents in (("collections", collections), ("items", items)):
            file = self.work / f"{kind}.ndjson"
            file.write_bytes(b"\n".join(orjson.dumps(one) for one in documents))
            _run([_tool("pypgstac"), "load", kind, str(file), "--method", "upsert"], self.environment)


@contextmanager
def pgstac(work: Path) -> Iterator[Pgstac]:
    """Start database and service in `work`, empty; skips the test if a part of them is not installed."""
    if not _POSTGIS.exists():
        pytest.skip("PostgreSQL 15 with PostGIS is not installed: bash scripts/install-test-tools")
    pypgstac = _tool("pypgstac")
    database = free_ports(2)
    port = database + 1
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(database),
        "PGUSER": _USER,
        "PGDATABASE": _USER,
        "PGPASSWORD": "none",
        "PYTHONPATH": "",
    }
    serve = [_tool("uvicorn"), "stac_fastapi.pgstac.app:create_app", "--factory", "--host", "127.0.0.1"]
    with _postgres(work, database):
        _run([str(_POSTGRES / "createdb"), "-w", _USER], {**environment, "PGDATABASE": "postgres"})
        _run([pypgstac, "migrate"], environment)
        with running(
            [*serve, "--port", str(port)], work / "api.out", ready=lambda: is_listening(port), env=environment
        ):
            yield Pgstac(f"http://127.0.0.1:{port}", environment, work)


@contextmanager
def _postgres(work: Path, port: int) -> Iterator[None]:
    """Run a database without durability: it lives as long as the tests.

    It is outside of pytest's folders, which every session shuts for all but its own user.
    """
    with tempfile.TemporaryDirectory(prefix="stacpull-pg-") as home:
        prefix: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(home, "postgres")
            prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        data = f"{home}/data"
        init = ["-U", _USER, "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        _run([*prefix, str(_POSTGRES / "initdb"), "-D", data, *init], os.environ, cwd=Path(home))
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": home, "fsync": "off"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [*prefix, str(_POSTGRES / "postgres"), "-D", data, "-p", str(port), *settings]
        asked = [str(_POSTGRES / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        takes_queries = lambda: subprocess.run(asked, check=False).returncode == 0  # noqa: E731
        with running(command, work / "pg.out", ready=takes_queries, patience=20):
            yield


def _tool(name: str) -> str:
    return program_path(name, venv="pgstac")


def _run(command: list[str], environment: Mapping[str, str], cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, env=dict(environment), cwd=cwd, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{command[:3]} failed:\n{done.stderr.decode()[-2000:]}"
