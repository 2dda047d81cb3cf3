"""Shared Sentinel Hub replicas, which tests must not change, and a client."""

from collections.abc import Iterator
from dataclasses import dataclass
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

    def send(self, method: str, path: str, *, token: str | None = None, **options: Any) -> requests.Response:
        if not self.token:
            form = {
                "grant_type": "client_credentials",
                "client_id": self.replica.client_id,
                "client_secret": self.replica.client_secret,
            }
            reply = self.session.post(f"{self.replica.base_url}/oauth/token", data=form, timeout=60)
            self.token = reply.json()["access_token"]
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
