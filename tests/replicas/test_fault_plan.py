"""The requests that a rule matches, without I/O, in tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull_replicas import Close, FaultPlan, PlannedFaults, RequestInfo, Rule, Status
from stacpull_replicas.fault_plan import Turn, kind_of

BANG = Close()


def request(target: str = "/x", server: str = "blob", method: str = "GET", **headers: str) -> RequestInfo:
    return RequestInfo(server, method, target, headers)


@pytest.mark.parametrize(
    ("server", "target", "kind"),
    [
        ("api", "/mlhub/v1/collections/c/items?limit=3", "page"),
        ("api", "/mlhub/v1/collections/c/items/", "page"),
        ("api", "/mlhub/v1/search", "page"),
        ("api", "/mlhub/v1/collections/c/items/an%2Fid", "item"),
        ("api", "/mlhub/v1/collections", "collection"),
        ("api", "/mlhub/v1/collections/c", "collection"),
        ("api", "/mlhub/v1/download/gAAA", "download"),
        ("api", "/mlhub/v1", "other"),
        ("api", "/mlhub/v1/archive/c", "other"),
        ("blob", "/mlhub/a/items/b.tif?sig=x", "object"),
        ("s3", "/bucket/key", "object"),
        ("s3", "/bucket?list-type=2", "listing"),
        ("s3", "/", "listing"),
    ],
)
def test_kinds(server: str, target: str, kind: str):
    assert kind_of(request(target, server)) == kind


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, True),
        ({"server": "blob"}, True),
        ({"server": "s3"}, False),
        ({"method": "HEAD"}, False),
        ({"path": "/mlhub/*.tif"}, True),
        ({"path": "*B0[12].tif"}, True),
        ({"path": "*.json"}, False),
        ({"path": "/mlhub"}, False),
        ({"regex": r"B01\.tif\?sig=\w+$"}, True),
        ({"regex": "^B01"}, False),
        ({"kind": "object"}, True),
        ({"kind": "page"}, False),
        ({"ranged": True}, True),
        ({"ranged": False}, False),
        ({"server": "blob", "kind": "object", "path": "*", "ranged": True}, True),
        ({"server": "blob", "kind": "object", "path": "*", "ranged": False}, False),
    ],
)
def test_matching(rule: dict[str, Any], matches: bool):
    info = request("/mlhub/a%20patch/x_B01.tif?sig=abc", range="bytes=7-")
    assert Rule(BANG, **rule).matches(info) is matches


@pytest.mark.parametrize(
    ("rule", "struck"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"first": 3, "last": 3}, [3]),
        ({"first": 3}, [3, 4, 5, 6, 7, 8]),
        ({"last": 2}, [1, 2]),
        ({"every": 3}, [1, 4, 7]),
        ({"first": 3, "every": 3}, [3, 6]),
        ({"times": 2}, [1, 2]),
        ({"first": 2, "every": 2, "times": 2}, [2, 4]),
        ({"probability": 0.0}, []),
    ],
)
def test_counting(rule: dict[str, Any], struck: list[int]):
    faults = PlannedFaults(FaultPlan((Rule(BANG, **rule),)))
    answers = [faults.before(request(f"/{number}")) for number in range(1, 9)]
    assert [number for number, fault in enumerate(answers, 1) if fault is not None] == struck


def test_counting_by_path():
    faults = PlannedFaults(FaultPlan((Rule(BANG, first=2, last=2, per="path"),)))
    targets = ["/a", "/b", "/a?again", "/c", "/b", "/a", "/c"]
    answers = [faults.before(request(target)) is not None for target in targets]
    assert answers == [False, False, True, False, True, False, True]


def test_the_first_matching_rule_applies_and_all_count_the_request():
    first, second = Rule(Status(503), last=1), Rule(BANG, last=2)
    faults = PlannedFaults(FaultPlan((first, second)))
    assert [faults.before(request()) for _ in range(3)] == [Status(503), BANG, None]


def test_a_rule_overridden_by_another_keeps_its_count():
    faults = PlannedFaults(FaultPlan((Rule(Status(503), last=1), Rule(BANG, times=1))))
    assert [faults.before(request()) for _ in range(3)] == [Status(503), BANG, None]


@given(st.integers(0, 2**40), st.permutations([f"/{n}" for n in range(8)] * 3))
def test_rules_per_path_do_not_depend_on_request_order(seed: int, targets: list[str]):
    plan = FaultPlan((Rule(BANG, probability=0.5, per="path"),), seed)

    def struck(order: list[str]) -> dict[str, list[bool]]:
        faults = PlannedFaults(plan)
        found: dict[str, list[bool]] = {}
        for target in order:
            found.setdefault(target, []).append(faults.before(request(target)) is not None)
        return found

    assert struck(targets) == struck(sorted(targets))


def test_faults_follow_the_probability_and_depend_on_the_seed():
    plans = [FaultPlan((Rule(BANG, probability=0.2),), seed) for seed in (1, 2)]
    runs = [[plan.choose([Turn(0, "", n, 0)]) is not None for n in range(1, 5001)] for plan in plans]
    assert all(900 < sum(run) < 1100 for run in runs)
    assert runs[0] != runs[1]
    assert runs[0] == [plans[0].choose([Turn(0, "", n, 0)]) is not None for n in range(1, 5001)]
