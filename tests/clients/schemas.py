"""The schemas that validators request from the network, served on loopback.

Those of STAC 1.0.0 and GeoJSON come from the pystac that carries them; schemas of extensions are not to be
had without a network, and are answered with one that allows everything.
"""

from __future__ import annotations

import json

import pytest
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer
from tests.servers.process import TOOLS


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


class Schemas(WireServer):
    """The server: the addresses that it was asked for in vain, and those that it served."""

    def __init__(self) -> None:
        super().__init__({})
        self.unknown: list[str] = []
        self.served: set[str] = set()
        self._known = bundled()

    def _turn(self, request: ReceivedRequest) -> Answer:
        address = f"{request.headers['host'].partition(':')[0]}{request.target.partition('#')[0]}"
        body = self._known.get(address)
        if body is None and address.startswith("stac-extensions.github.io/"):
            body = _allows_everything(address)
        (self.unknown.append if body is None else self.served.add)(address)
        return Answer(404 if body is None else 200, body or b"", {"Content-Type": "application/json"})
