"""Servers that refuse, or ask to wait: what is waited out, read again, final, and what stops the run."""

import re
import time
from email.utils import formatdate

import pytest
from tests.acceptance.expiring_hrefs import expire_once
from tests.hostile.conftest import Stage
from tests.hostile.scene import CUT, NO_SEARCH, PATIENT, SIZE, Cast

SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def status(code: int, *more: str, kind: str = "object") -> str:
    lines = ["", "[[fault]]", f'kind = "{kind}"', 'what = "status"', f"code = {code}"]
    return "\n".join([*lines, *more])


def once(code: int, *more: str) -> str:
    return status(code, 'per = "path"', "nth = 1", *more)


def retry_after(time: str, code: int = 429) -> str:
    return once(code, f'headers = {{"Retry-After" = "{time}"}}')


THROTTLES = {
    "429, Retry-After": (retry_after("7"), 7),
    "503": (once(503), None),
    "403 SlowDown": (once(403, f'body = "{SLOW_DOWN}"'), None),
    "403, rate limit": (once(403, 'body = "Rate limit exceeded. Try again in 8 seconds."'), 8),
    "500, Retry-After": (retry_after("3", 500), 3),
    "a date to come": (retry_after("SOON"), 20),
    "no time at all": (retry_after("0"), None),
    "nonsense": (retry_after("soon"), None),
    "a year": (retry_after("31536000"), None),
}
"""The ways in which a host requests a pause, and the least seconds of waiting if it gave a time."""


@pytest.mark.parametrize(("faults", "waited"), THROTTLES.values(), ids=THROTTLES)
def test_waiting_for_throttling_costs_no_attempt(stage: Stage, faults: str, waited: float | None) -> None:
    soon = formatdate(time.time() + 45, usegmt=True)
    scene = stage(faults.replace("SOON", soon))
    ran = scene.mirror("--retries", "0")
    assert ran.code == 0, ran.err
    scene.assert_whole()
    assert ran.report["retries"] == 2
    for server in ("blob", "s3"):
        assert len(scene.statuses(server)) == 2
    longest = max(scene.clock.sleeps)
    assert longest <= 900
    assert longest >= (waited or 0)


def test_throttling_pauses_all_workers_of_a_host(stage: Stage) -> None:
    scene = stage(status(429, 'server = "blob"', "nth = 1", 'headers = {"Retry-After" = "20"}'), Cast.PATCHES)
    ran = scene.mirror()
    assert ran.code == 0, ran.err
    scene.assert_whole()
    refused_at = scene.statuses("blob").index(429)
    in_flight = 16  # the first limit of a gate
    assert refused_at <= in_flight
    assert max(scene.clock.sleeps) >= 18
    log = (scene.dest / ".stacpull" / "log.ndjson").read_text()
    assert re.search(
        r'"warning","text":"\S+ is throttling: stacpull pauses for 20 s, then sends up to 8 ', log
    )


@pytest.mark.parametrize("code", [429, 503])
def test_throttling_costs_attempts_after_twenty(stage: Stage, code: int) -> None:
    scene = stage(status(code, 'headers = {"Retry-After" = "0"}'))
    scene.clock.hurry = 5000
    ran = scene.mirror("--retries", "2")
    assert ran.code == 1, ran.err
    for server in ("blob", "s3"):
        assert scene.statuses(server) == [code] * (1 + 20 + 2)
    assert {(f.kind, f.status) for f in scene.failures()} == {("throttled", code)}


def test_an_asset_throttled_for_an_hour_fails(stage: Stage) -> None:
    scene = stage(status(429, 'server = "blob"', 'headers = {"Retry-After" = "890"}'))
    scene.clock.hurry = 50_000
    ran = scene.mirror("--retries", "0")
    assert ran.code == 1, ran.err
    assert len(scene.statuses("blob")) == 1 + 4  # four times 890 s are within the hour
    assert ran.report["assets_done"] == 1  # the one on S3


@pytest.mark.parametrize(("kind", "message"), [("object", "960"), ("download", "86400"), ("page", "960000")])
def test_longer_than_a_quarter_of_an_hour_ends_the_run_with_4(stage: Stage, kind: str, message: str) -> None:
    scene = stage(status(429, "times = 1", f'headers = {{"Retry-After" = "{message}"}}', kind=kind))
    ran = scene.mirror()
    assert ran.code == 4, ran.err
    assert f"asks to wait for {int(message) // 60} minutes: run the command again" in ran.sentences[-1]
    assert max(scene.clock.sleeps, default=0) < 900
    assert not scene.failures()
    resumed = scene.again("resume")
    assert resumed.code == 0, resumed.err
    scene.assert_whole()


@pytest.mark.parametrize("code", [404, 410])
def test_missing_assets_fail_and_the_run_continues(stage: Stage, code: int) -> None:
    scene = stage(status(code, 'server = "blob"', 'path = "*_B01.tif"'), Cast.PATCHES)
    ran = scene.mirror()
    assert ran.code == 1, ran.err
    counts = {name: ran.report[f"assets_{name}"] for name in ("done", "failed", "missing", "pending")}
    assert counts == {"done": 9, "failed": 3, "missing": 3, "pending": 0}
    assert {(f.key, f.kind, f.status) for f in scene.failures()} == {("B01", "gone", code)}
    assert ran.report["retries"] == 0
    assert len(scene.assets()) == 9 - 3  # and the labels, which are JSON


@pytest.mark.parametrize("code", [300, 304, 306, 402, 451])
def test_other_refusals_and_invalid_redirects_are_final_at_once(stage: Stage, code: int) -> None:
    scene = stage(status(code, 'headers = {Location = "/elsewhere"}'))
    assert scene.mirror().code == 1
    assert (scene.statuses("blob"), scene.statuses("s3")) == ([code], [code])
    assert {(f.kind, f.status) for f in scene.failures()} == {("http", code)}


