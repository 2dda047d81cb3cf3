"""Servers that send the wrong bytes, too many, too few, or none: whole mirrors of long files.

Each row strikes a file on the blob host (HTTP) and one on S3 alike; differences between them are named.
"""

from typing import NamedTuple

import pytest
from tests.acceptance.command import wait_until
from tests.hostile.conftest import Stage
from tests.hostile.scene import CUT, INVERTED, on_objects


class Row(NamedTuple):
    """A clumsy server, and which statuses it answered with until the files were whole."""

    name: str
    faults: str
    statuses: list[int]
    """Of each of the two servers, in order of size."""
    or_else: list[int] | None = None
    """What they may be as well: aiohttp loses up to 256 KiB that came before a failure, a reset even more."""
    options: tuple[str, ...] = ()


CUT_ONCE = f"""
[[fault]]
kind = "object"
per = "path"
nth = 1
what = "close"
after = {CUT}
"""


def once(what: str, *more: str) -> str:
    return on_objects(what, "nth = 1", *more)


def after_a_cut(what: str, *more: str) -> str:
    """Break the first response off, and strike the second."""
    return CUT_ONCE + on_objects(what, "nth = 2", *more)


OTHER_RANGE = 'headers = {"Content-Range" = "bytes 1999999-3145726/3145728"}'
NO_RANGE = 'headers = {"Content-Range" = "bytes */9"}'
MULTIPART = """headers = {ETag = '"6dd64e90a6a4ea0e1b1a26eb5c1f4ca5-3"'}"""
HASTY = ("--stall-timeout", "3", "--min-rate", "1000")
ROWS = [
    Row("cut off: goes on", CUT_ONCE, [200, 206]),
    Row("200 to a Range", CUT_ONCE + on_objects("whole", "ranged = true"), [200, 200]),
    Row("a Content-Range one byte off", after_a_cut("alter", OTHER_RANGE), [200, 200, 206]),
    Row("no Content-Range at all", after_a_cut("alter", 'without = ["Content-Range"]'), [200, 200, 206]),
    Row("all bytes, but no last chunk", once("unframed", "chunked = true"), [200, 206]),
    Row("416 on a part that is not", after_a_cut("status", "code = 416", NO_RANGE), [200, 200, 416]),
    Row("gzip though identity was asked", on_objects("coded"), [200]),
    Row("longer than said", once("overlong"), [200, 200], or_else=[200]),
    Row("no Content-Length, closed early", once("unframed", f"keep = {CUT}"), [200, 200]),
    Row("stalls mid-body", once("stall", f"after = {CUT}", "seconds = 60"), [200, 206], options=HASTY[:2]),
    Row("a byte at a time", once("drip", f"after = {CUT}", "rate = 20"), [200, 206], options=HASTY),
    Row("one byte wrong", once("damage", "at = 1500000"), [200, 200]),
    Row("shorter, and a length that agrees", once("truncate", f"keep = {CUT}"), [200, 200]),
    Row("reset mid-body", once("close", f"after = {CUT}", "reset = true"), [200, 206], or_else=[200, 200]),
    Row("closed before an answer", once("close"), [200, 200]),
    Row("no HTTP", once("raw", 'data = "220 ready\\r\\n"'), [200, 200]),
    Row("a multipart ETag", on_objects("alter", MULTIPART), [200]),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_wrong_bodies_are_retried_until_correct(stage: Stage, row: Row) -> None:
    scene = stage(row.faults)
    ran = scene.mirror(*row.options)
    assert ran.code == 0, ran.err
    scene.assert_whole()
    possible = [row.statuses, *([row.or_else] if row.or_else else [])]
    for server in ("blob", "s3"):  # the one that stalls may not have noticed yet that the client is gone
        wait_until(lambda: sorted(scene.statuses(server)) in possible)  # noqa: B023 - at once
        assert sorted(scene.statuses(server)) in possible, server


def test_an_object_that_changes_before_a_resume_is_fetched_whole(stage: Stage) -> None:
    """Told by If-Range over HTTP, which is answered with the new whole; by If-Match on S3, which is a 412."""
    scene = stage(CUT_ONCE + on_objects("changed", "from = 2"))
    ran = scene.mirror()
    assert ran.code == 0, ran.err
    expected = {name: data.translate(INVERTED) for name, data in scene.expected().items()}
    assert scene.assets() == expected
    assert scene.statuses("blob") == [200, 200]
    assert scene.statuses("s3") == [200, 412, 200]


def test_an_object_that_keeps_changing_is_never_combined_from_versions(stage: Stage) -> None:
    """Every second answer is of another version, and those of the first break off."""
    changed = on_objects("changed", "from = 2", "every = 2")
    scene = stage(changed + on_objects("close", f"after = {CUT}"))
    ran = scene.mirror("--retries", "3")
    assert ran.code in {0, 1}, ran.err
    assert scene.assets(), ran.err
    new = {name: data.translate(INVERTED) for name, data in scene.expected().items()}
    assert scene.assets().items() <= new.items()
    assert len(scene.assets()) == ran.report["assets_done"]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId"])
def test_s3_is_requested_again_if_it_refuses_the_credentials_once(stage: Stage, code: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>The provided token has expired.</Message></Error>"
    scene = stage(on_objects("status", 'server = "s3"', "nth = 1", "code = 400", f'body = "{body}"'))
    ran = scene.mirror()
    assert ran.code == 0, ran.err
    scene.assert_whole()


def test_content_with_a_wrong_checksum_is_fetched_only_twice(stage: Stage) -> None:
    scene = stage(on_objects("damage"))
    ran = scene.mirror()
    assert (ran.code, ran.report["assets_failed"]) == (1, 2), ran.err
    assert (scene.statuses("blob"), scene.statuses("s3")) == ([200, 200], [200, 200])
    assert {f.kind for f in scene.failures()} == {"checksum"}
    assert (scene.assets(), scene.parts()) == ({}, [])
