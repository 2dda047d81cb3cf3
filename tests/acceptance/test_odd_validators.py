"""Validators that a server makes up: bytes that are no text, a secret that it echoes."""

from __future__ import annotations

import pytest
from tests.acceptance.small_api import SmallApi
from tests.net.memory import Answer

from stacpull import Options, Secret, sync

pytestmark = pytest.mark.usefixtures("threaded_store")

KEY = "PlantedKeyThatIsEchoed123456"
SMALL, LONG = b"small", bytes(range(256)) * 8192


@pytest.mark.parametrize("body", [SMALL, LONG], ids=["small", "long"])
@pytest.mark.parametrize("field", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("value", ['"\udcff\udcfe"', f'"{KEY}"'], ids=["no text", "a secret"])
def test_a_validator_that_is_no_text_or_echoes_a_secret_is_ignored(tmp_path, value, field, body):
    options = Options(query={"key": Secret(KEY)})
    headers = {field: value, "Accept-Ranges": "bytes"}
    with SmallApi({"a": ["1"]}, asset=Answer(body=body, headers=headers)) as api:
        report = sync.mirror(api.url("/collections/a"), tmp_path, options=options)
    assert (report.state, report.assets_done) == ("complete", 1)
    assert sync.verify(tmp_path).remaining == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes() or KEY in path.name]
