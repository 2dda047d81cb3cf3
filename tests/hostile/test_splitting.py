"""Hosts that cap each connection, and go wrong where a file comes over several: whole mirrors of long files.

Each row strikes a file on the blob host (HTTP) and one on S3 alike. The clock of the runs is fifty times as
fast as the wall's, so several connections are tried within a tenth of a second.
"""

import pytest
from tests.acceptance.command import wait_until
from tests.hostile.conftest import Stage
from tests.hostile.scene import INVERTED, PATIENT, Scene, on_objects

pytestmark = pytest.mark.usefixtures("shorter_files_are_long")

SIZE = 13 << 19
CAPPED = on_objects("drip", "rate = 2_600_000")
"""A block takes 0.8 s: longer than the refusal of a range, also on a busy machine."""


def shared(stage: Stage, faults: str) -> Scene:
    return stage(faults, large_size=SIZE)


def test_a_capped_host_is_used_over_several_connections(stage: Stage) -> None:
    scene = shared(stage, CAPPED)
    ran = scene.mirror(*PATIENT)
    assert ran.code == 0, ran.err
    scene.assert_whole()
    assert ran.report["retries"] == 0
    for server in ("blob", "s3"):  # which notes the first response once it sees that the client left it
        assert wait_until(lambda: 200 in scene.statuses(server))  # noqa: B023 - at once
        statuses = scene.statuses(server)
        assert sorted(statuses) == [200, *[206] * (len(statuses) - 1)]
        assert len(statuses) > 1
        pieces = [r.headers for r in scene.hub.requests if r.server == server and r.status == 206]
        assert all("if-match" in headers for headers in pieces)


def altered(how: str) -> str:
    return on_objects("alter", "ranged = true", how)


INVALID = [
    pytest.param(on_objects("whole", "ranged = true"), id="200 to a range"),
    pytest.param(on_objects("status", "ranged = true", "code = 416"), id="416"),
    pytest.param(altered(f'headers = {{"Content-Range" = "bytes 5-9/{SIZE}"}}'), id="another range"),
    pytest.param(altered('headers = {"Content-Range" = "x"}'), id="no range"),
    pytest.param(altered('headers = {"Content-Encoding" = "gzip"}'), id="a coding"),
    pytest.param(altered("""headers = {ETag = '"v2"'}"""), id="another object"),
    pytest.param(altered("""headers = {ETag = 'W/"v1"'}"""), id="a weak ETag"),
    pytest.param(altered('without = ["ETag"]'), id="a date alone"),
    pytest.param(altered('without = ["ETag", "Last-Modified"]'), id="no word of which object"),
]
UNSTEADY = [
    pytest.param(on_objects("truncate", "ranged = true", "keep = 1_500_000"), id="short ranges"),
    pytest.param(on_objects("close", "ranged = true", "after = 1_500_000", "every = 2"), id="broken off"),
    pytest.param(on_objects("status", "ranged = true", "code = 503", "every = 2"), id="503, one in two"),
]


@pytest.mark.parametrize("faults", UNSTEADY)
def test_range_errors_are_recovered(stage: Stage, faults: str) -> None:
    scene = shared(stage, faults + CAPPED)
    ran = scene.mirror(*PATIENT)
    assert ran.code == 0, ran.err
    scene.assert_whole()


@pytest.mark.parametrize("faults", INVALID)
def test_an_invalid_range_response_ends_splitting(stage: Stage, faults: str) -> None:
    """The first response is still there, and brings the rest."""
    scene = shared(stage, faults + CAPPED)
    ran = scene.mirror(*PATIENT)
    assert (ran.code, ran.report["retries"]) == (0, 0), ran.err
    scene.assert_whole()
    assert all(1 < len(scene.statuses(server)) <= 1 + 3 for server in ("blob", "s3"))


def test_ranges_of_different_versions_are_not_combined(stage: Stage) -> None:
    scene = shared(stage, on_objects("changed", "from = 3") + CAPPED)
    ran = scene.mirror(*PATIENT)
    assert ran.code == 0, ran.err
    old = scene.expected()
    found = scene.assets()
    assert found.keys() == old.keys()
    assert all(data in {old[name], old[name].translate(INVERTED)} for name, data in found.items())
