from typing import Any

import click
import pytest
from tests.cli.conftest import mirror_report, plan_report, status_report

from stacpull.cli.inspect_command import plan_lines, status_lines
from stacpull.cli.summary import FailureCounts, mirror_lines, nothing_to_do
from stacpull.config.toml import Config, Setting
from stacpull.models import FailureKind
from stacpull.reports import FailureRecord, HostPlan


def failures(**counts: int) -> FailureCounts:
    failed = FailureCounts()
    for kind, number in counts.items():
        for _ in range(number):
            failed.record(FailureKind(kind), "" if kind == "item" else "B10", "")
    return failed


def test_the_summary_of_a_complete_mirror() -> None:
    assert list(mirror_lines(mirror_report(assets_skipped=3), FailureCounts())) == [
        "complete: 65 of 65 files in out dir",
        "  added    62 files",
        "  fetched  829.0 kB of files and documents in 2.0 s (414.5 kB/s)",
        "  requests 140, 1 retry",
        "  present  3 files already here; the selection now has 65 files, 829.0 kB",
        "  items    400 read, 5 matched, 10 complete",
    ]


def test_a_mirror_with_failures_starts_with_them_and_is_not_called_complete() -> None:
    report = mirror_report(assets_planned=26, assets_done=24, assets_failed=2, assets_missing=2, items_done=0)
    lines = list(mirror_lines(report, failures(gone=1)))  # the other one is of an earlier run
    assert lines[0] == "24 of 26 files in out dir; 2 failed"
    assert lines[4:] == [
        "  items    400 read, 5 matched, 0 complete",
        f"  failed   1 missing from the source (B10: 1); {FailureKind.GONE.advice}",
        "  failed   1 in earlier runs, 1 of them missing from the source: not requested again until a retry",
        "for details: stacpull failures 'out dir'",
    ]


def test_the_command_that_resumes_keeps_the_options_for_the_source() -> None:
    with click.Context(click.Command("mirror")) as context:
        context.params = {"credentials": "archive", "no_sign_request": True, "header": ("a: secret",)}
        *_, line = mirror_lines(mirror_report(state="interrupted"), failures())
        assert line == "to resume:   stacpull resume 'out dir' --no-sign-request --credentials archive"
        context.params = {"endpoint_url": "http://h", "allow_local": ("a b", "c"), "region": None}
        *_, line = mirror_lines(mirror_report(state="interrupted"), failures())
        options = "--endpoint-url http://h --allow-local 'a b' --allow-local c"
        assert line == f"to resume:   stacpull resume 'out dir' {options}"
        context.params = {"endpoint_url": "http://h", "ca_bundle": None}
        for name, flag in {
            "retries": "",
            "dest-profile": "--config j.toml ",
            "header": "--config j.toml ",
        }.items():
            context.params["config"] = Config("j.toml", options={name: Setting("x", "j.toml")})
            *_, line = mirror_lines(mirror_report(state="interrupted", work="w"), failures())
            assert line == f"to resume:   stacpull resume 'out dir' {flag}--work w --endpoint-url http://h"


def test_source_items_are_counted_beside_the_items_that_match() -> None:
    lines = [
        *mirror_lines(mirror_report(source_items=5), failures()),
        *status_lines(status_report(source_items=1)),
    ]
    assert "  items    400 read, 5 matched and 5 source items, 10 complete" in lines
    assert "  items  400 read, 5 matched and 1 source item, 10 complete" in lines


@pytest.mark.parametrize(
    ("counts", "kinds", "end", "numbers"),
    [
        ({"assets_failed": 9, "assets_missing": 2}, {"checksum": 3}, "9 failed", [3, 6]),
        ({"assets_failed": 9, "assets_missing": 6}, {"checksum": 3}, "9 failed", [3, 6]),
        (
            {"assets_failed": 9, "assets_missing": 6, "assets_accepted": 6},
            {"checksum": 3, "gone": 1},
            "3 failed; 6 missing from the source",
            [3],
        ),
        (
            {"assets_failed": 9, "assets_outside": 6},
            {"checksum": 3, "outside": 1},
            "3 failed; 6 with nothing in the area of --clip",
            [3],
        ),
        ({"items_failed": 3, "assets_failed": 2}, {"item": 3, "checksum": 1}, "3 items failed", [3, 1, 1]),
    ],
)
def test_the_lines_of_failures_add_up(counts, kinds, end, numbers):
    first, *rest = mirror_lines(mirror_report(**counts), failures(**kinds))
    assert first.endswith(f"; {end}")
    assert [int(line.split()[1]) for line in rest if line.startswith("  failed")] == numbers


