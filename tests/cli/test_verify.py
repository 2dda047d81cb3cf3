"""The lines that `verify` prints from its report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import mirror_report

from stacpull.cli.summary import FailureCounts
from stacpull.cli.verify_command import verify_lines
from stacpull.events import Damage
from stacpull.models import FailureKind
from stacpull.reports import VerifyReport

CLEAN: dict[str, Any] = {
    "dest": "out dir",
    "state": "complete",
    "files": 453,
    "bytes": 5_381_271,
    "mirror_state": "complete",
    "walk_ended": True,
    "quick": False,
    "seconds": 0.5,
}
CLEAN |= dict.fromkeys(
    ("missing", "short", "altered", "obstructed", "unreadable", "unknown", "unproven", "leftovers",
     "assets_pending", "assets_failed", "assets_missing", "remaining"), 0
)  # fmt: skip


def report(**changes: Any) -> VerifyReport:
    return VerifyReport(**{**CLEAN, **changes})


@pytest.mark.parametrize(
    ("changes", "expected", "code"),
    [
        (
            {},
            [
                "out dir: OK, 453 files verified",
                "453 files (assets and metadata), 5.4 MB in 0.5 s (10.8 MB/s)",
            ],
            0,
        ),
        ({"unproven": 3}, ["5.4 MB in 0.5 s; 3 checked by size only"], 0),
        ({"leftovers": 1}, ["1 partial download (the next run will finish or remove them)"], 0),
        (
            {"assets_pending": 4, "mirror_state": "interrupted", "walk_ended": False},
            [
                "out dir: 453 files verified; the mirror is incomplete: at least 4 still to fetch or check\n",
                "stacpull resume 'out dir'",
            ],
            0,
        ),
        (
            {"mirror_state": "interrupted", "walk_ended": False},
            ["the mirror is incomplete: SOURCE was not read to its end\n", "stacpull resume 'out dir'"],
            0,
        ),
        (
            {"assets_failed": 13, "assets_missing": 2, "assets_ordered": 1, "items_failed": 1},
            [
                "verified; 10 failed, 2 missing from the source, 1 not ready yet at their host",
                "stacpull failures 'out",
            ],
            0,
        ),
        (
            {"missing": 1, "short": 2, "remaining": 3},
            ["3 files damaged (1 missing, 2 short)", "stacpull verify --repair 'out dir'"],
            1,
        ),
        ({"obstructed": 1, "remaining": 1}, ["first move the", "stacpull verify --repair 'out dir'"], 1),
        (
            {"obstructed": 1, "remaining": 1, "repair": mirror_report(assets_failed=1)},
            ["repaired 0 of 1", "first move the", "stacpull verify --repair 'out dir'"],
            1,
        ),
        ({"unknown": 1}, ["OK, 453 files verified; 1 file that does not belong", "files are kept"], 0),
        (
            {"unknown": 2, "strict": True, "remaining": 2},
            ["do not belong to the mirror (damage, because of"],
            1,
        ),
        (
            {"unknown": 1, "remaining": 1, "strict": True},
            ["dir: 453 files verified; 1 file that does", "(damage, because of --strict)", "files are kept"],
            1,
        ),
        (
            {"missing": 2, "repair": mirror_report(assets_done=0)},  # catalogs
            ["out dir: repaired 2 of 2 damaged files (2 missing)"],
            0,
        ),
        (
            {"short": 2, "remaining": 1, "repair": mirror_report(assets_done=1, assets_failed=1)},
            ["repaired 1 of 2 damaged files (2 short)", "for example: too far away\nfor details: stacp"],
            1,
        ),
        ({"state": "interrupted"}, ["out dir: interrupted", "stacpull verify 'out dir'"], 130),
    ],
)
def test_report_lines_and_exit_codes(changes: dict[str, Any], expected: list[str], code: int) -> None:
    made = report(**changes)
    failures = FailureCounts()
    failures.record(FailureKind.SCHEME, "B02", "too far away")
    text = "\n".join(verify_lines(made, failures=failures, are_listed=False))
    assert [part for part in expected if part not in text] == [], text
    assert made.exit_code == code


@pytest.mark.parametrize(("flags", "unknown"), [([], 0), (["-v"], 25), (["--strict"], 25), (["--json"], 25)])
def test_unknown_files_are_printed_on_request(stacpull_command, monkeypatch, flags, unknown):
    async def verified(dest: Path, *, on_event: Callable[[Damage], None], **_: object) -> VerifyReport:
        for number in range(25):
            on_event(Damage(f"{number}.txt", "unknown", "nothing", "a file"))
            on_event(Damage(f"{number}.tif", "missing", "4 bytes", "nothing"))
        return report(unknown=25, missing=25)

    monkeypatch.setattr("stacpull.engine.verify.verify", verified)
    printed = stacpull_command("verify", "d", *flags).out
    assert (printed.count(".txt"), printed.count(".tif")) == (unknown, 25)
    assert ("kept; -v lists them. `stacpull mirror SOURCE DEST --adopt` accepts" in printed) is (not flags)
    if unknown and "--json" not in flags:
        assert "unknown: 0.txt: not part of the mirror\n" in printed
