"""The origin of a benchmark: nginx with one worker.

It serves files and STAC pages over HTTP or HTTPS, with a redirect to each file, or as an S3 bucket that
ignores signatures.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.lacking import program
from scripts.benchmarks.mixes import BUCKET, COLLECTION, File, write_pages
from tests.security.authority import Authority
from tests.servers.process import is_listening, running
from tests.serving import free_ports

_HOST = "127.0.0.1"
KEYS = ("AKIABENCHBENCHBENCH0", "bench-secret-bench-secret-bench-secret-0")
"""Access key and secret, only for benchmarks."""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_NGINX = """
worker_processes 1; daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000; {temporary}
  default_type application/octet-stream;
  server {{
    listen {host}:{port}{tls}; root {root};
    location /{bucket}/ {{ }}
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
def origin(kind: str, root: Path, files: list[File], work: Path) -> Iterator[Origin]:
    """Serve the `files` below `root`: over "http" or "https", or as "s3-signed". Raises Unavailable."""
    command, port = program("nginx"), free_ports(1)
    tls, trusted = "", None
    if kind == "https":
        program("openssl")
        authority = Authority(work / "tls")
        certificate, key = authority.certificate(_HOST)
        tls, trusted = f" ssl; ssl_certificate {certificate}; ssl_certificate_key {key}", authority.bundle
    text = _NGINX.format(
        work=work,
        root=root,
        host=_HOST,
        port=port,
        bucket=BUCKET,
        collection=COLLECTION,
        temporary=" ".join(f"{place}_temp_path {work}/{place};" for place in _TEMPORARY),
        tls=tls,
    )
    (work / "nginx.conf").write_text(text)
    base = f"{'https' if tls else 'http'}://{_HOST}:{port}"
    is_bucket = kind == "s3-signed"
    served = Origin(
        f"nginx {_version([command, '-v'])}, one worker",
        base,
        root,
        trusted,
        base if is_bucket else None,
        KEYS if is_bucket else None,
    )
    start = [command, "-e", str(work / "error.log"), "-c", str(work / "nginx.conf")]
    with running(start, work / "nginx.out", ready=lambda: is_listening(port)):
        write_pages(root, base, files, served.href)
        yield served


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else ""
