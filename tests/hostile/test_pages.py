"""Sources whose pages break, repeat themselves, are too much, or have items of impossible names."""

import resource

import pytest
from tests.hostile.conftest import Stage
from tests.hostile.scene import ASSETS, NO_SEARCH, Cast, Scene

PAGE = '[[fault]]\nkind = "page"\n'
LABEL_PAGE = '[[fault]]\nserver = "api"\npath = "*_labels/items"\n'


def patches(stage: Stage, faults: str = "", *, items: int = 12) -> Scene:
    return stage(faults, Cast.PATCHES, items=items)


SMALL_PAGES = ("--page-size", "2")

PASSES = [
    pytest.param(PAGE + 'nth = 2\nwhat = "status"\ncode = 500', id="500"),
    pytest.param(PAGE + 'nth = 2\nwhat = "truncate"\nkeep = 700', id="broken JSON"),
    pytest.param(PAGE + 'nth = 2\nwhat = "login-page"', id="a login page"),
    pytest.param(PAGE + 'nth = 2\nwhat = "unframed"\nkeep = 700', id="cut off, no length"),
    pytest.param(PAGE + 'nth = 2\nwhat = "coded"', id="gzipped"),
    pytest.param(
        PAGE + 'nth = 2\nwhat = "bomb"\nshape = "deep"\nsize = 100000', id="nested too deeply, once"
    ),
    pytest.param(PAGE + 'nth = 2\nwhat = "stall"\nafter = 700\nseconds = 60', id="stalls"),
    pytest.param(PAGE + 'nth = 2\nwhat = "drip"\nafter = 700\nrate = 20', id="a byte at a time"),
    pytest.param(PAGE + 'from = 2\nuntil = 4\nwhat = "status"\ncode = 503', id="503 three times"),
]


@pytest.mark.parametrize("faults", PASSES)
def test_a_broken_page_is_requested_again(stage: Stage, faults: str) -> None:
    scene = patches(stage, faults)
    is_slow = '"stall"' in faults or '"drip"' in faults
    options = ("--stall-timeout", "2", "--min-rate", "1000") if is_slow else ()
    ran = scene.mirror("--page-size", "4", *options)
    assert ran.code == 0, ran.err
    assert (ran.report["items_seen"], ran.report["assets_done"]) == (12, 12 * len(ASSETS))
    scene.assert_whole()


WEB_PAGE = (
    'what = "status"\ncode = 200\nbody = "<!DOCTYPE html>{text}"\nheaders = {{"Content-Type" = "text/html"}}'
)
NEVER = [
    pytest.param(WEB_PAGE.format(text="Maintenance"), 4, "answered with a web page", id="a web page"),
    pytest.param('what = "login-page"', 3, "answered with a web page", id="a login page"),
    pytest.param('what = "truncate"\nkeep = 700', 4, "not JSON", id="broken JSON"),
    pytest.param('what = "status"\ncode = 200\nbody = "null"', 4, "no list of features", id="null"),
    pytest.param('what = "status"\ncode = 200', 4, "not JSON", id="empty"),
    pytest.param('what = "raw"\ndata = "SSH-2.0-OpenSSH"', 4, "malformed", id="no HTTP"),
    pytest.param('what = "bomb"\nshape = "deep"\nsize = 1000000', 4, "too deep", id="nested a million deep"),
    pytest.param(
        'what = "bomb"\nshape = "long"\nsize = 1073741824', 4, "more than 64000000 bytes", id="1 GiB"
    ),
    pytest.param('what = "fields"\ncount = 100000', 4, "too many header fields", id="fields without end"),
]