@pytest.mark.parametrize(
    ("kinds", "counts", "is_suggested"),
    [
        ({"scheme": 1, "name": 1, "prefix": 1}, {"assets_failed": 3}, True),
        ({"item": 1}, {"items_failed": 1}, True),
        # an entry of a file: only `mirror` reads it again
        ({"gone": 1}, {"items_failed": 1, "assets_failed": 1, "assets_missing": 1}, False),
        ({"gone": 2, "outside": 1}, {"assets_failed": 3, "assets_missing": 2, "assets_outside": 1}, False),
        ({"ordered": 1}, {"assets_failed": 2, "assets_ordered": 2}, False),
        ({"exists": 1}, {"assets_failed": 1}, True),  # without --adopt, which its message does not name
    ],
)
def test_retry_is_suggested_only_if_it_can_help(kinds, counts, is_suggested):
    lines = list(mirror_lines(mirror_report(**counts), failures(**kinds)))
    assert ("to retry:    stacpull retry 'out dir'" in lines) == is_suggested
    assert "for details: stacpull failures 'out dir'" in lines


def test_failures_that_are_accepted_are_not_called_failed() -> None:
    report = mirror_report(assets_failed=2, assets_missing=2, assets_accepted=2)
    first, *rest = mirror_lines(report, failures(gone=2))
    assert first == "65 of 65 files in out dir; 2 missing from the source"
    assert "  accepted 2 missing from the source (--missing)" in rest
    text = "\n".join(rest).replace("stacpull failures", "")
    assert ("failed" in text, "retry:" in text) == (False, False)
    assert "out dir: finished; 2 missing from the source; nothing to resume" in nothing_to_do(report)


def test_an_item_that_is_gone_is_not_counted_with_accepted_assets_that_are_gone():
    failed = failures(gone=2)
    failed.record(FailureKind.GONE, "", "The source item http://h/i could not be read.")
    report = mirror_report(assets_failed=2, assets_missing=2, assets_accepted=2, items_failed=1)
    first, *rest = mirror_lines(report, failed)
    assert first.endswith("; 2 missing from the source; 1 item failed")
    assert "  accepted 2 missing from the source (--missing)" in rest
    assert "  failed   1 with an invalid or unreadable item; the message says why" in rest
    assert "           for example: The source item http://h/i could not be read." in rest


def test_assets_that_are_not_ready_yet_do_not_count_as_failures_of_a_finished_mirror() -> None:
    assert list(nothing_to_do(mirror_report(assets_failed=2, assets_ordered=2))) == [
        "out dir: finished; 2 not ready yet at their host; nothing to resume",
        "to fetch assets that were not ready yet: stacpull retry --ordered 'out dir'",
        "to look for new items, or to prune: repeat the `stacpull mirror` command with the same filters",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"items_unseen": 1}, "http://s, read in part: 1 announced item not listed"),
        ({"sources": 2, "selection": {"max_items": 6}}, "http://s and 1 other, read completely"),
        ({"source": "stdin:0"}, "standard input, or items in Python, read completely"),
        ({"sources": 3, "selection": {"max_items": 5}}, "http://s and 2 others, read up to --max-items"),
    ],
)
def test_status_says_how_far_which_sources_were_read(changes, line):
    lines = list(status_lines(status_report(**changes, walk_ended=True)))
    assert lines[1] == f"  source {line}"


