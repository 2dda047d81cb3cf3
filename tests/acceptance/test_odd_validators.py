"""Validators that a server makes up: bytes that are no text, a secret that it echoes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import Options, Selection, mirror, verify
from stacpull.redact import Secret
from stacpull.reports import MirrorReport

pytestmark = pytest.mark.usefixtures("threaded_store")

KEY = "PlantedKeyThatIsEchoed123456"
SMALL, LONG = b"small", bytes(range(256)) * 8192


def mirrored(dest: Path, body: bytes, headers: dict[str, str]) -> MirrorReport:
    options = Options(query={"key": Secret(KEY)})  # type: ignore[arg-type] # one of two

    async def work() -> MirrorReport:
        async with SmallApi({"a": ["1"]}, asset=Answer(body=body, headers=headers)) as api:
            selection = Selection(collections=("a",))
            return await mirror(api.url("/"), dest, selection=selection, options=options)

    return asyncio.run(work())


@pytest.mark.parametrize("body", [SMALL, LONG], ids=["small", "long"])
@pytest.mark.parametrize("field", ["ETag", "Last-Modified"])
def test_a_validator_that_is_not_valid_text_is_ignored(tmp_path: Path, field: str, body: bytes) -> None:
    report = mirrored(tmp_path / "m", body, {field: '"\udcff\udcfe"', "Accept-Ranges": "bytes"})
    assert (report.state, report.assets_done) == ("complete", 1)
    assert asyncio.run(verify(tmp_path / "m")).remaining == 0


@pytest.mark.parametrize("body", [SMALL, LONG], ids=["small", "long"])
@pytest.mark.parametrize("field", ["ETag", "Last-Modified"])
def test_a_validator_that_echoes_a_secret_is_written_nowhere(tmp_path: Path, field: str, body: bytes) -> None:
    report = mirrored(tmp_path / "m", body, {field: f'"{KEY}"', "Accept-Ranges": "bytes"})
    assert (report.state, report.assets_done) == ("complete", 1)
    files = [path for path in (tmp_path / "m").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes() or KEY in path.name]
