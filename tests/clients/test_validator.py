"""The hub judged by stac-api-validator 0.6.8, class by class, with the schemas of STAC 1.0.0 on loopback.

Where the service itself was not conformant (recorded), the replica must not be: findings are held exactly.
"""

import json
import re
from pathlib import Path

import pytest
from tests.clients.venv_tools import run
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer
from tests.servers.process import TOOLS


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
    """Serves the schemas that validators request from the network.

    Those of extensions are not to be had without one: their answer is a schema that allows everything.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.unknown: list[str] = []
        self.served: set[str] = set()
        self._known = bundled()

    def _turn(self, request: ReceivedRequest) -> Answer:
        address = f"{request.headers['host'].partition(':')[0]}{request.target.partition('#')[0]}"
        body = self._known.get(address)
        if body is None and address.startswith("stac-extensions.github.io/"):
            schema = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": f"https://{address}"}
            body = json.dumps(schema).encode()
        (self.unknown.append if body is None else self.served.add)(address)
        return Answer(404 if body is None else 200, body or b"", {"Content-Type": "application/json"})


EUROPE = '{"type":"Polygon","coordinates":[[[-20,30],[40,30],[40,75],[-20,75],[-20,30]]]}'
LABELS = "bigearthnet_v1_labels"
ITEMS, ITEM = f"/collections/{LABELS}/items", f"/collections/{LABELS}/items/ID"
JSON_NOT_GEOJSON = "content-type header is application/json instead of 'application/geo+json'"
TOO_LARGE = "had unexpected status code 400 instead of 200:"

FINDINGS = {
    # recorded: items and pages are application/json, and `self` of a page leads to the collection
    f"[Features] : GET {ITEMS} params=None body=None {JSON_NOT_GEOJSON}",
    f"[Features] : GET {ITEMS}?limit=1 params=None body=None {JSON_NOT_GEOJSON}",
    f"[Features] : GET {ITEMS}?limit=1&token=next%3AID params=None body=None {JSON_NOT_GEOJSON}",
    f"[Features] : GET {ITEM} params=None body=None {JSON_NOT_GEOJSON}",
    f"[Features] GET {ITEMS} self link does not match requested url",
    # inferred, as with item pages: a limit above 10,000 is refused, not cut
    *(
        f"[Item Search] : {search} {TOO_LARGE}"
        for limit in (100000, 1000000)
        for search in (
            f"GET /search params={{'limit': {limit}}} body=",
            f'POST /search params=None body={{"limit": {limit}}}',
        )
    ),
}


def findings(output: str, base: str) -> set[str]:
    errors = output.partition("Errors:")[2] if "Errors: none" not in output else ""
    lines = (line.removeprefix("- ").strip() for line in errors.splitlines())
    return {re.sub(rf"{LABELS}_\w+", "ID", line.replace(base, "")) for line in lines if line}


def test_conformance_is_that_of_the_service(hub):
    classes = [f"--conformance={name}" for name in ("core", "features", "item-search")]
    with Schemas() as schemas:
        env = {
            "PYTHONPATH": str(Path(__file__).parent / "offline"),
            "STACPULL_SCHEMAS_PORT": str(schemas.port),
        }
        done = run(
            "stac-api-validator", "stac-api-validator", "--log-level", "ERROR",
            "--root-url", f"{hub.base_url}/", "--collection", LABELS, "--geometry", EUROPE,
            "--headers", f"Authorization: Bearer {hub.key}",
            "--validate-pagination", *classes, env=env, check=False,
        )  # fmt: skip
    assert findings(done.stdout, hub.base_url) == FINDINGS, done.stderr[-2000:]
    assert done.returncode == 1
    assert schemas.unknown == []
    assert any("collection.json" in name for name in schemas.served)
