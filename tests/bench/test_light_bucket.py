"""The light bucket, as boto3 sees it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

import pytest
from botocore.exceptions import ClientError
from scripts.benchmarks.bucket_destination import bucket, light_gateway
from tests.servers.buckets import Keys, client


def test_objects_are_stored_listed_and_removed() -> None:
    """boto3 takes 3 ms of processor time for each: most of those that fill a page are stored without it."""
    with light_gateway() as found, bucket(found) as made:
        s3 = client(found.endpoint, Keys(*found.keys))

        def put(number: int) -> None:
            s3.put_object(Bucket=made.name, Key=f"m/{number:04} %&", Body=b"%d" % number)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, range(100)))
        with closing(HTTPConnection(urlsplit(found.endpoint).netloc)) as connection:
            for number in range(100, 1100):
                connection.request("PUT", quote(f"/{made.name}/m/{number:04} %&"), b"%d" % number)
                with connection.getresponse() as response:
                    assert (response.status, response.read()) == (200, b"")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=made.name, Prefix="m/")
        assert [len(page["Contents"]) for page in pages] == [1000, 100]
        got = s3.get_object(Bucket=made.name, Key="m/0007 %&")
        assert got["Body"].read() == b"7"
        s3.delete_object(Bucket=made.name, Key="m/0007 %&")
        with pytest.raises(ClientError, match="404"):
            s3.head_object(Bucket=made.name, Key="m/0007 %&")
        s3.close()


def test_no_object_is_overwritten_if_the_request_forbids_it() -> None:
    with light_gateway() as found, bucket(found) as made:
        s3 = client(found.endpoint, Keys(*found.keys))
        s3.put_object(Bucket=made.name, Key="k", Body=b"1", Metadata={"a": "b"}, IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.put_object(Bucket=made.name, Key="k", Body=b"2", IfNoneMatch="*")
        got = s3.get_object(Bucket=made.name, Key="k")
        assert (got["Body"].read(), got["Metadata"]) == (b"1", {"a": "b"})
        s3.close()