def test_status_does_not_count_assets_that_are_gone_or_not_ready_as_failed() -> None:
    report = status_report(assets_failed=4, assets_missing=1, assets_ordered=2)
    end = "1 missing from the source; 2 not ready yet at their host"
    assert next(iter(status_lines(report))) == f"out: finished; 1 failed; {end}"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"assets_pending": 7, "state": "interrupted"}, "interrupted: 65 of 65 files in out dir; at least 7"),
        ({"state": "failed", "reason": "The disk is full."}, "failed: 65 of 65 files in"),
        ({"items_failed": 2, "assets_planned": 0}, " of 0 files in out dir; 2 items failed\n"),
        ({"assets_excluded": 5}, "left out 5 assets (asset filters)"),
        ({"assets_pages": 2000}, "left out 2,000 web pages or endpoints; --inc"),
        ({"items_unseen": 1}, "unseen   1 item that the source announced"),
        ({"items_left_out": {"bbox": 34, "label": 1200}}, "left out 1,234 items (label: 1,200, bbox: 34)"),
        ({"assets_done": 0, "bytes_done": 0}, "added    0 files\n"),
        ({"assets_changed": 65}, "added    0 files, 65 replaced"),
        ({"assets_skipped": 65, "assets_revalidated": 65}, "  present  65 files already here (65 checked); "),
        ({"items_new": 2, "run": 2}, "changes  2 new items (source items included)"),
    ],
)
def test_the_summary_includes_remarks(changes: dict[str, Any], line: str) -> None:
    assert line in "\n".join([*mirror_lines(mirror_report(**changes), FailureCounts()), ""])
    assert line not in "\n".join(mirror_lines(mirror_report(), FailureCounts()))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"checkpoint": "http://s?2"}, "  source http://s, continues at http://s?2"),
        ({"items_pruned": 2}, "  pruned 2 items no longer in SOURCE, in the last `mirror`"),
        ({"walk_ended": True, "state": "complete", "reason": "It ends."}, "  source http://s, read in part"),
        ({"state": "interrupted"}, "to resume:   stacpull resume out"),
        ({"started": 1.5, "ended": None}, "  time   1970-01-01T00:00:01Z, of the latest run"),
        ({"started": 1.5, "ended": 60}, "  time   1970-01-01T00:00:01Z to 1970-01-01T00:01:00Z, of the la"),
        ({"assets_failed": 3, "assets_missing": 1}, "\n  failed 2 more\n"),
        ({"last_errors": (FailureRecord("", "x", "", "gone", "no", 404, 1, 0.0),)}, "  failed x: gone: no ("),
        ({"rate": 2_000_000.0}, "829.0 kB of complete files (2.0 MB/s in the latest run)"),
        (
            {"last_errors": (FailureRecord("c", "i", "k", "server", "HTTP 500", 500, 1, 0.0),)},
            "  failed c/i k: server: HTTP 500 (1 attempt, last 1970-01-01T00:00:00Z)",
        ),
    ],
)
def test_status_says_how_far_the_source_was_read_and_what_to_do(changes: dict[str, Any], line: str) -> None:
    assert line in "\n".join(status_lines(status_report(**changes)))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "items    5 match and 5 source items; 400 seen"),
        ({"items_announced": 590_326}, "400 of 590,326 seen"),
        ({"bytes_basis": "sampled", "bytes_sampled": 16}, "829.0 kB (sampled from 16 assets)"),
        ({"bytes_total": None, "bytes_basis": "unknown"}, "bytes    unknown: the source states no sizes"),
        ({"unknown_keys": {"B10": 5}}, "(known); without 5 assets of unknown size (B10: 5)"),
        ({"seconds_estimated": 90.0}, "requests 140\n"),  # nothing to fetch
        ({"seconds_estimated": 90.0, "assets_pending": 5}, "requests 140; about 1 min 30 s"),
        ({"seconds_estimated": 0.04, "assets_pending": 5}, "requests 140; about 1.0 s"),
        ({"assets_refused": 2}, "refused  2 assets that cannot be fetched"),
        ({"hosts": (HostPlan("h", 65),)}, "  h: 65 assets"),
        ({"bytes_pending": 5_000, "assets_pending": 5}, "to do    5 (5.0 kB); 0 already in out"),
        (
            {"assets_done": 60, "assets_pending": 1},
            "to do    1; 60 already in out dir; 4 failed earlier; `stacpull retry 'out dir'` tries again",
        ),
    ],
)
def test_plan_says_what_its_estimate_is_based_on(changes: dict[str, Any], line: str) -> None:
    assert line in "\n".join(plan_lines(plan_report(**changes), "out dir"))


def test_a_plan_does_not_name_a_bucket_in_the_command_that_retries() -> None:
    *_, line = plan_lines(plan_report(), "s3://bucket/m")
    assert line.endswith("in s3://bucket/m; 65 failed earlier; `stacpull retry DEST` tries again")
