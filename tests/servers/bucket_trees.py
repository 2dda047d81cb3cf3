"""What a mirror holds, in a bucket or on disk, without the notes of the mirror itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.acceptance.trees import TOKEN

from stacpull.models import BucketLocation


def without_tokens(data: bytes) -> bytes:
    """Cut the tokens that the replica draws again for each response."""
    return TOKEN.sub(rb"\1", data)


def keys(s3: Any, location: BucketLocation) -> list[str]:
    """Return the keys of all objects of a mirror, below its prefix."""
    prefix = f"{location.prefix}/"
    return [
        one["Key"].removeprefix(prefix)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=prefix)
        for one in page.get("Contents", ())
    ]


def body(s3: Any, location: BucketLocation, key: str) -> bytes:
    """Return the content of an object of a mirror."""
    found: bytes = s3.get_object(Bucket=location.bucket, Key=f"{location.prefix}/{key}")["Body"].read()
    return found


def objects(s3: Any, location: BucketLocation) -> dict[str, bytes]:
    """Return every object of a mirror, its own notes apart."""
    return {
        key: without_tokens(body(s3, location, key))
        for key in keys(s3, location)
        if not key.startswith(".stacpull/")
    }


def tree(dest: Path) -> dict[str, bytes]:
    return {
        path.relative_to(dest).as_posix(): without_tokens(path.read_bytes())
        for path in sorted(dest.rglob("*"))
        if path.is_file() and ".stacpull" not in path.parts
    }