@pytest.mark.parametrize("code", [408, 500, 599])
def test_temporary_errors_are_retried_as_often_as_set(stage: Stage, code: int) -> None:
    scene = stage(status(code, 'server = "blob"', 'body = "<html>Bad gateway</html>"'))
    ran = scene.mirror("--retries", "2")
    assert (ran.code, ran.report["assets_done"]) == (1, 1)
    assert scene.statuses("blob") == [code] * 3
    (failure,) = scene.failures()
    assert (failure.kind, failure.status, failure.attempts) == ("server", code, 3)
    scene.let_strike("")
    assert scene.again("retry").code == 0
    scene.assert_whole()


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_an_href_that_expires_within_a_file_is_read_again_and_the_part_resumes(stage, code):
    cut = f'\n[[fault]]\nkind = "object"\nper = "path"\nnth = 1\nwhat = "close"\nafter = {CUT}\n'
    scene = stage(cut + status(code, 'per = "path"', "nth = 2"))
    ran = scene.mirror()
    assert ran.code == 0, ran.err
    scene.assert_whole()
    for server in ("blob", "s3"):
        assert scene.statuses(server) == [200, code, 206]
        assert scene.sent(server) <= SIZE
    assert len(scene.statuses("api", "item")) == 2  # one for each of the two items


@pytest.mark.parametrize("code", [400, 403, 410])
def test_an_href_that_is_refused_again_is_final(stage: Stage, code: int) -> None:
    scene = stage(status(code, kind="download"))
    ran = scene.mirror()
    assert ran.code == 1, ran.err
    assert scene.statuses("api", "fault") == [code] * 4
    assert len(scene.statuses("api", "item")) == 2
    assert {f.status for f in scene.failures()} == {code}


def test_hrefs_that_expire_while_they_wait_in_the_queue_are_read_again(stage: Stage) -> None:
    scene = stage("", Cast.PATCHES, items=12, href_ttl=0.4, latency_ms=40)
    expire_once(scene.hub)
    ran = scene.mirror("--concurrency", "4")
    assert ran.code == 0, ran.err
    scene.assert_whole()
    assert scene.statuses("api", "error"), "nothing had expired"


@pytest.mark.parametrize(
    "faults",
    [
        '[[fault]]\nserver = "s3"\nwhat = "status"\ncode = 401\n',
        '[[fault]]\nserver = "s3"\nwhat = "login-page"\n',
        NO_SEARCH + status(403, 'server = "api"', kind="item"),
        '[[fault]]\nserver = "api"\nfrom = 25\nwhat = "status"\ncode = 401\n',  # the login expires
    ],
)
def test_fifty_refusals_in_a_row_exit_with_3_and_record_no_failure(stage: Stage, faults: str) -> None:
    scene = stage(faults, Cast.PATCHES, items=60)
    ran = scene.mirror()
    assert ran.code == 3, ran.err
    assert "50 requests in a row" in ran.sentences[-1]
    assert ": check the credentials." in ran.sentences[-1]
    assert ran.sentences[-1].count("resume") <= 1
    assert not scene.failures()
    scene.let_strike("")
    resumed = scene.again("resume")
    assert (resumed.code, resumed.report["assets_failed"]) == (0, 0), resumed.err
    scene.assert_whole()


@pytest.mark.parametrize("options", [(), ("--limit-rate", "1G")], ids=["fast path", "general path"])
def test_refusals_between_successes_are_asset_failures(stage: Stage, options: tuple[str, ...]) -> None:
    """Four of six are refused, so far more than fifty assets are refused twice, in whatever order."""
    faults = "".join(status(403, 'server = "blob"', f"every = {number}") for number in (2, 3))
    scene = stage(faults, Cast.PATCHES, items=60)
    ran = scene.mirror("--retries", "0", *PATIENT, *options)
    assert ran.code == 1, ran.err
    assert ran.report["assets_failed"] > 50
    assert {(f.kind, f.status) for f in scene.failures()} == {("refused", 403)}
    scene.let_strike("")
    assert scene.again("retry").code == 0
    scene.assert_whole()


@pytest.mark.parametrize("kind", ["collection", "page"])
@pytest.mark.parametrize(
    "fault", ['what = "status"\ncode = 401', 'what = "status"\ncode = 403', 'what = "login-page"']
)
def test_a_source_that_refuses_the_credentials_ends_the_run_with_3(stage, kind, fault):
    scene = stage(f'[[fault]]\nkind = "{kind}"\n{fault}\n')
    ran = scene.mirror()
    assert ran.code == 3, ran.err
    assert "MLHUB_API_KEY" in ran.sentences[-1]
    assert scene.assets() == {}


def test_an_expired_href_that_gives_a_login_page_is_read_again(stage: Stage) -> None:
    scene = stage('[[fault]]\nkind = "object"\nper = "path"\nnth = 1\nwhat = "login-page"\n')
    ran = scene.mirror()
    assert ran.code == 0, ran.err
    assert scene.statuses("api", "item") == [200, 200]
    scene.assert_whole()


@pytest.mark.parametrize("code", [401, 403])
def test_one_refused_item_does_not_end_the_run(stage: Stage, code: int) -> None:
    refused = status(code, 'server = "api"', "nth = 2", kind="item")
    scene = stage(NO_SEARCH + refused, Cast.PATCHES, items=6)
    ran = scene.mirror()
    assert ran.code == 1, ran.err
    assert (ran.report["items_failed"], ran.report["assets_done"]) == (1, 6 + 5 * 3)
    assert scene.again("retry").code == 0
    scene.assert_whole()
