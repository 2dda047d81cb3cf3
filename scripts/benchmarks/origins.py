"""The origin of a benchmark: nginx with one worker, radosgw, or the replica.

nginx serves files and STAC pages over HTTP or HTTPS, with a redirect to each file, or as a public S3 bucket
that ignores signatures. radosgw is an S3 that verifies signatures. If nginx is not installed, the replica
takes its place; its speed proves nothing, and the report notes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from scripts.benchmarks.authority import certificate
from scripts.benchmarks.lacking import Unavailable, program
from scripts.benchmarks.links import Link
from scripts.benchmarks.mixes import BUCKET, COLLECTION, File, write_pages
from tests.servers.process import ROOT, running
from tests.serving import free_ports

KINDS = ("http", "https", "s3-anonymous", "s3-signed", "s3-radosgw")
CAPPED = 20 << 20
"""Bytes per second and connection of a capped origin."""
_AT_FULL_SPEED = 4 << 20  # nginx limits the rate of a connection after this many bytes
KEYS = ("AKIABENCHBENCHBENCH0", "bench-secret-bench-secret-bench-secret-0")
"""Access key and secret, only for benchmarks."""
_UPLOADS = 16
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_NGINX = """
worker_processes 1; daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000; {temporary}
  default_type application/octet-stream;
  server {{
    listen {host}:{port}{tls}; root {root};
    location /{bucket}/ {{ {rate} }}
    location /r/ {{ rewrite ^/r/(.*)$ /{bucket}/$1 redirect; }}
    location = /collections/{collection} {{ default_type application/json;
      try_files /collections/{collection}/collection.json =404; }}
    location /collections/ {{ default_type application/json; }}
  }}
}}
"""


@dataclass(frozen=True)
class Origin:
    """A running origin. `base` is its root URL, `root` the directory that it serves.

    `endpoint` is the URL of the S3 endpoint, None for HTTP; `keys` are set if requests must be signed.
    `authority` is the certificate to trust for HTTPS.
    """

    about: str
    base: str
    root: Path
    authority: Path | None = None
    endpoint: str | None = None
    keys: tuple[str, str] | None = None

    @property
    def source(self) -> str:
        """The SOURCE argument for stacpull: the items of the collection."""
        return f"{self.base}/collections/{COLLECTION}/items"

    @property
    def documents(self) -> Path:
        """The file with the same items in one FeatureCollection."""
        return self.root / "items.json"

    def url(self, file: File) -> str:
        """Return the HTTP URL of a file."""
        if self.endpoint is None:
            return f"{self.base}/r/{file.path}"
        return f"{self.endpoint}/{BUCKET}/{file.path}"

    def href(self, file: File) -> str:
        """Return the href of the asset of a file."""
        return self.url(file) if self.endpoint is None else f"s3://{BUCKET}/{file.path}"


@contextlib.contextmanager
def origin(
    kind: str, link: Link, root: Path, files: list[File], work: Path, *, capped: bool = False
) -> Iterator[Origin]:
    """Serve the `files` below `root` as one of `KINDS`. Raises Unavailable."""
    with contextlib.ExitStack() as running_servers:
        served = running_servers.enter_context(_server(kind, link, root, work, capped=capped))
        if kind == "s3-radosgw":
            served = running_servers.enter_context(_radosgw(served, files, work))
        write_pages(root, served.base, files, served.href)
        yield served


def _server(
    kind: str, link: Link, root: Path, work: Path, *, capped: bool
) -> contextlib.AbstractContextManager[Origin]:
    try:
        command = program("nginx")
    except Unavailable:
        if kind == "https" or link.origin or capped:
            raise
        return _replica(kind, root, work)
    return _nginx(command, kind, link, root, work, capped=capped)


@contextlib.contextmanager
def _nginx(command: str, kind: str, link: Link, root: Path, work: Path, *, capped: bool) -> Iterator[Origin]:
    port = link.port()
    secured = certificate(work, link.host) if kind == "https" else None
    text = _NGINX.format(
        work=work,
        root=root,
        host=link.host,
        port=port,
        bucket=BUCKET,
        collection=COLLECTION,
        temporary=" ".join(f"{place}_temp_path {work}/{place};" for place in _TEMPORARY),
        tls=f" ssl; ssl_certificate {secured.server}; ssl_certificate_key {secured.key}" if secured else "",
        rate=f"limit_rate {CAPPED}; limit_rate_after {_AT_FULL_SPEED};" if capped else "",
    )
    (work / "nginx.conf").write_text(text)
    base = f"{'https' if secured else 'http'}://{link.host}:{port}"
    start = [*link.origin, command, "-e", str(work / "error.log"), "-c", str(work / "nginx.conf")]
    with running(start, work / "nginx.out", ready=lambda: link.is_up(port)):
        about = f"nginx {_version([command, '-v'])}, one worker"
        yield _as(kind, Origin(about, base, root, secured.authority if secured else None))


@contextlib.contextmanager
def _replica(kind: str, root: Path, work: Path) -> Iterator[Origin]:
    """Serve with the replica (serving.py) on the loopback, without TLS."""
    port = free_ports(1)
    keys = KEYS if kind == "s3-signed" else ()
    command = [sys.executable, "-m", "scripts.benchmarks.serving", str(root), str(port), *keys]
    log = work / "replica.log"
    with running(command, log, ready=lambda: b"ready" in log.read_bytes(), env=_importing()):
        yield _as(kind, Origin("the replica, whose speed proves nothing", f"http://127.0.0.1:{port}", root))


def _as(kind: str, served: Origin) -> Origin:
    """Return the origin as a client of this kind sees it."""
    if not kind.startswith("s3"):
        return served
    return replace(served, endpoint=served.base, keys=KEYS if kind == "s3-signed" else None)


@contextlib.contextmanager
def _radosgw(pages: Origin, files: list[File], work: Path) -> Iterator[Origin]:
    """Put the files into radosgw; `pages` still serves the STAC pages."""
    for name in radosgw_programs():
        program(name)
    from tests.servers.radosgw import OWNER, radosgw  # noqa: PLC0415 - imports boto3

    place = work / "radosgw"
    place.mkdir()
    size = sum(file.size for file in files)
    with radosgw(place, memory=max(2 << 30, 16 * size)) as gateway:  # runs may store copies there
        keys = OWNER.access_key, OWNER.secret_key
        _fill(gateway.url, keys, pages.root, files)
        about = f"radosgw {_version(['radosgw', '--version'])}, signatures verified"
        yield replace(pages, about=about, endpoint=gateway.url, keys=keys)


def radosgw_programs() -> tuple[str, ...]:
    """Return the programs that a radosgw needs."""
    return "radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool"


def _fill(endpoint: str, keys: tuple[str, str], root: Path, files: list[File]) -> None:
    import boto3  # noqa: PLC0415 - takes long to import

    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )
    s3.create_bucket(Bucket=BUCKET)
    with ThreadPoolExecutor(_UPLOADS) as pool:
        list(pool.map(_upload, repeat(s3.put_object), repeat(root / BUCKET), files))


def _upload(put: Callable[..., object], folder: Path, file: File) -> None:
    put(Bucket=BUCKET, Key=file.path, Body=(folder / file.path).read_bytes())


def _importing() -> dict[str, str]:
    """Return an environment in which Python finds this package from any directory."""
    places = str(ROOT), os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else ""