@pytest.mark.parametrize(("fault", "code", "message"), NEVER)
def test_a_page_that_stays_broken_ends_the_walk_and_resume_loses_no_item(stage, fault, code, message):
    """Page 4 of 6 fails: earlier pages are mirrored, and the walk resumes there later."""
    scene = patches(stage, LABEL_PAGE + f"from = 4\n{fault}\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = scene.mirror("--retries", "1", *SMALL_PAGES)
    assert ran.code == code, ran.err
    assert message in ran.sentences[-1]
    assert (ran.report["state"], ran.report["assets_done"]) == ("failed", 6 * len(ASSETS))
    assert message in ran.report["reason"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert len(scene.assets()) == 6 * 3, "three pages of two patches are here"
    scene.let_strike("")
    resumed = scene.again("resume")
    assert resumed.code == 0, resumed.err
    assert (resumed.report["items_seen"], resumed.report["assets_done"]) == (12, 12 * len(ASSETS))
    scene.assert_whole()


REPEATS = LABEL_PAGE + 'from = 3\nwhat = "page"\nnext = "{url}&again=1"\n'
SIXTH_TO_ITSELF = LABEL_PAGE + 'nth = 6\nwhat = "page"\nnext = "{url}"\n'
CIRCLES = [
    pytest.param(LABEL_PAGE + 'nth = 3\nwhat = "page"\nnext = "{url}"', 1, 6, "read before", id="to itself"),
    pytest.param(
        LABEL_PAGE + 'nth = 3\nwhat = "page"\nnext = "items?limit=2"', 1, 6, "read before", id="to the first"
    ),
    pytest.param(REPEATS, 1, 6, "nothing new", id="repeats"),
    pytest.param(SIXTH_TO_ITSELF + REPEATS, 1, 6, "read before", id="to itself after repeats"),
    pytest.param(REPEATS.replace("from = 3", "from = 6"), 0, 12, "", id="repeats at the end"),
    pytest.param(LABEL_PAGE + 'nth = 3\nwhat = "page"\nnext = "null"', 0, 6, "", id="a null next"),
    pytest.param(LABEL_PAGE + 'nth = 3\nwhat = "page"\nnext = "none"', 0, 6, "", id="no next"),
]


@pytest.mark.parametrize(("faults", "code", "items", "message"), CIRCLES)
def test_a_walk_without_progress_ends_and_reports_unseen_items(stage, faults, code, items, message):
    """A walk that had to end early exits with 1: the source announced twelve items, so some are missing."""
    scene = patches(stage, faults)
    ran = scene.mirror(*SMALL_PAGES)
    assert ran.code == code, ran.err
    assert message in ran.err
    assert ran.report["items_unseen"] == 12 - items
    assert (ran.report["reason"] or "").startswith("Reading ended") is bool(message)
    found = {path.parts[-2] for path in scene.dest.glob("bigearthnet/*/*_B01.tif")}
    assert len(found) == items


SOURCE_ITEMS = f'{NO_SEARCH}[[fault]]\nkind = "item"\nper = "path"\n'


@pytest.mark.parametrize(
    "fault", ['what = "status"\ncode = 500', 'what = "truncate"\nkeep = 100', 'what = "close"']
)
def test_a_source_item_that_breaks_once_is_read_again(stage: Stage, fault: str) -> None:
    scene = patches(stage, SOURCE_ITEMS + f"nth = 1\n{fault}\n", items=3)
    ran = scene.mirror()
    assert ran.code == 0, ran.err
    scene.assert_whole()


@pytest.mark.parametrize(
    "fault", ['what = "status"\ncode = 404', 'what = "status"\ncode = 500', 'what = "truncate"\nkeep = 100']
)
def test_an_unavailable_source_item_is_a_separate_failure(stage: Stage, fault: str) -> None:
    scene = patches(stage, f'{NO_SEARCH}[[fault]]\nkind = "item"\nserver = "api"\n{fault}\n', items=3)
    ran = scene.mirror("--retries", "0")
    assert ran.code == 1, ran.err
    assert ran.report["items_failed"] == 3
    assert ran.report["assets_done"] == 3
    scene.let_strike("")
    assert scene.again("retry").code == 0
    scene.assert_whole()


@pytest.mark.parametrize(
    "fault",
    [
        'what = "status"\ncode = 500',
        'what = "truncate"\nkeep = 100',
        'what = "close"\nafter = 100',
        'what = "page"\nids = ["other"]',
        'what = "bomb"\nshape = "deep"\nsize = 1000000',
    ],
)
def test_source_items_that_a_search_does_not_return_are_read_one_by_one(stage: Stage, fault: str) -> None:
    scene = patches(stage, f'[[fault]]\nserver = "api"\npath = "*/search"\n{fault}\n', items=3)
    ran = scene.mirror("--retries", "1")
    assert ran.code == 0, ran.err
    scene.assert_whole()
    assert scene.statuses("api", "item")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ('nth = 2\nwhat = "truncate"\nkeep = 700', 0),
        ('what = "status"\ncode = 500', 4),
        ('what = "login-page"', 3),
    ],
)
def test_plan_retries_pages_and_has_the_exit_codes_of_mirror(stage: Stage, fault: str, code: int) -> None:
    scene = patches(stage, PAGE + fault)
    ran = scene.run("plan", scene.hub.base_url, "-C", scene.cast.value, *SMALL_PAGES, "--retries", "1")
    assert ran.code == code, ran.err
    assert code or ran.report["items_seen"] == 12
