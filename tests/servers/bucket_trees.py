"""What a mirror holds, in a bucket or on disk, without the notes of the mirror itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance.trees import TOKEN

from stacpull.models import BucketLocation
from stacpull.sigv4 import Credentials, Signer, encode_key


def without_tokens(data: bytes) -> bytes:
    """Cut the tokens that the replica draws again for each response."""
    return TOKEN.sub(rb"\1", data)


def keys(s3: Any, location: BucketLocation) -> list[str]:
    """Return the keys of all objects of a mirror, below its prefix, without the probe, which stays."""
    prefix = f"{location.prefix}/"
    found = [
        one["Key"].removeprefix(prefix)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=prefix)
        for one in page.get("Contents", ())
    ]
    return [key for key in found if key != ".stacpull/probe"]


def body(s3: Any, location: BucketLocation, key: str) -> bytes:
    """Return the content of an object of a mirror."""
    found: bytes = s3.get_object(Bucket=location.bucket, Key=f"{location.prefix}/{key}")["Body"].read()
    return found


def _bodies(s3: Any, location: BucketLocation, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the content of objects. With boto3 that takes 3 ms of processor time for each."""
    endpoint = urlsplit(s3.meta.endpoint_url)
    if endpoint.scheme != "http":
        yield from ((key, body(s3, location, key)) for key in keys)
        return
    frozen = s3._request_signer._credentials.get_frozen_credentials()
    credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
    signer, region = Signer(), s3.meta.region_name
    with closing(HTTPConnection(endpoint.netloc)) as connection:
        for key in keys:
            path = f"/{location.bucket}/{encode_key(f'{location.prefix}/{key}')}"
            date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            headers = signer.sign("GET", path, {"host": endpoint.netloc}, credentials, region, date=date)
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            data = response.read()
            assert response.status == 200, (key, data)
            yield key, data


def objects(s3: Any, location: BucketLocation) -> dict[str, bytes]:
    """Return every object of a mirror, its own notes apart."""
    own = (key for key in keys(s3, location) if not key.startswith(".stacpull/"))
    return {key: without_tokens(data) for key, data in _bodies(s3, location, own)}


def tree(dest: Path) -> dict[str, bytes]:
    return {
        path.relative_to(dest).as_posix(): without_tokens(path.read_bytes())
        for path in sorted(dest.rglob("*"))
        if path.is_file() and ".stacpull" not in path.parts
    }
