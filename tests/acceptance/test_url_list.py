"""`plan --urls`: the tools it is for put each file where `mirror` would put it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.acceptance import command
from tests.acceptance.asset_host import AssetHost
from tests.acceptance.command import environment
from tests.servers.process import found

pytestmark = pytest.mark.behaviour

PRIVATE = "--allow-private-hosts"
NAMES = [
    "plain", "with space", "quote'", 'double"', "back\\slash", "semi;colon", "a,b", "=HYPERLINK(1)", "-o",
    "$(touch x)", "`id`", "{a,b}", "[1-3]", "#1", "%41", "ünï", "日本", "a\nb", "a\tb", "*?", "..", ".hidden",
    "out=x", "~", "a&b", "|", "trailing ", "NUL",
]  # fmt: skip
"""Asset keys, which become file names."""
PATHS = [
    "/assets/plain", "/assets/a%20b", "/assets/q'uote", "/assets/{a,b}[1-3]", "/assets/x?y=1&z=a,b",
    "/assets/a/../b",
]  # fmt: skip


class Host(AssetHost):
    """Answers with the same content however the path is escaped."""

    def content(self, path: str) -> tuple[str, bytes]:
        return super().content(unquote(path))


def item(host: str) -> dict[str, Any]:
    assets: dict[str, Any] = {}
    for number, name in enumerate(NAMES):
        path = PATHS[number % len(PATHS)]
        assets[name] = {"href": f"{host}{path}", "type": "image/tiff"}
    content = ("/assets/sum" * 10).encode()
    content = content[: max(10, len("/assets/sum"))]
    multihash = "1220" + hashlib.sha256(content).hexdigest()
    assets["sum"] = {"href": f"{host}/assets/sum", "file:checksum": multihash, "file:size": len(content)}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": "item 'one'", "collection": "c", "geometry": None,
        "properties": {"datetime": "2020-01-01T00:00:00Z"}, "links": [], "assets": assets,
    }  # fmt: skip


@pytest.fixture
def host() -> Iterator[AssetHost]:
    with Host() as running:
        yield running


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    ran = command.run([*map(str, arguments), "--no-progress"], environment(), timeout=90)
    return subprocess.CompletedProcess(arguments, ran.code, ran.out, ran.err)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".stacpull" not in path.parts and path.suffix != ".json"
    }


def program_of(form: str) -> str:
    name = {"aria2": "aria2c"}.get(form, form)
    if form != "curl" and (path := shutil.which(name)):
        return path
    return found(name, venv=None if form == "curl" else form)


def fetched_by(form: str, listed: Path, dest: Path) -> None:
    program = program_of(form)
    dest.mkdir(exist_ok=True)
    commands = {
        "curl": [program, "-q", "-sS", "--output-dir", str(dest), "--parallel", "--config", str(listed)],
        "aria2": [
            program, "--no-conf", "-q", f"--dir={dest}", "--auto-file-renaming=false",
            f"--input-file={listed}",
        ],
        "rclone": [program, "copyurl", "--urls", str(listed), str(dest), "--config", "/dev/null"],
    }  # fmt: skip
    ran = subprocess.run(
        commands[form], capture_output=True, text=True, check=False, timeout=90,
        env={"PATH": os.environ["PATH"], "HOME": str(dest.parent)}, cwd=dest.parent,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("form", ["curl", "aria2", "rclone"])
def test_files_are_where_mirror_puts_them(form: str, host: AssetHost, tmp_path: Path) -> None:
    program_of(form)
    source, listed = tmp_path / "items.json", tmp_path / "list.txt"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [item(host.url)]}))
    ran = run("plan", source, "--urls", form, "-o", listed, PRIVATE, "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    assert (report["urls_written"], report["urls_left_out"]) == (len(NAMES) + 1, 0)
    mirrored = run("mirror", source, tmp_path / "mirror", PRIVATE)
    assert mirrored.returncode == 0, mirrored.stderr
    before = {entry.name for entry in tmp_path.iterdir()}
    fetched_by(form, listed, tmp_path / "fetched")
    assert files_below(tmp_path / "fetched") == files_below(tmp_path / "mirror")
    assert {entry.name for entry in tmp_path.iterdir()} - before <= {"fetched", ".cache"}
    # what another tool has fetched is taken over as it is
    adopted = run("mirror", source, tmp_path / "fetched", PRIVATE, "--adopt", "--json")
    assert adopted.returncode == 0, adopted.stderr
    assert files_below(tmp_path / "fetched") == files_below(tmp_path / "mirror")


def test_csv_lists_every_asset_with_its_path(host: AssetHost, tmp_path: Path) -> None:
    source = tmp_path / "items.json"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [item(host.url)]}))
    ran = run("plan", source, "--urls", "csv", PRIVATE)
    rows = list(csv.DictReader(ran.stdout.splitlines(keepends=True)))
    assert {row["key"] for row in rows} == {*NAMES, "sum"}
    assert run("mirror", source, tmp_path / "mirror", PRIVATE).returncode == 0
    assert {row["path"] for row in rows} == files_below(tmp_path / "mirror").keys()
    (checked,) = (row for row in rows if row["key"] == "sum")
    assert checked["checksum"].startswith("sha256:")
    assert "urls     29 in the list" in ran.stderr


def test_with_dest_only_what_is_missing_is_listed(host: AssetHost, tmp_path: Path) -> None:
    source, dest = tmp_path / "items.json", tmp_path / "mirror"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [item(host.url)]}))
    assert run("mirror", source, dest, PRIVATE, "--asset", "plain").returncode == 0
    ran = run("plan", source, dest, "--urls", "csv", PRIVATE)
    assert "plain" not in {row["key"] for row in csv.DictReader(ran.stdout.splitlines(keepends=True))}


@pytest.mark.parametrize("form", ["csv", "aria2", "curl", "rclone"])
def test_credentials_are_written_only_with_with_credentials(
    form: str, host: AssetHost, tmp_path: Path
) -> None:
    document = item(host.url)
    signature = "X-Amz-Signature=0123456789abcdef0123456789abcdef"
    document["assets"] = {
        "signed": {"href": f"{host.url}/assets/a?X-Amz-Expires=60&{signature}"},
        "user": {"href": host.url.replace("//", "//user:hunter2-secret@") + "/assets/b"},
    }
    host.contents["/items.json?key=the-key-of-the-user"] = json.dumps(document).encode()
    source = f"{host.url}/items.json?key=the-key-of-the-user"
    requested = ("plan", source, "--urls", form, PRIVATE, "--header", "X-Token: the-token-of-the-user")
    plain = run(*requested)
    assert plain.returncode == 0, plain.stderr
    for secret in ("0123456789abcdef", "hunter2", "the-key-of", "the-token-of"):
        assert secret not in plain.stdout + plain.stderr
    assert "URLs that lack their signature or key, and may be refused: 2." in plain.stderr
    assert "URLs that need the header X-Token, which is not in the list: 2." in plain.stderr
    listed = tmp_path / "list"
    full = run(*requested, "--with-credentials", "-o", listed)
    text = listed.read_text()
    assert signature in text
    assert "the-key-of-the-user" in text
    assert "the-token-of" not in text + full.stdout + full.stderr
    assert listed.stat().st_mode & 0o077 == 0


def test_assets_unsupported_by_a_format_are_reported_with_exit_1(host: AssetHost, tmp_path: Path) -> None:
    document = item(host.url)
    document["assets"] = {
        "web": {"href": f"{host.url}/assets/a"},
        "bucket": {"href": "s3://bucket/key"},
    }
    source = tmp_path / "items.json"
    source.write_text(json.dumps(document))
    ran = run("plan", source, "--urls", "curl", PRIVATE, "--no-sign-request", "--endpoint-url", host.url)
    assert ran.returncode == 1
    assert "Assets that are not in the list: 1, because the URL is not http or https." in ran.stderr
    layout = ("--layout", "{collection}/{filename}")
    late = run("plan", source, "--urls", "rclone", PRIVATE, "--asset", "web", *layout)
    assert late.returncode == 1
    assert "because the name depends on the redirects of the URL ({filename} in --layout)." in late.stderr


def test_only_entries_of_the_list_are_counted(host: AssetHost, tmp_path: Path) -> None:
    document = item(host.url)
    document["assets"] = {
        "bucket": {"href": "s3://bucket/key?X-Amz-Signature=0123456789abcdef0123456789abcdef"},
        "signed": {"href": f"{host.url}/assets/a?X-Amz-Signature=0123456789abcdef0123456789abcdef"},
    }
    host.contents["/items.json?key=the-key-of-the-user"] = json.dumps(document).encode()
    source = f"{host.url}/items.json?key=the-key-of-the-user"
    header = ("--header", "X-Token: the-token-of-the-user")
    late = run("plan", source, "--urls", "aria2", PRIVATE, *header, "--layout", "{collection}/{filename}")
    assert late.returncode == 1
    assert "Assets that are not in the list: 1" in late.stderr
    assert "URLs that lack their signature" not in late.stderr
    assert "URLs that need the header" not in late.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--urls", "csv", "--json"], "give -o FILE"),
        (["-o", "x"], "need --urls"),
        (["--with-credentials"], "need --urls"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(arguments: list[str], message: str) -> None:
    ran = run("plan", "http://127.0.0.1:9", *arguments)
    assert ran.returncode == 2
    assert message in ran.stderr


def test_a_list_that_cannot_be_completed_leaves_the_file_as_it_was(host: AssetHost, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text("before")
    ran = run("plan", f"{host.url}/missing.json", "--urls", "csv", "-o", listed, PRIVATE)
    assert ran.returncode != 0
    assert listed.read_text() == "before"
