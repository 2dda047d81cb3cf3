"""A DEST from other hands may have files, lines and documents of any size: memory stays bounded."""

from pathlib import Path

import pytest
from tests.security.measured import MAX_PEAK, MIB, command
from tests.security.sources import mirrored_here

from stacpull.catalog.item import is_own_json
from stacpull.json_values import MAX_VALUES, parsed_object
from stacpull.store.inspection import DirectoryFiles

SPARSE = 1024 * MIB
"""The size of the files, more than twice `MOST`: they have no content, so they take no space."""


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return mirrored_here(tmp_path, a=b"data")


def make_sparse(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(SPARSE)


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "m", "out.csv", "-f", "csv"),
        ("mirror", "cat/item.json", "m"),
        ("report", "m", "-o", "report.html"),
    ],
)
def test_a_command_takes_bounded_memory(dest: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for place in ("c/i/i.json", "c/collection.json"):
        make_sparse(dest / place)
    found = command(*arguments, cwd=tmp_path)
    assert found.peak < MAX_PEAK, found.err
    assert "Traceback" not in found.err


def test_a_long_file_of_lines_is_not_a_document_of_the_mirror(dest: Path) -> None:
    make_sparse(dest / "c/items.ndjson")
    files = DirectoryFiles(dest)
    try:
        assert not is_own_json(files, "c/items.ndjson")
    finally:
        files.close()


def test_a_document_of_too_many_values_is_not_decoded() -> None:
    assert parsed_object(b'{"a":[' + b"[]," * MAX_VALUES + b"[]]}") is None
    assert parsed_object(b'{"a":"' + b"." * 2 * MAX_VALUES + b'"}') is not None
