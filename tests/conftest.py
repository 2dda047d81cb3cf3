"""What holds for every test: no network but loopback, no credentials of a user, no blocking of the loop."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

pytest.register_assert_rewrite(  # modules that tests of several directories import
    "tests.acceptance.command",
    "tests.acceptance.mirrored",
    "tests.acceptance.trees",
    "tests.net.conformance",
    "tests.net.conformance_objects",
    "tests.security.watch",
    "tests.servers.mirroring",
    "tests.store.conformance",
)

_FOREIGN_PREFIXES = ("AWS_", "STACPULL_", "MLHUB_", "SH_")
_FOREIGN_NAMES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
_OF_THE_TESTS = (
    "STACPULL_SHARED",
    "STACPULL_TOOLS",
    "STACPULL_FAULT_SEEDS",
    "STACPULL_FUZZ",
    "STACPULL_FUZZ_SEED",
    "STACPULL_SPLIT_FILES",
    "STACPULL_REFRESH_KILLS",
)
_AWS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": "AKIDTESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_CONFIG_FILE": "/nonexistent/aws-config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/aws-credentials",
}


def _isolate_environment() -> None:
    """Drop what this machine's user has set, before anything of ours or Amazon's reads it."""
    kept = {name: os.environ[name] for name in _OF_THE_TESTS if name in os.environ}
    for name in list(os.environ):
        if name.startswith(_FOREIGN_PREFIXES) or name.upper() in _FOREIGN_NAMES:
            del os.environ[name]
    os.environ.update(_AWS | kept)


_isolate_environment()

settings.register_profile("moderate", max_examples=60, deadline=None)
settings.register_profile("long", max_examples=10_000, deadline=None)
settings.load_profile("moderate")  # the long one: scripts/properties, or pytest --hypothesis-profile=long


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The recorded replies, read in place; nothing of them is part of this project."""
    told = os.environ.get("STACPULL_SHARED")
    data = Path(told) if told else ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"no recorded data at {data}: set STACPULL_SHARED to where they are")
    return data


class OutsideConnectionError(Exception):
    """A test tried to leave this machine."""


_outside: list[str] = []


def is_local(address: object) -> bool:
    """Tell whether connecting to `address` (as sockets take it) stays on this machine."""
    if not isinstance(address, tuple):
        return True  # AF_UNIX: a path
    host = str(address[0]).partition("%")[0]
    if host == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _watch_connections(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    sock, address = arguments
    if isinstance(sock, socket.socket) and sock.type == socket.SOCK_STREAM and not is_local(address):
        _outside.append(repr(address))
        raise OutsideConnectionError(f"a test tried to connect to {address!r}")


sys.addaudithook(_watch_connections)


@pytest.fixture(autouse=True)
def outside_connections() -> Iterator[list[str]]:
    """Fail the test that tried to leave this machine, even where the refusal was swallowed."""
    _outside.clear()
    yield _outside
    assert not _outside, f"connections outside of this machine were tried: {_outside}"


@pytest.fixture(autouse=True, scope="session")
def blocking_calls() -> Iterator[None]:
    """Raise `blockbuster.BlockingError` where code of ours blocks a running event loop.

    The replicas stand for other machines and may run in a thread of the test: they are left out.
    """
    ours = ["stacpull", "stacpull_headers", "stacpull_trace"]
    with blockbuster_ctx(ours, excluded_modules=["stacpull_replicas"]) as detector:
        # the signal handler and the display write a line to the terminal, as print does
        detector.functions["os.write"].can_block_in("stacpull/cli/running.py", {"handle"})
        detector.functions["os.write"].can_block_in("stacpull/cli/progress.py", {"_emit"})
        yield
