"""Where DEST is, as it is named: a directory, a bucket with its work directory, or that directory alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacpull import DestinationError, Options, UsageError
from stacpull.config.dest import bucket_url
from stacpull.engine.dest_address import DestAddress, parse_dest
from stacpull.ledger.database import ledger_path
from stacpull.models import BucketLocation
from stacpull.store.store_choice import bucket_of, remember_bucket

URL = "s3://bucket/a/b"
LOCATION = BucketLocation("bucket", "a/b", "http://one:1")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The work directory of a mirror in LOCATION."""
    remember_bucket(tmp_path / "work", LOCATION)
    ledger_path(tmp_path / "work").touch()
    return tmp_path / "work"


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
    url = bucket_url(text)
    assert (url and (url.bucket, url.prefix)) == found


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///",
        "s3://b",
        "s3://-bucket/a",
        "s3://key:secret@bucket/a",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/a\nb",
        "s3://bucket/a?x=1",
        "s3://bucket/" + "a" * 600,
    ],
)
def test_an_invalid_bucket_url_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="DEST is s3:") as caught:
        bucket_url(text)
    assert "secret" not in str(caught.value)


def test_a_new_mirror_in_a_bucket_is_found_without_writing(tmp_path: Path) -> None:
    options = Options(
        work=tmp_path / "w", dest_profile="p", dest_region="r", dest_endpoint_url="http://one:1/"
    )
    dest_address = parse_dest(URL, options)
    assert dest_address == DestAddress(
        tmp_path / "w", BucketLocation("bucket", "a/b", "http://one:1", "r", "p")
    )
    assert dest_address.name == URL
    assert list(tmp_path.iterdir()) == []


def test_a_known_mirror_is_named_by_its_url_or_by_its_work_directory(work: Path) -> None:
    known = bucket_of(work)
    assert known is not None
    assert known.mirror
    named = (
        (URL, Options(work=work)),
        (work, Options()),
        (work, Options(work=work)),
        (work, Options(dest_endpoint_url="http://one:1/")),
    )
    for dest, options in named:
        assert parse_dest(dest, options) == DestAddress(work, known)
    changed = parse_dest(work, Options(dest_profile="other", dest_region="there")).bucket
    assert changed is not None
    assert (changed.mirror, changed.profile, changed.region) == (known.mirror, "other", "there")


@pytest.mark.parametrize(
    ("dest", "options", "message"),
    [
        (URL, {}, "add --work DIR"),
        ("plain", {"work": "w"}, "--work is for a bucket as DEST"),
        ("plain", {"dest_profile": "p"}, "--dest-profile is for a bucket as DEST"),
        ("plain", {"dest_endpoint_url": "http://h"}, "--dest-endpoint-url is for a bucket as DEST"),
        ("plain", {"dest_region": "r"}, "--dest-region is for a bucket as DEST"),
        ("WORK", {"work": "w"}, "--work is for a bucket as DEST"),
        ("s3://bucket/other", {"work": "WORK"}, "is the work directory of s3://bucket/a/b: name another one"),
        ("s3://other/a/b", {"work": "WORK"}, "is the work directory of s3://bucket/a/b: name another one"),
        (URL, {"work": "WORK", "dest_endpoint_url": "http://two:2"}, "at http://one:1: name another one"),
        ("WORK", {"dest_endpoint_url": "http://two:2"}, "at http://one:1: name another one"),
        (URL, {"work": "MIRROR"}, "is a mirror with its files in it"),
        (URL, {"work": "w", "dest_endpoint_url": "http://key:planted@h"}, "must not contain a user"),
        (URL, {"work": "w", "dest_endpoint_url": "http://h/?key=planted"}, "must not contain a query"),
    ],
)
def test_contradictory_options_are_refused(
    work: Path, dest: str, options: dict[str, str], message: str
) -> None:
    mirror = work.parent / "mirror"
    ledger_path(mirror).parent.mkdir(parents=True)
    ledger_path(mirror).touch()
    places = {"WORK": str(work), "MIRROR": str(mirror)}
    given = {name: places.get(value, value) for name, value in options.items()}
    with pytest.raises(UsageError) as caught:
        parse_dest(places.get(dest, dest), Options(**given))  # type: ignore[arg-type] # text for all
    assert message in str(caught.value)
    assert "planted" not in str(caught.value)


def test_a_work_directory_that_was_never_used_may_be_given_to_another_bucket(tmp_path: Path) -> None:
    remember_bucket(tmp_path / "w", LOCATION)
    dest_address = parse_dest("s3://right/one", Options(work=tmp_path / "w"))
    assert dest_address.bucket == BucketLocation("right", "one")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"bucket"', "cannot be read"),
        ('{"bucket": 5}', "cannot be read"),
        ('{"bucket": "b", "scheme": "future"}', "cannot write to future://. Install a newer stacpull"),
        ('{"bucket": "b", "scheme": "http"}', "cannot write to http://"),
    ],
)
def test_an_invalid_bucket_file_is_an_error(work: Path, text: str, message: str) -> None:
    (work / ".stacpull" / "bucket.json").write_text(text)
    with pytest.raises(DestinationError, match=message):
        parse_dest(URL, Options(work=work))
