"""stacpull and the tools it is compared with: how each is found and run, and what it supports.

The other tools get a list of URLs, 64 connections and their fastest options. None has a ledger or syncs its
files. stacpull runs with its defaults: walk, redirects, transfer, sha256, item JSON, group sync, ledger.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmarks.bucket_destination import PREFIX, BucketDestination
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.mixes import COLLECTION, File
from scripts.benchmarks.origins import Origin
from scripts.benchmarks.report import OURS
from tests.servers.process import TOOLS as VENVS

CONNECTIONS = 64
_LARGE = 32 << 20
"""Larger files are split over several connections by tools that can."""
_REGION = "us-east-1"
_INSTALL = "bash scripts/install-bench-tools"


@dataclass(frozen=True)
class Task:
    """The files and the destination of a download. `work` is an empty directory for the lists of a tool.

    With a `bucket`, `dest` is only for local state of the tool.
    """

    origin: Origin
    files: list[File]
    dest: Path
    work: Path
    bucket: BucketDestination | None = None

    @property
    def is_large(self) -> bool:
        """Whether a file is large enough for several connections."""
        return max(file.size for file in self.files) >= _LARGE

    def listing(self, name: str, lines: Sequence[str]) -> str:
        """Write a list for a tool and return its path."""
        path = self.work / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return str(path)


@dataclass(frozen=True)
class Invocation:
    """A command and its additional environment variables."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tool:
    """A tool that downloads files.

    `find` returns the command to start it, `invoke` the command for a task; both raise Unavailable. `place`
    returns the path of a file in the destination; `own` are patterns of other files that the tool writes.
    `version` returns the command that prints the version.
    """

    name: str
    find: Callable[[], list[str]]
    invoke: Callable[[list[str], Task], Invocation]
    place: Callable[[File], str] = lambda file: file.path
    own: tuple[str, ...] = ()
    version: Callable[[str], list[str]] = lambda program: [program, "--version"]


def version(tool: Tool, start: list[str]) -> str:
    """Return the version of a tool. Raises Unavailable if it does not start."""
    try:
        command = tool.version(start[0])
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{start[0]} does not run ({error})") from error
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "of unknown version"


def _of_system(name: str) -> Callable[[], list[str]]:
    def find() -> list[str]:
        path = shutil.which(name)
        if path is None:
            raise Unavailable(f"not installed ({_INSTALL} {name})")
        return [path]

    return find


def _of_venv(venv: str, program: str) -> Callable[[], list[str]]:
    """Find a program in a venv or on PATH (except `python`, because the system's lacks the package)."""

    def find() -> list[str]:
        folder = (VENVS / venv / "bin").absolute()
        path = shutil.which(program, path=str(folder)) or (program != "python" and shutil.which(program))
        if not path:
            raise Unavailable(f"not installed ({_INSTALL} {venv})")
        return [path]

    return find


def _signing(endpoint: str | None, keys: tuple[str, str] | None) -> dict[str, str]:
    """Return the environment of a client of a bucket service; empty if there is none."""
    if endpoint is None or keys is None:
        return {}
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_REGION": _REGION,
        "AWS_DEFAULT_REGION": _REGION,
    }


def _needs_directory(task: Task) -> None:
    if task.bucket:
        raise Unavailable("does not copy into a bucket")


def _needs_http(task: Task) -> None:
    if task.origin.keys:
        raise Unavailable("does not read this bucket")


def _find_stacpull() -> list[str]:
    command = Path(sys.executable).with_name("stacpull")
    if not command.exists():
        raise Unavailable(f"not installed beside {sys.executable} (bash scripts/make-venv)")
    return [str(command)]


def _stacpull(start: list[str], task: Task) -> Invocation:
    origin = task.origin
    command = [*start, "mirror", origin.source, str(task.dest)]
    environment = _signing(origin.endpoint, origin.keys)
    if task.bucket:
        endpoint = task.bucket.gateway.endpoint
        command[-1:] = [task.bucket.url, "--work", str(task.dest)]
        command += ["--dest-endpoint-url", endpoint, "--dest-region", _REGION]
        environment |= _signing(endpoint, task.bucket.gateway.keys)
    if origin.authority:
        command += ["--ca-bundle", str(origin.authority)]
    if origin.endpoint:
        command += ["--endpoint-url", origin.endpoint, "--region", _REGION]
    return Invocation(command, environment)


def _ours(file: File) -> str:
    return f"{COLLECTION}/{file.item}/{file.key}{file.suffix}"


_OUR_DOCUMENTS = (".stacpull/*", "catalog.json", f"{COLLECTION}/collection.json", f"{COLLECTION}/*/*.json")


