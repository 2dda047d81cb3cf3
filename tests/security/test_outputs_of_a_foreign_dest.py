"""Outputs made from a mirror of another user contain only files of that mirror."""

import asyncio
from pathlib import Path

import orjson
import pytest
from tests.security.sources import mirrored_here

from stacpull import DestinationError, export

SECRET = b"a file of the user"


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """A mirror of one item, whose JSON names a file behind a link that leads out of the mirror."""
    dest = mirrored_here(tmp_path, B01=SECRET[::-1])
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/B01").write_bytes(SECRET)
    path = dest / "c/i/i.json"
    document = orjson.loads(path.read_bytes())
    document["assets"]["B01"] = {"href": "./link/B01", "file:size": len(SECRET)}
    path.write_bytes(orjson.dumps(document))
    (dest / "c/i/link").symlink_to(tmp_path / "outside")
    return dest


@pytest.mark.parametrize("form", ["webdataset", "torchgeo-v1", "torchgeo-v2"])
def test_an_export_takes_no_file_behind_a_link(dest: Path, tmp_path: Path, form: str) -> None:
    with pytest.raises(DestinationError, match="a link at c/i/link"):
        asyncio.run(export(dest, tmp_path / "out", form))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(SECRET in path.read_bytes() for path in files)
