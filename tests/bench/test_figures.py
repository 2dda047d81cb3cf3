"""Medians, ratios, and the decision to run another round."""

from __future__ import annotations

import pytest
from scripts.benchmarks.figures import Figure, Outcome, another_round, beside, median, ratio, summary


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(1.0, 2.0, 30)], (1.0, 2.0, 30)),
        ([(1.0, 9.0, 30), (5.0, 2.0, 10), (3.0, 4.0, 20)], (3.0, 4.0, 30)),
        ([(1.0, 1.0, 1), (2.0, 3.0, 4)], (1.5, 2.0, 4)),
    ],
    ids=["one", "each figure by itself, memory the largest", "an even number"],
)
def test_medians(runs: list[tuple[float, float, int]], expected: tuple[float, float, int]):
    assert median([Figure(*run) for run in runs]) == Figure(*expected)


def test_no_runs_have_no_median():
    with pytest.raises(ValueError, match="no runs"):
        median([])


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"), [(3.0, 2.0, 1.5), (1.0, 3.0, 0.333), (1.0, None, None), (1.0, 0.0, None)]
)
def test_ratios(theirs: float, ours: float | None, expected: float | None):
    assert ratio(theirs, ours) == expected


def test_summary_gives_medians_per_file_and_the_ratios_to_ours():
    runs = Figure(2.0, 1.0, 50_000_000), Figure(4.0, 3.0, 60_000_000), Figure(3.0, 2.0, 55_000_000)
    rows = summary([Outcome("stacpull", runs), Outcome("curl", (Figure(1.5, 0.5, 10_000_000),))], 1000)
    ours, curl = rows["stacpull"], rows["curl"]
    assert (ours["wall_s"], ours["cpu_s"], ours["memory_mb"]) == (3.0, 2.0, 60.0)
    assert (ours["wall_to_ours"], ours["cpu_to_ours"], ours["cpu_us_per_file"]) == (1.0, 1.0, 2000.0)
    assert (curl["wall_to_ours"], curl["cpu_to_ours"], curl["cpu_us_per_file"]) == (0.5, 0.25, 500.0)
    assert [run["wall_s"] for run in ours["runs"]] == [2.0, 4.0, 3.0]


def test_other_load_is_what_neither_the_tool_nor_the_origin_used():
    figure = beside(Figure(2.0, 1.0, 10), 3.5, 0.5)
    assert (figure.origin_cpu, figure.others_cpu) == (0.5, 2.0)
    coarse = beside(Figure(2.0, 1.0, 10), 1.2, 0.5)  # counted in ticks
    assert coarse.others_cpu == 0
    row = summary([Outcome("stacpull", (figure, figure._replace(others_cpu=0.2)))], 1)["stacpull"]
    assert (row["origin_cpu_s"], row["others_cores"]) == (0.5, 1.0)


def test_skipped_and_failed_tools_have_no_figures():
    rows = summary(
        [
            Outcome("stacpull", failed="the tree is wrong"),
            Outcome("curl", (Figure(1, 1, 1),)),
            Outcome("wget2", (Figure(1, 1, 1),), failed="ended with 8 in the second round"),
            Outcome("s5cmd", skipped="speaks S3 only"),
        ],
        10,
    )
    assert rows["stacpull"] == {"failed": "the tree is wrong"}
    assert rows["wget2"] == {"failed": "ended with 8 in the second round"}
    assert rows["s5cmd"] == {"skipped": "speaks S3 only"}
    assert rows["curl"]["wall_to_ours"] is None


@pytest.mark.parametrize(
    ("done", "longest", "left", "expected"),
    [
        (0, 0.0, -5.0, True),
        (1, 4.0, 5.0, True),
        (1, 6.0, 5.0, False),
        (2, 600.0, float("inf"), True),
        (3, 1.0, float("inf"), False),
    ],
    ids=["always a first", "one more fits", "one more does not", "without a limit", "as many as wanted"],
)
def test_another_round(done: int, longest: float, left: float, expected: bool):
    assert another_round(done, 3, longest, left) is expected
