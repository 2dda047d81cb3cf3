"""Shared Sentinel Hub replicas, which tests must not change, and a client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from stacpull_replicas import SentinelHubReplica, run_in_thread


@dataclass
class ServiceClient:
    """Sends requests to a replica with the token of its account."""

    replica: SentinelHubReplica
    session: requests.Session
    token: str = ""

    def new_token(self, path: str = "/oauth/token") -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.replica.client_id,
            "client_secret": self.replica.client_secret,
        }
        return self.session.post(self.replica.base_url + path, data=form, timeout=20)

    def send(self, method: str, path: str, *, token: str | None = None, **options: Any) -> requests.Response:
        self.token = self.token or self.new_token().json()["access_token"]
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        headers |= options.pop("headers", {})
        url = path if path.startswith("http") else self.replica.base_url + path
        return self.session.request(method, url, headers=headers, timeout=60, **options)

    def statistics(self, body: dict[str, Any]) -> dict[str, Any]:
        reply = self.send("POST", "/api/v1/statistics", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def search(self, **body: Any) -> dict[str, Any]:
        whole = {"collections": [f"byoc-{self.replica.collection_id}"], **body}
        reply = self.send("POST", "/api/v1/catalog/1.0.0/search", json=whole)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def tile(self, tile: str, below: str = "", method: str = "GET", **headers: str) -> requests.Response:
        path = f"/api/v1/byoc/collections/{self.replica.collection_id}/tiles/{tile}{below}"
        return self.send(method, path, headers=headers)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="session")
def sentinelhub() -> Iterator[SentinelHubReplica]:
    with run_in_thread(SentinelHubReplica()) as replica:
        yield replica


@pytest.fixture
def service(sentinelhub: SentinelHubReplica, session: requests.Session) -> ServiceClient:
    return ServiceClient(sentinelhub, session)


@pytest.fixture(scope="session")
def notebook(shared_data: Path) -> str:
    path = shared_data.parent / "seeds" / "000_035c6198680205f4.txt"
    if not path.is_file():
        pytest.skip(f"no notebook at {path}")
    return path.read_text()
