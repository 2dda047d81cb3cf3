from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import mirror_report, plan_report, status_report

from stacpull.cli.summary import ADVICE, mirror_lines, plan_lines, selection_text, status_lines
from stacpull.models import FailureKind, Selection
from stacpull.reports import Disk, FailureRecord, HostPlan


def test_every_kind_of_failure_has_advice() -> None:
    assert set(ADVICE) == set(FailureKind)


@pytest.mark.parametrize(
    ("selection", "text"),
    [
        ({}, ""),
        ({"labels": ("Rice fields",), "label_mode": "all"}, "--label 'Rice fields' --label-mode all"),
        ({"seasonal_snow": False, "cloud_and_shadow": True}, "--cloud-and-shadow --no-seasonal-snow"),
        ({"source_links": False, "all_collections": True}, "--all-collections --no-source-links"),
        ({"bbox": (1.0, 2.5, 3.0, 4.0), "max_cloud_cover": 20.0}, "--bbox 1,2.5,3,4 --max-cloud-cover 20"),
        ({"filter": "a = 1\n AND b = 2"}, "--filter 'a = 1 AND b = 2'"),
        ({"intersects": "x" * 70}, "--intersects " + shlex.quote("x" * 60 + "…")),
        ({"ids": tuple("abcdef")}, "--ids a --ids b --ids c --ids d (and 2 more)"),
        ({"prefer": ("s3", "https"), "include_pages": True}, "--prefer s3,https --include-pages"),
        ({"sample": 5, "seed": 3, "shard": (1, 4)}, "--sample 5 --seed 3 --shard 1/4"),
    ],
)
def test_a_selection_is_told_as_its_options(selection: dict[str, Any], text: str) -> None:
    assert selection_text(asdict(Selection(**selection))) == text


def test_a_mirror_that_went_well() -> None:
    assert list(mirror_lines(mirror_report(assets_skipped=3), {})) == [
        "out dir: complete",
        "  items  400 seen, 5 matched, 10 done",
        "  files  62 fetched, 3 already here",
        "  bytes  829.0 kB fetched in 2.0 s (414.5 kB/s), 140 requests, 1 retry",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"assets_failed": 2, "assets_missing": 1}, ", 2 failed, 1 of them gone at the source"),
        ({"assets_pending": 7, "state": "interrupted"}, ", 7 still to do"),
        ({"state": "interrupted"}, "go on with: stacpull resume 'out dir'"),
        ({"state": "failed", "reason": "The disk is full."}, "out dir: failed (The disk is full.)"),
        ({"assets_failed": 2}, "see why:    stacpull failures 'out dir'"),
        ({"items_failed": 2}, "try again:  stacpull retry 'out dir'"),
        ({"assets_excluded": 5}, "left out  5 assets by the asset filters"),
        ({"assets_pages": 1}, "left out  1 web page or endpoint; --include-pages fetches"),
        ({"assets_pages": 2000}, "left out  2,000 web pages or endpoints; --inc"),
        ({"items_unseen": 1}, "never met 1 item that the source announced"),
        ({"items_left_out": {"label": 1200, "bbox": 34}}, "left out  1,234 items (label: 1,200, bbox: 34)"),
    ],
)
def test_what_a_mirror_says_beside(changes: dict[str, Any], line: str) -> None:
    assert line in "\n".join(mirror_lines(mirror_report(**changes), {}))
    assert line not in "\n".join(mirror_lines(mirror_report(), {}))


def test_failures_by_kind_the_most_frequent_first() -> None:
    failed = {FailureKind.GONE: 2, FailureKind.STALLED: 30}
    lines = [line for line in mirror_lines(mirror_report(assets_failed=32), failed) if "  failed " in line]
    assert lines == [
        "  failed 30 (stalled): nothing came for --stall-timeout: retry",
        "  failed 2 (gone): listed by the source, but gone there; --missing ok accepts that",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "  walk   goes on at http://s"),
        ({"walk_ended": True}, "  walk   ended"),
        ({"state": "interrupted"}, "go on with: stacpull resume out"),
        ({"rate": 2_000_000.0}, "829.0 kB (2.0 MB/s in the last run)"),
        (
            {"last_errors": (FailureRecord("c", "i", "k", "gone", "HTTP 404", 404, 1, 0.0),)},
            "  failed c/i k: gone: HTTP 404 (1 attempt)",
        ),
    ],
)
def test_status(changes: dict[str, Any], line: str) -> None:
    assert line in "\n".join(status_lines(status_report(**changes)))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "items    5 match and 5 source items; 400 seen"),
        ({"items_announced": 590_326}, "400 of 590,326 seen"),
        ({}, "bytes    829.0 kB, as the source states"),
        ({"bytes_basis": "sampled", "bytes_sampled": 16}, "829.0 kB, estimated from 16 assets"),
        ({"bytes_total": None, "bytes_basis": "unknown"}, "bytes    unknown: the source states no sizes"),
        ({"seconds_estimated": 90.0}, "requests 140; about 1 min 30 s"),
        (
            {"assets_pages": 3, "page_keys": {"tilejson": 2, "index": 1}},
            "endpoints (index: 1, tilejson: 2); --inc",
        ),
        (
            {"assets_refused": 2},
            "refused  2 assets that cannot be fetched (unusable hrefs; S3 prefixes need --expand",
        ),
        ({"hosts": (HostPlan("h", 65),)}, "  h: 65 assets"),
        ({"assets_done": 60, "assets_pending": 5}, "to do    5; 60 are in out already"),
        ({"disk": Disk(1000, None)}, "warning: only 1.0 kB are free at the destination"),
        ({"disk": Disk(None, 3), "assets_pending": 5}, "warning: the destination has room for 3 more files"),
    ],
)
def test_plan(changes: dict[str, Any], line: str) -> None:
    assert line in "\n".join(plan_lines(plan_report(**changes), Path("out")))


def test_room_that_suffices_is_not_spoken_of() -> None:
    assert "warning" not in "\n".join(plan_lines(plan_report(disk=Disk(10**9, 10**6)), None))


def test_without_a_destination_nothing_is_said_of_one() -> None:
    assert "to do" not in "\n".join(plan_lines(plan_report(assets_pending=65), None))
