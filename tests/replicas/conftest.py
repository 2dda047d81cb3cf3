"""Fixtures of the replica tests: running replicas, and clients for them."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config

from stacpull_replicas import MlhubReplica, S3Access, run_in_thread


@pytest.fixture(scope="session")
def hub_2021() -> Iterator[MlhubReplica]:
    with run_in_thread(MlhubReplica(items=75, seed=7, era="2021")) as replica:
        yield replica


class HubClient:
    def __init__(self, replica: MlhubReplica, session: requests.Session) -> None:
        self.replica = replica
        self.session = session

    def get(self, path: str, *, key: bool = True, **parameters: Any) -> requests.Response:
        url = path if path.startswith("http") else self.replica.base_url + path
        if key:
            parameters["key"] = self.replica.key
        return self.session.get(url, params=parameters, allow_redirects=False, timeout=60)

    def location(self, collection: str, index: int, asset: str) -> str:
        name = self.replica.dataset.name(index)
        item = self.get(f"/collections/{collection}/items/{collection}_{name}").json()
        return self.get(item["assets"][asset]["href"], key=False).headers["Location"]


@pytest.fixture
def client_of() -> Iterator[Callable[[MlhubReplica], HubClient]]:
    with requests.Session() as session:
        yield lambda replica: HubClient(replica, session)


@pytest.fixture
def client(hub: MlhubReplica, client_of: Callable[[MlhubReplica], HubClient]) -> HubClient:
    return client_of(hub)


@pytest.fixture
def client_2021(hub_2021: MlhubReplica, client_of: Callable[[MlhubReplica], HubClient]) -> HubClient:
    return client_of(hub_2021)


@pytest.fixture(scope="session")
def boto() -> boto3.session.Session:
    return boto3.session.Session()  # loading its models takes long


@pytest.fixture
def s3_client(boto: boto3.session.Session) -> Iterator[Callable[..., Any]]:
    """Return a function that makes boto3 clients for an endpoint, by default with its own keys."""
    made = []

    def make(url: str, access: S3Access, *, region: str = "us-east-1", **config: Any) -> Any:
        keys = config.pop("keys", {})
        credentials = {
            "aws_access_key_id": access.access_key,
            "aws_secret_access_key": access.secret_key,
            "aws_session_token": access.session_token,
        }
        options = {"signature_version": "s3v4", "retries": {"total_max_attempts": 1}} | config
        made.append(
            boto.client(
                "s3", endpoint_url=url, region_name=region, config=Config(**options), **(credentials | keys)
            )
        )
        return made[-1]

    yield make
    for client in made:
        client.close()
