"""Nothing in a directory names a bucket: someone else may have prepared DEST."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance import command
from tests.items import feature
from tests.net.wire_server import WireServer
from tests.ran import Ran

COMMANDS = (
    ("verify", "{dest}"),
    ("verify", "--repair", "{dest}"),
    ("report", "{dest}", "-o", "{out}/report.html"),
    ("export", "{dest}", "{out}/table.csv", "-f", "csv"),
    ("resume", "{dest}"),
    ("retry", "{dest}"),
    ("status", "{dest}"),
    ("failures", "{dest}"),
    ("mirror", "{source}", "{dest}"),
)


@pytest.fixture
def trap() -> Iterator[WireServer]:
    with WireServer({}) as server:
        yield server


def stacpull(*arguments: str) -> Ran:
    """Run the command as a user who has AWS keys."""
    return command.stacpull(*arguments, AWS_ACCESS_KEY_ID="AKIAUSER", AWS_SECRET_ACCESS_KEY="secret")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    home = tmp_path / "source"
    home.mkdir()
    (home / "a.txt").write_text("data")
    item = feature("one", {"a": "./a.txt"}, properties={"datetime": "2024-01-01T00:00:00Z"})
    (home / "item.json").write_text(json.dumps(item))
    return home / "item.json"


def planted(dest: Path, endpoint: str) -> None:
    """Write the file that earlier releases obeyed."""
    bucket = {
        "bucket": "stolen",
        "prefix": "p",
        "endpoint_url": endpoint,
        "region": "us-east-1",
        "profile": None,
        "ca_bundle": None,
        "mirror": "0" * 32,
        "run": "",
        "scheme": "s3",
    }
    (dest / ".stacpull" / "bucket.json").write_text(json.dumps(bucket))


def test_no_command_connects_to_a_bucket_that_a_file_in_dest_names(tmp_path, source, trap):
    dest = tmp_path / "dest"
    assert stacpull("mirror", str(source), str(dest)).code == 0
    planted(dest, trap.url(""))
    for words in COMMANDS:
        done = stacpull(*(word.format(dest=dest, out=tmp_path, source=source) for word in words))
        assert done.code == 0, (words, done.err)
        assert "stolen" not in done.out + done.err
    assert trap.connections == 0


def test_a_new_mirror_goes_into_its_directory(tmp_path: Path, source: Path, trap: WireServer) -> None:
    dest = tmp_path / "dest"
    (dest / ".stacpull").mkdir(parents=True)
    planted(dest, trap.url(""))
    done = stacpull("mirror", str(source), str(dest))
    assert done.code == 0, done.err
    assert (dest / "c/one/a.txt").read_text() == "data"
    assert trap.connections == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "224.0.0.1", "0"])  # noqa: S104 - it must be refused
def test_an_endpoint_that_is_never_connected_to_is_refused(tmp_path: Path, source: Path, host: str) -> None:
    done = stacpull(
        "mirror", str(source), "s3://bucket/p", "--work", str(tmp_path / "work"),
        "--dest-endpoint-url", f"http://{host}:9",
    )  # fmt: skip
    assert done.code == 2
    assert "stacpull does not connect to " in done.err
    assert not (tmp_path / "work").exists()
