"""Real servers, each started once a session (and worker), and the STAC API whose items lead to them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.servers.buckets import Bucket, Keys, client
from tests.servers.moto_server import moto
from tests.servers.nginx import nginx
from tests.servers.pgstac import pgstac
from tests.servers.radosgw import OWNER, Radosgw
from tests.servers.stac_api import StacApi


@pytest.fixture
def stac() -> Iterator[StacApi]:
    with StacApi() as api:
        yield api


@pytest.fixture
def act_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Keys], None]:
    """Gives keys to the AWS libraries of this process, as the environment does."""

    def use(keys: Keys) -> None:
        for name, value in keys.environment().items():
            monkeypatch.setenv(name, value)

    return use


def started(start: Callable[[Path], AbstractContextManager[Any]]) -> Any:
    """Return a fixture: the server that `start` starts in a directory of its own, until the session ends."""

    def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        with start(tmp_path_factory.mktemp(start.__name__)) as server:
            yield server

    return pytest.fixture(scope="session")(running)


moto_s3 = started(moto)
web = started(nginx)
real_api = started(pgstac)


@pytest.fixture(scope="session")
def gateway_client(gateway: Radosgw) -> Iterator[Any]:
    s3 = client(gateway.url, OWNER)
    yield s3
    s3.close()


@pytest.fixture
def bucket(gateway_client: Any) -> Bucket:
    return Bucket(gateway_client)


@pytest.fixture(autouse=True)
def store_on_thread(threaded_store: None) -> None:
    """Runs within the test's process start no process for their store."""