def _curl(start: list[str], task: Task) -> Invocation:
    """Pass all URLs in one configuration. curl signs for S3 itself, but 7.88 lacks a header S3 requires."""
    _needs_directory(task)
    lines = [f'url = "{task.origin.url(f)}"\noutput = "{task.dest}/{f.path}"' for f in task.files]
    config = task.listing("curl.cfg", lines)
    command = [*start, "--disable", "--silent", "--show-error", "--fail", "--location", "--create-dirs"]
    command += ["--parallel", "--parallel-max", str(CONNECTIONS)]
    if task.origin.authority:
        command += ["--cacert", str(task.origin.authority)]
    if task.origin.keys:
        command += ["--aws-sigv4", f"aws:amz:{_REGION}:s3", "--user", ":".join(task.origin.keys)]
        command += ["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    return Invocation([*command, "--config", config])


def _wget2(start: list[str], task: Task) -> Invocation:
    _needs_directory(task)
    _needs_http(task)
    urls = task.listing("wget2.txt", [task.origin.url(file) for file in task.files])
    command = [
        *start,
        "--quiet",
        "--no-config",
        f"--max-threads={CONNECTIONS}",
        f"--directory-prefix={task.dest}",
    ]
    command += ["--force-directories", "--no-host-directories", "--cut-dirs=1", f"--input-file={urls}"]
    if task.origin.authority:
        command.append(f"--ca-certificate={task.origin.authority}")
    return Invocation(command)


def _aria2(start: list[str], task: Task) -> Invocation:
    _needs_directory(task)
    _needs_http(task)
    entries = [f"{task.origin.url(f)}\n  dir={task.dest}/{f.item}\n  out={f.name}" for f in task.files]
    urls = task.listing("aria2.txt", entries)
    command = [
        *start,
        "--quiet",
        "--no-conf",
        f"--max-concurrent-downloads={CONNECTIONS}",
        f"--input-file={urls}",
    ]
    command.append("--file-allocation=none")
    if task.is_large:
        command += ["--split=8", "--max-connection-per-server=8"]
    if task.origin.authority:
        command.append(f"--ca-certificate={task.origin.authority}")
    return Invocation(command)


def _stac_asset(start: list[str], task: Task) -> Invocation:
    _needs_directory(task)
    _needs_http(task)
    command = [*start, "download", str(task.origin.documents), str(task.dest), "--quiet", "--fail-fast"]
    command += ["--max-concurrent-downloads", str(CONNECTIONS)]
    authority = task.origin.authority  # it has no option for that
    return Invocation(command, {"SSL_CERT_FILE": str(authority)} if authority else {})


def _s5cmd(start: list[str], task: Task) -> Invocation:
    origin = task.origin
    if origin.endpoint is None:
        raise Unavailable("speaks S3 only")
    lines = [f"cp {origin.href(file)} {task.dest}/{file.path}" for file in task.files]
    command = [*start, "--log", "error", "--numworkers", str(CONNECTIONS), "--endpoint-url", origin.endpoint]
    environment = _signing(origin.endpoint, origin.keys)
    return Invocation([*command, "run", task.listing("s5cmd.txt", lines)], environment)


def _rclone(start: list[str], task: Task) -> Invocation:
    """Run `rclone copy` with its defaults, but as many connections as the other tools have.

    `--no-traverse`: a web server that lists no directories needs it.
    """
    if task.bucket is None:
        raise Unavailable("is only measured with a bucket as destination")
    command = [*start, "--config", os.devnull, "copy", "--no-traverse"]
    command += ["--transfers", str(CONNECTIONS), "--checkers", str(CONNECTIONS)]
    command += ["--files-from-raw", task.listing("rclone.txt", [file.path for file in task.files])]
    command += ["--http-url", f"{task.origin.base}/r"]
    environment = {
        "RCLONE_CONFIG_DEST_TYPE": "s3",
        "RCLONE_CONFIG_DEST_PROVIDER": "Ceph",
        "RCLONE_CONFIG_DEST_ENDPOINT": task.bucket.gateway.endpoint,
        "RCLONE_CONFIG_DEST_REGION": _REGION,
        "RCLONE_CONFIG_DEST_ACCESS_KEY_ID": task.bucket.gateway.keys[0],
        "RCLONE_CONFIG_DEST_SECRET_ACCESS_KEY": task.bucket.gateway.keys[1],
    }
    return Invocation([*command, ":http:", f"dest:{task.bucket.name}/{PREFIX}"], environment)


def _find_obstore() -> list[str]:
    """stacpull needs obstore as well, so this interpreter has it if it has no venv of its own."""
    python = VENVS.absolute() / "obstore" / "bin" / "python"
    return [str(python) if python.exists() else sys.executable]


def _obstore(start: list[str], task: Task) -> Invocation:
    """Run obstore_peer.py with the task in a file."""
    origin = task.origin
    settings = {
        "base": f"{origin.base}/r" if origin.endpoint is None else None,
        "endpoint": origin.endpoint,
        "keys": origin.keys,
        "authority": str(origin.authority) if origin.authority else None,
        "files": [(file.path, file.size) for file in task.files],
        "dest": str(task.dest),
        "connections": CONNECTIONS,
        "bucket": task.bucket
        and [task.bucket.name, f"{PREFIX}/", task.bucket.gateway.endpoint, *task.bucket.gateway.keys],
    }
    script = Path(__file__).with_name("obstore_peer.py")
    return Invocation(
        [*start, "-X", "faulthandler", str(script), task.listing("obstore.json", [json.dumps(settings)])]
    )


def _of_package(name: str) -> Callable[[str], list[str]]:
    """Return the command that prints the version of a package in the venv of a program."""
    script = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    return lambda program: [str(Path(program).with_name("python")), "-c", script]


TOOLS = (
    Tool(OURS, _find_stacpull, _stacpull, _ours, _OUR_DOCUMENTS),
    Tool("curl", _of_system("curl"), _curl),
    Tool("wget2", _of_system("wget2"), _wget2),
    Tool("aria2c", _of_system("aria2c"), _aria2),
    Tool("stac-asset", _of_venv("stac-asset", "stac-asset"), _stac_asset, own=("item-collection.json",),
         version=_of_package("stac-asset")),
    Tool("s5cmd", _of_venv("s5cmd", "s5cmd"), _s5cmd, version=lambda program: [program, "version"]),
    Tool("rclone", _of_venv("rclone", "rclone"), _rclone, version=lambda program: [program, "version"]),
    Tool("obstore", _find_obstore, _obstore, version=_of_package("obstore")),
)  # fmt: skip


def environment(invocation: Invocation, home: Path) -> dict[str, str]:
    """Return the environment of a tool: the PATH of this user, but an empty home."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH") if name in os.environ}
    usual = {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true"}
    return kept | usual | invocation.environment
