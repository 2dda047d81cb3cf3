"""The schemas that validators request from the network, served on loopback.

Those of STAC 1.0.0 and GeoJSON come from the pystac that carries them; schemas of extensions are not to be
had without a network, and are answered with one that allows everything.
"""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.servers.process import TOOLS
from tests.serving import serving


def _allows_everything(address: str) -> bytes:
    url = f"https://{address}"
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "$id": url}).encode()


def bundled() -> dict[str, bytes]:
    """Host and path of each schema that pystac carries; skips the test if it is not installed."""
    folders = list((TOOLS / "stac-schemas").glob("lib/*/site-packages/pystac/validation/jsonschemas"))
    if not folders:
        pytest.skip("the schemas of STAC 1.0.0 are not installed: bash scripts/install-test-tools")
    found = {f"geojson.org/schema/{path.name}": path.read_bytes() for path in folders[0].glob("geojson/*")}
    for path in folders[0].glob("stac-spec/v1.0.0/*.json"):
        name = path.stem
        own = name in {"item", "collection", "catalog"}
        folder = f"{name}-spec" if own else "item-spec"
        found[f"schemas.stacspec.org/v1.0.0/{folder}/json-schema/{path.name}"] = path.read_bytes()
    return found


@dataclass
class Schemas:
    port: int
    unknown: list[str] = field(default_factory=list)
    served: set[str] = field(default_factory=set)


@contextmanager
def serving_schemas() -> Iterator[Schemas]:
    known = bundled()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = f"{self.headers['Host'].partition(':')[0]}{self.path.partition('#')[0]}"
            body = known.get(address)
            if body is None and address.startswith("stac-extensions.github.io/"):
                body = _allows_everything(address)
            (schemas.unknown.append if body is None else schemas.served.add)(address)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    schemas = Schemas(server.server_port)
    with serving(server):
        yield schemas
