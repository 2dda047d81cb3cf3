"""The command with a bucket as DEST: the options of a user, and messages about mistakes."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.acceptance.command import Ran, environment, run
from tests.acceptance.static_tree import write_tree
from tests.servers.bucket_trees import body, keys, objects, tree
from tests.servers.radosgw import OWNER, STRANGER

from stacpull import sync
from stacpull.engine import ledger_copy
from stacpull.errors import UsageError
from stacpull.events import Notice
from stacpull.models import BucketLocation
from stacpull.reports import Disk
from stacpull.store.store_choice import remember_bucket

Stacpull = Callable[..., Ran]


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(write_tree(tmp_path / "tree", 2, 3))


@pytest.fixture
def stacpull(location: BucketLocation, tmp_path: Path) -> Stacpull:
    """Runs the command; `{dest}` stands for the bucket with its options, `{at}` for it and --work alone."""

    def command(*arguments: str, dest: str = location.url, **environ: str | None) -> Ran:
        env = environment(**{"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), **environ})
        at = [dest, "--work", "work"]
        named = ["--dest-profile", "dest", "--dest-endpoint-url", str(location.endpoint_url)]
        words = [
            word
            for argument in arguments
            for word in ({"{dest}": [*at, *named], "{at}": at}.get(argument) or [argument])
        ]
        return run(words, env, tmp_path)

    return command


def test_every_command_takes_the_bucket_or_its_work_directory(
    location: BucketLocation, s3: Any, source: str, stacpull: Stacpull, tmp_path: Path
) -> None:
    mirrored = stacpull("mirror", source, "{dest}", "--json")
    assert mirrored.code == 0, mirrored.err
    assert (mirrored.report["dest"], mirrored.report["work"]) == (location.url, "work")
    assert stacpull("mirror", source, "disk").code == 0
    there = objects(s3, location)
    assert there == tree(tmp_path / "disk")
    assert tree(tmp_path / "work") == {}
    for dest in (["{at}"], ["work"]):
        again = stacpull("mirror", source, *dest, "--json")
        assert (again.code, again.report["assets_skipped"]) == (0, mirrored.report["assets_done"]), again.err
        status = stacpull("status", *dest, "--json")
        assert (status.report["state"], status.report["dest"]) == ("complete", location.url)
        assert f"{location.url}: complete" in stacpull("status", *dest).out
        assert f"{location.url} is complete; nothing to resume." in stacpull("resume", *dest).out
        assert stacpull("retry", *dest).code == 0
        assert (stacpull("failures", *dest).code, stacpull("failures", *dest).out) == (0, "")
        planned = stacpull("plan", source, *dest, "--json")
        assert (planned.report["assets_pending"], planned.report["disk"]) == (0, None)
        verified = stacpull("verify", *dest)
        assert verified.code == 0, verified.err
        assert f"{location.url}: OK" in verified.out


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_suggested_commands_work_as_printed(
    location: BucketLocation, s3: Any, source: str, stacpull: Stacpull, tmp_path: Path
) -> None:
    file = next((tmp_path / "tree").rglob("*.bin"))
    content = file.read_bytes()
    file.unlink()
    failed = stacpull("mirror", source, "{dest}")
    assert failed.code == 1
    assert "for details: stacpull failures work" in failed.out
    assert stacpull("failures", "work").out
    file.write_bytes(content)
    assert stacpull("retry", "{at}").code == 0
    lost = next(key for key in objects(s3, location) if key.endswith(".bin"))
    s3.delete_object(Bucket=location.bucket, Key=f"{location.prefix}/{lost}")
    damaged = stacpull("verify", "{at}")
    assert damaged.code == 1
    assert "to repair:   stacpull verify --repair work" in damaged.out
    assert stacpull("verify", "--repair", "work").code == 0
    assert lost in objects(s3, location)
    copy = {"Bucket": location.bucket, "Key": f"{location.prefix}/{ledger_copy.COPY}"}
    s3.copy_object(
        **copy,
        CopySource=copy,
        MetadataDirective="REPLACE",
        Metadata={**s3.head_object(**copy)["Metadata"], "marked": "yes"},
    )
    assert stacpull("resume", "work").code == 0
    assert s3.head_object(**copy)["Metadata"].get("marked") == "yes"  # the same copy is not stored again


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("command", ["resume", "retry"])
def test_a_run_is_continued_with_another_profile(
    location: BucketLocation, s3: Any, source: str, stacpull: Stacpull, tmp_path: Path, command: str
) -> None:
    """An item whose JSON waits for a name: `status` asks the bucket whether it is still taken."""
    assert stacpull("mirror", source, "disk").code == 0
    item = next(name for name in sorted(tree(tmp_path / "disk")) if name.count("/") == 2 and "json" in name)
    s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}/{item}", Body=b"foreign")
    assert stacpull("mirror", source, "{dest}").code == 1
    profiles = tmp_path / "credentials"
    profiles.write_text(profiles.read_text().replace("[dest]", "[other]"))
    assert stacpull(command, "work", "--concurrency", "1").code == 3
    continued = stacpull(command, "work", "--dest-profile", "other")
    assert continued.code == {"resume": 0, "retry": 1}[command], continued.err


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_little_room_is_that_of_the_work_directory(
    location: BucketLocation, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room in a bucket is not known."""
    monkeypatch.setattr("stacpull.engine.mirror.disk_of", lambda _: Disk(5_000_000, 7))
    work, disk, heard = tmp_path / "work", tmp_path / "disk", list[object]()
    remember_bucket(work, location)
    for dest, where in ((disk, "at the destination"), (work, f"in the work directory {work}")):
        heard.clear()
        sync.mirror(source, dest, on_event=heard.append)
        assert [event.text for event in heard if isinstance(event, Notice)] == [
            f"Only 5 MB are free {where}.",
            f"Only 7 files (inodes) are free {where}.",
        ]


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "message"),
    [
        (["s3://{bucket}/p"], {}, 2, "add --work DIR"),
        (["disk", "--work", "work"], {}, 2, "--work is for a bucket as DEST"),
        (["disk", "--dest-region", "r"], {}, 2, "--dest-region is for a bucket as DEST"),
        (["{dest}", "--dest-profile", "nobody"], {}, 3, "the profile nobody (--dest-profile)"),
        (["{at}", "--dest-endpoint-url", "{url}"], {}, 3, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (
            ["{at}", "--dest-endpoint-url", "{url}"],
            {"AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED", "AWS_SECRET_ACCESS_KEY": "plantedsecret"},
            3,
            "does not accept the credentials of the AWS environment",
        ),
        (["{at}", "--dest-endpoint-url", "{url}"], STRANGER.environment(), 5, "denies stacpull to read"),
        (
            [
                "s3://no-such-bucket/p",
                "--work",
                "work",
                "--dest-profile",
                "dest",
                "--dest-endpoint-url",
                "{url}",
            ],
            {},
            5,
            "There is no bucket no-such-bucket: create it, or check its name.",
        ),
    ],
)
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_errors_are_reported_in_a_sentence(
    location: BucketLocation,
    source: str,
    stacpull: Stacpull,
    tmp_path: Path,
    arguments: list[str],
    environ: dict[str, str],
    code: int,
    message: str,
) -> None:
    places = {"{url}": str(location.endpoint_url), "s3://{bucket}/p": f"s3://{location.bucket}/p"}
    words = [places.get(word, word) for word in arguments]
    ran = stacpull("mirror", source, "--no-progress", *words, **environ)
    assert (ran.code, len(ran.sentences)) == (code, 1), ran.err
    assert message in ran.err
    assert "planted" not in (ran.out + ran.err).lower()
    assert not (tmp_path / "disk").exists()
    assert not (tmp_path / "work").exists()
    again = stacpull("mirror", source, "{dest}")
    assert again.code == 0, again.err


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_bucket_credentials_are_not_written_anywhere(
    location: BucketLocation, s3: Any, source: str, stacpull: Stacpull, tmp_path: Path
) -> None:
    """The source quotes them, so they would be in an item, in the ledger, and in messages of failures."""
    item = next((tmp_path / "tree").rglob("col0-0.json"))
    document = json.loads(item.read_text())
    document["properties"]["quoted"] = OWNER.secret_key
    document["assets"]["missing"] = {"href": f"./{OWNER.secret_key}.bin", "title": OWNER.access_key}
    item.write_text(json.dumps(document))
    ran = stacpull("mirror", source, "{dest}", "-vv")
    again = stacpull("mirror", source, "{at}", "--dest-profile", "nobody", "-vv")
    verified = stacpull("verify", "{at}", "-vv")
    failures = stacpull("failures", "{at}", "--json")
    assert [ran.code, again.code, verified.code] == [1, 3, 0]
    stored = {key: body(s3, location, key) for key in keys(s3, location)}
    stored[ledger_copy.COPY] = gzip.decompress(stored[ledger_copy.COPY])
    assert b'"quoted":"***"' in stored["col0/col0-0/col0-0.json"].replace(b" ", b"")
    found = [path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()]
    printed = [text.encode() for one in (ran, again, verified, failures) for text in (one.out, one.err)]
    assert b"***" in b"".join(printed)
    for secret in (OWNER.secret_key, OWNER.access_key):
        holding = [text for text in (*stored.values(), *found, *printed) if secret.encode() in text]
        assert holding == []


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_outputs_of_a_mirror_in_a_bucket(
    location: BucketLocation, s3: Any, source: str, tmp_path: Path
) -> None:
    """Those that read its files equal what a mirror on disk gives; the others are refused by name."""
    work, disk = tmp_path / "work", tmp_path / "disk"
    remember_bucket(work, location)
    for dest, out in ((work, tmp_path / "of-bucket"), (disk, tmp_path / "of-disk")):
        assert sync.mirror(source, dest).exit_code == 0
        sync.export(dest, out, "webdataset")
        sync.export(dest, out.with_suffix(".csv"), "csv")
        sync.export(dest, out.with_suffix(".parquet"))
        sync.report(dest, out.with_suffix(".html"))
    assert tree(tmp_path / "of-bucket") == tree(tmp_path / "of-disk") != {}
    with (tmp_path / "of-bucket.csv").open(newline="") as file:
        urls = [url for row in csv.DictReader(file) for url in json.loads(row["paths"]).values()]
    keys_of_assets = {url.removeprefix(f"{location.url}/") for url in urls}
    assert keys_of_assets == {key for key in objects(s3, location) if key.endswith(".bin")}
    indexed = pq.read_table(tmp_path / "of-bucket.parquet").to_pylist()
    assert {row["assets"]["data"]["href"] for row in indexed} == set(urls)
    assert {link["href"] for row in indexed for link in row["links"]} <= {
        f"{location.url}/{key}" for key in objects(s3, location)
    }
    assert "col0" in (tmp_path / "of-bucket.html").read_text()
    with pytest.raises(UsageError, match="it cannot be exported as torchgeo-v1 yet"):
        sync.export(work, tmp_path / "out", "torchgeo-v1")
