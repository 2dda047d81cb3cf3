"""Azurite, the emulator of Azure Blob Storage, with its well-known account."""

import base64
import hashlib
import hmac
import re
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.servers.process import TOOLS, is_listening, running
from tests.serving import free_ports

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and key of the documentation of Azurite."""


@contextmanager
def azurite(work: Path) -> Iterator[str]:
    program = shutil.which("azurite-blob", path=str(TOOLS / "azurite" / "node_modules" / ".bin"))
    if program is None:
        pytest.skip("azurite is not installed: bash scripts/install-test-tools azurite")
    port = free_ports(1)
    command = [program, "--inMemoryPersistence", "--blobPort", str(port), "--skipApiVersionCheck", "--silent"]
    with running(command, work / "azurite.out", ready=lambda: is_listening(port)):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


def sas() -> str:
    fields = {"sp": "rwdlac", "ss": "b", "srt": "sco", "st": "", "se": "2099-01-01"}
    fields |= {"sip": "", "spr": "", "sv": "2020-02-10"}
    text = "".join(f"{value}\n" for value in (ACCOUNT, *fields.values()))
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    fields["sig"] = base64.b64encode(signature).decode()
    return urlencode({name: value for name, value in fields.items() if value})


def create_container(url: str, name: str) -> None:
    request(f"{url}/{name}?restype=container&{sas()}", "PUT")


def uncommitted(url: str, name: str) -> list[str]:
    listing = f"{url}/{name}?restype=container&comp=list"
    every, whole = (
        set(re.findall("<Name>(.*?)</Name>", request(f"{listing}{more}&{sas()}", "GET")))
        for more in ("&include=uncommittedblobs", "")
    )
    return sorted(every - whole)


def request(url: str, method: str) -> str:
    headers = {"x-ms-version": "2021-12-02"}
    asked = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(asked) as reply:  # noqa: S310 - see above
        return str(reply.read(), "utf-8")
