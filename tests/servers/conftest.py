"""Real servers, each started once a session (and worker), and the STAC API whose items lead to them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.servers.buckets import REGION, Bucket, Keys, client
from tests.servers.moto_server import Moto, moto
from tests.servers.nginx import nginx
from tests.servers.pgstac import pgstac
from tests.servers.radosgw import OWNER, Radosgw, radosgw
from tests.servers.rclone import rclone
from tests.servers.stac_api import StacApi

from stacpull.models import BucketLocation


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


@pytest.fixture(scope="session")
def shared_client() -> Iterator[Callable[[str, Keys], Any]]:
    """Returns the client of boto3 for a URL and keys: making one takes 20 ms."""
    with ExitStack() as opened:

        @cache
        def shared(url: str, keys: Keys) -> Any:
            s3 = client(url, keys)
            opened.callback(s3.close)
            return s3

        yield shared


def started(start: Callable[[Path], AbstractContextManager[Any]]) -> Any:
    """Return a fixture: the server that `start` starts in a directory of its own, until the session ends."""

    def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        with start(tmp_path_factory.mktemp(start.__name__)) as server:
            yield server

    return pytest.fixture(scope="session")(running)


gateway = started(radosgw)
moto_s3 = started(moto)
rclone_s3 = started(rclone)
web = started(nginx)
real_api = started(pgstac)


@pytest.fixture(scope="session")
def gateway_client(gateway: Radosgw) -> Iterator[Any]:
    s3 = client(gateway.url, OWNER)
    yield s3
    s3.close()


@pytest.fixture
def bucket(gateway_client: Any) -> Bucket:
    """A bucket of the gateway's, new, of OWNER's."""
    return Bucket(gateway_client)


@pytest.fixture(params=["radosgw", "moto"])
def server(request: pytest.FixtureRequest) -> tuple[str, Keys]:
    if request.param == "radosgw":
        gateway: Radosgw = request.getfixturevalue("gateway")
        return gateway.url, OWNER
    moto: Moto = request.getfixturevalue("moto_s3")
    return moto.url, moto.keys


@pytest.fixture
def location(
    server: tuple[str, Keys], s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BucketLocation:
    """A new bucket, with credentials of its own: those of the source are others."""
    url, keys = server
    shared = tmp_path / "credentials"
    shared.write_text(
        f"[dest]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    return BucketLocation(bucket, "a/mirror", url, REGION, "dest")


@pytest.fixture
def s3(server: tuple[str, Keys], shared_client: Callable[[str, Keys], Any]) -> Any:
    """A client of boto3 for it, not to be changed."""
    return shared_client(*server)


@pytest.fixture(autouse=True)
def store_on_thread(threaded_store: None) -> None:
    """Runs within the test's process start no process for their store."""
