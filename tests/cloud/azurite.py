"""Azurite, the emulator of Azure Blob Storage, with its well-known account."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.servers.process import TOOLS, free_ports, is_listening, running

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and key of the documentation of Azurite."""


@contextmanager
def azurite(work: Path) -> Iterator[str]:
    """Start Azurite, and give the URL of its account."""
    program = shutil.which("azurite-blob", path=str(TOOLS / "azurite" / "node_modules" / ".bin"))
    if program is None:
        pytest.skip("azurite is not installed: bash scripts/install-test-tools azurite")
    (port,) = free_ports(1)
    command = [program, "--inMemoryPersistence", "--blobPort", str(port), "--skipApiVersionCheck", "--silent"]
    with running(command, work / "azurite.out", ready=lambda: is_listening(port)):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


def create_container(url: str, name: str) -> None:
    """Create a container with a signed request (Shared Key)."""
    date = formatdate(usegmt=True)
    text = (
        f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:2021-12-02\n"
        f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    )
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{url}/{name}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2021-12-02",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
            "Content-Length": "0",
        },
    )
    with urllib.request.urlopen(request) as reply:  # noqa: S310 - see above
        assert reply.status == 201
