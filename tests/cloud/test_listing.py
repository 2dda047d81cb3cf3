"""A listing yields every object once although it fails, and a short object is read in one request."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import obstore
import pytest
from msgspec.structs import replace
from tests.cloud.between import Between, between

from stacpull.errors import DestinationError
from stacpull_cloud.bucket_store import BucketFiles
from stacpull_cloud.objects import PIECE, Objects


def test_a_listing_that_fails_in_between_is_continued(location, monkeypatch):
    """If a page always fails, the listing ends, although earlier pages can be read."""
    objects, whole, begun, outages = Objects(location), obstore.list, [], set()
    for number in range(5):
        objects.put(f"d/{number}", b"x", {}, create=True)

    first, last = whole(objects.service.store, chunk_size=3)

    def failing(*_: Any, **options: Any) -> Iterator[Any]:
        begun.append(options)
        yield last  # as an account of Azure with directories, which lists those first
        if len(begun) != 2:
            raise obstore.exceptions.GenericError("HTTP error")
        yield first

    monkeypatch.setattr(obstore, "list", failing)
    found = [path for page in objects.pages("d") for path in page]
    assert (sorted(found), len(begun)) == ([f"d/{number}" for number in range(5)], 2)
    monkeypatch.setattr(objects, "_is_over", lambda _=0: outages.add(objects._outage[0]) or len(begun) > 3)
    with pytest.raises(DestinationError, match="failed to list"):
        list(objects.pages("d"))
    assert (len(outages), len(begun)) == (1, 4)


def test_a_short_object_is_read_in_one_request(location, monkeypatch):
    """A long one is read in pieces, also if an S3 service states no ETag."""
    bodies = {"c/short": b"data", "c/long": bytes(range(256)) * (PIECE // 256) + b"end"}
    with between(Between(location.endpoint_url)) as service:
        if location.scheme == "s3":
            monkeypatch.setattr(service, "after", lambda got: {f: got[f] for f in got if f.lower() != "etag"})
        files = BucketFiles(Objects(replace(location, endpoint_url=service.url)))
        for path, body in bodies.items():
            Objects(location).put(path, body, {}, create=False)
            service.paths.clear()
            with files.open(path) as file:
                assert file.read(len(body) + 1) == body
            assert len(service.paths) == (1 if path == "c/short" else 3)


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_a_long_request_that_fails_is_repeated(location, monkeypatch):
    clock, failures = Mock(), iter([obstore.exceptions.GenericError("HTTP error")])
    clock.monotonic.return_value = 0.0
    monkeypatch.setattr("stacpull_cloud.objects.time", clock)

    def send(_: object) -> str:
        for failure in failures:
            clock.monotonic.return_value += 600.0
            raise failure
        return "sent"

    assert Objects(location).send("write", "a", send) == "sent"
