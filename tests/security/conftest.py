"""What the security scenarios share."""

import pytest
from tests.security.authority import Authority


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger", "another authority")


@pytest.fixture(params=["auto", "aiohttp"])
def transport(request: pytest.FixtureRequest) -> str:
    """How assets are transferred: small ones by the fast path, or all over aiohttp."""
    return str(request.param)


@pytest.fixture(autouse=True)
def store_on_thread(threaded_store: None) -> None:
    """Commands and runs within the test's process start no process for their store."""
