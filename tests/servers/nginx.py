"""nginx, the HTTP that most origins speak: ranges and conditions by RFC 9110, limits as operators set them.

/files/…      as they are                /slow/…      512 KB/s
/few/…        10 requests/s, else 429    /busy/…      the same, else 503 with Retry-After
/moved/…      redirects to /files/…      /to/URL      redirects to URL, to the letter
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.servers.process import is_listening, program_path, running
from tests.serving import free_ports

SLOW_RATE = 512 * 1024

_CONFIGURATION = """
worker_processes 1; daemon off; master_process off; pid {work}/pid; error_log {work}/error.log warn;
events {{ worker_connections 256; }}
http {{
  log_format answers '$status $body_bytes_sent "$request_uri"';
  access_log {work}/access.log answers;
  {temporary}
  default_type application/octet-stream; sendfile on; gzip_static off; merge_slashes off;
  map $request_uri $moved {{ ~^/moved(?<rest>.*)$ $rest; }}
  map $request_uri $target {{ ~^/to/(?<url>.*)$ $url; }}
  limit_req_zone $server_name zone=few:1m rate=10r/s;
  limit_req_zone $server_name zone=busy:1m rate=10r/s;
  server {{
    listen 127.0.0.1:{port}; server_name origin;
    location /files/ {{ alias {root}/; }}
    location /moved/ {{ return 302 $scheme://$http_host/files$moved; }}
    location /to/ {{ return 302 $target; }}
    location /slow/ {{ alias {root}/; limit_rate {rate}; sendfile_max_chunk 32k; }}
    location /few/ {{ alias {root}/; limit_req zone=few burst=4 nodelay; limit_req_status 429; }}
    location /busy/ {{ alias {root}/; limit_req zone=busy burst=4 nodelay; limit_req_status 503;
                       error_page 503 @busy; }}
    location @busy {{ add_header Retry-After 1 always; return 503; }}
  }}
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Nginx:
    """A server that runs; the files below `root` are what it serves."""

    port: int
    root: Path
    log: Path
    seconds: Iterator[int] = field(default_factory=lambda: count(1_600_000_000))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, name: str, body: bytes) -> str:
        """Write a file at once and return its name.

        Each is a second younger than the one before: nginx makes ETags of size and second, so that one of the
        same length that replaces another within a second cannot be distinguished from it.
        """
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name("new")
        new.write_bytes(body)
        second = next(self.seconds)
        os.utime(new, (second, second))
        new.replace(path)
        return name

    def answers(self, prefix: str) -> list[int]:
        found = re.findall(rf'^(\d+) \d+ "{re.escape(prefix)}', self.log.read_text(), re.MULTILINE)
        return [int(status) for status in found]


@contextmanager
def nginx(work: Path) -> Iterator[Nginx]:
    command = program_path("nginx")
    root = work / "root"
    root.mkdir()
    port = free_ports(1)
    temporary = " ".join(f"{kind}_temp_path {work}/{kind};" for kind in _TEMPORARY)
    (work / "nginx.conf").write_text(
        _CONFIGURATION.format(work=work, root=root, port=port, temporary=temporary, rate=SLOW_RATE)
    )
    arguments = [command, "-e", str(work / "error.log"), "-c", str(work / "nginx.conf")]
    with running(arguments, work / "nginx.out", ready=lambda: is_listening(port)):
        yield Nginx(port, root, work / "access.log")
