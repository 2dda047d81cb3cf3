"""Where DEST is, as it is named: a directory, or a bucket with its work directory."""

from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from stacpull import Options, Selection, UsageError
from stacpull.dest_address import DestAddress, bucket_location, resolve_dest
from stacpull.ledger import runs
from stacpull.ledger.database import ledger_path, open_writer
from stacpull.ledger.meta import set_bucket
from stacpull.models import BucketLocation

URL = "s3://bucket/a/b"


@pytest.fixture(autouse=True)
def no_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")


def new_ledger(work: Path) -> Path:
    ledger_path(work).parent.mkdir(parents=True)
    with closing(open_writer(work)) as db:
        runs.begin(db, runs.RunSpec("http://source/", Selection(), {}), 0.0, {})
    return work


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = new_ledger(tmp_path / "work")
    with closing(open_writer(work)) as db:
        set_bucket(db, URL, "http://one:1", "the id", 1)
    return work


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("S3://my.bucket_1/a/b/", ("my.bucket_1", "a/b")),
        ("s3:/bucket/a", ("bucket", "a")),  # what `Path` makes of it
        ("s3://bucket/with space/ü", ("bucket", "with space/ü")),
        ("directory/s3:", None),
        ("s3", None),
        ("http://h/s3://", None),
    ],
)
def test_the_url_of_a_bucket_is_recognised(text: str, found: tuple[str, str] | None) -> None:
    url = bucket_location(text)
    assert (url and (url.bucket, url.prefix)) == found


@pytest.mark.parametrize(
    "text",
    [
        "s3:///",
        "s3://b",
        "s3://-bucket/a",
        "s3://key:secret@bucket/a",
        "s3://bucket/a//b",
        "s3://bucket/a\nb",
    ],
)
def test_an_invalid_bucket_url_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"DEST is (not|in)") as caught:
        bucket_location(text)
    assert "secret" not in str(caught.value)


def test_a_new_mirror_in_a_bucket_is_found_without_writing(tmp_path: Path) -> None:
    options = Options(work=tmp_path / "w", dest_region="r", dest_endpoint_url="http://one:1/")
    dest_address = resolve_dest(URL, options)
    assert dest_address == DestAddress(tmp_path / "w", BucketLocation("bucket", "a/b", "http://one:1", "r"))
    assert dest_address.shown == URL
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_named_by_its_url(work: Path) -> None:
    found = resolve_dest(URL, Options(work=work, dest_endpoint_url="http://one:1/", dest_profile=None)).bucket
    assert found is not None
    assert (found.url, found.endpoint_url, found.mirror) == (URL, "http://one:1", "the id")


@pytest.mark.parametrize(
    ("dest", "options", "message"),
    [
        ("plain", {"work": "w"}, "--work is for a bucket as DEST"),
        ("plain", {"dest_endpoint_url": "http://h"}, "--dest-endpoint-url is for a bucket as DEST"),
        ("plain", {"break_lock": True}, "--break-lock is for a bucket as DEST"),
        ("$HOME/m", {}, "DEST is $HOME/m: write the value of the variable, or ./$HOME/m for this name."),
        ("WORK", {}, "is the work directory of s3://bucket/a/b: use s3://bucket/a/b as DEST, with --work"),
        ("s3://bucket/other", {"work": "WORK"}, "is the work directory of s3://bucket/a/b with --dest-"),
        ("s3://b-2", {"work": "WORK", "dest_endpoint_url": "http://one:1"}, "s3://bucket/a/b: use that,"),
        (URL, {"work": "WORK"}, "/b with --dest-endpoint-url http://one:1: use that, or another --work."),
        (URL, {"work": "MIRROR"}, "contains a mirror of its own"),
        (URL, {"work": "w", "dest_endpoint_url": "http://key:planted@h"}, "endpoint of DEST must be"),
        (URL, {"work": "w", "dest_endpoint_url": "http://h/?key=planted"}, "must be a scheme"),
    ],
)
def test_contradictory_options_are_refused(work, dest, options, message):
    mirror = new_ledger(work.parent / "mirror")
    places = {"WORK": str(work), "MIRROR": str(mirror)}
    given = {name: places.get(value, value) for name, value in options.items()}
    with pytest.raises(UsageError) as caught:
        resolve_dest(places.get(dest, dest), Options(**given))  # type: ignore[arg-type] # text for all
    assert message in str(caught.value)
    assert "planted" not in str(caught.value)


def test_the_account_of_azure_and_its_endpoint_are_a_part_of_dest(tmp_path, monkeypatch):
    """Another account may have the same container. Azure China has endpoints of its own."""
    settings = "AccountName={};AccountKey=QQ==;EndpointSuffix=core.{}"
    options = Options(work=tmp_path / "work")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", settings.format("own1", "chinacloudapi.cn"))
    found = resolve_dest("az://cont/p", options).bucket
    assert found is not None
    assert found.endpoint_url == "https://own1.blob.core.chinacloudapi.cn"
    with closing(open_writer(new_ledger(tmp_path / "work"))) as db:
        set_bucket(db, found.url, found.endpoint_url, "the id", 1)
    assert resolve_dest("az://cont/p", options).bucket == replace(found, mirror="the id", epoch=1)
    named = "abfs://cont@own1.dfs.core.chinacloudapi.cn/p"
    for form in (named, "https://OWN1.blob.core.chinacloudapi.cn/cont/p"):
        same = resolve_dest(form, options).bucket
        assert same is not None
        assert (same.url, same.mirror) == (named, "the id")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "own1")  # it does not state a cloud, but DEST does
        monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    for other in (("own2", "chinacloudapi.cn"), ("own1", "windows.net")):
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", settings.format(*other))
        with pytest.raises(
            UsageError, match=r"of az://cont/p with .* https://own1\.blob\.core\.chinacloudapi\.cn:"
        ):
            resolve_dest("az://cont/p", options)


def test_an_endpoint_of_the_environment_has_no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://key:planted@host")
    with pytest.raises(UsageError, match="endpoint of DEST must be a scheme") as caught:
        resolve_dest(URL, Options(work=tmp_path / "w"))
    assert "planted" not in str(caught.value)
