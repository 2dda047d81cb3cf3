"""A bucket of radosgw as the destination."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from scripts.benchmarks.checking import WrongTreeError, wrong_tree
from scripts.benchmarks.lacking import program
from scripts.benchmarks.mixes import BUCKET, File

PREFIX = "m"
"""Every key starts with this folder."""


@dataclass(frozen=True)
class Gateway:
    """A running server of buckets."""

    endpoint: str
    keys: tuple[str, str]


@dataclass(frozen=True)
class BucketDestination:
    """A bucket for one run of a tool."""

    gateway: Gateway
    name: str

    @property
    def url(self) -> str:
        """The URL to write files below."""
        return f"s3://{self.name}/{PREFIX}"


@contextlib.contextmanager
def gateway(work: Path, size: int) -> Iterator[Gateway]:
    """Start a radosgw in `work` for `size` bytes. Raises Unavailable."""
    for name in ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool"):
        program(name)
    from tests.servers.radosgw import OWNER, radosgw  # noqa: PLC0415 - imports boto3

    place = work / "bucket"
    place.mkdir()
    with radosgw(place, memory=max(2 << 30, 2 * size)) as running:
        yield Gateway(running.url, (OWNER.access_key, OWNER.secret_key))


@contextlib.contextmanager
def bucket(found: Gateway) -> Iterator[BucketDestination]:
    """Create an empty bucket for one run, and remove its objects at the end."""
    made = BucketDestination(found, f"run-{uuid.uuid4().hex[:12]}")
    s3 = _client(found)
    s3.create_bucket(Bucket=made.name)
    try:
        yield made
    finally:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=made.name):
            keys = [{"Key": one["Key"]} for one in page.get("Contents", ())]
            if keys:
                s3.delete_objects(Bucket=made.name, Delete={"Objects": keys, "Quiet": True})
        s3.close()


def check_bucket(
    root: Path, files: list[File], dest: BucketDestination, place: Callable[[File], str], own: Iterable[str]
) -> None:
    """Compare a bucket with the manifest by ETag or content, like `checking.check` for a tree.

    Raises:
        WrongTreeError: An object is missing, altered or unexpected.
    """
    s3 = _client(dest.gateway)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=dest.name)
    there = {one["Key"]: one["ETag"].strip('"') for page in pages for one in page.get("Contents", ())}
    wrong, expected = [], set()
    for file in files:
        key = f"{PREFIX}/{place(file)}"
        expected.add(key)
        true = (root / BUCKET / file.path).read_bytes()
        if key not in there:
            wrong.append(f"{key} is missing")
        elif there[key] != hashlib.md5(true, usedforsecurity=False).hexdigest() and (
            "-" not in there[key] or s3.get_object(Bucket=dest.name, Key=key)["Body"].read() != true
        ):
            wrong.append(f"{key} is altered")
    patterns = [f"{PREFIX}/{pattern}" for pattern in own]
    strangers = [key for key in there.keys() - expected if not any(fnmatch(key, one) for one in patterns)]
    s3.close()
    if wrong := [*wrong, *(f"{key} is not of the manifest" for key in sorted(strangers))]:
        raise WrongTreeError(wrong_tree(wrong))


def _client(found: Gateway) -> Any:
    import boto3  # noqa: PLC0415 - takes long to import

    return boto3.client(
        "s3",
        endpoint_url=found.endpoint,
        region_name="us-east-1",
        aws_access_key_id=found.keys[0],
        aws_secret_access_key=found.keys[1],
    )
