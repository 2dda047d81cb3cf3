"""Fault files, and the messages for invalid ones."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from stacpull_replicas import FaultFileError, FaultPlan, Rule, parse_faults, read_faults
from stacpull_replicas import faults as kinds
from stacpull_replicas.fault_plan import FAULTS

FULL = """
seed = 7

[[fault]]
server = "blob"
method = "GET"
path = "/mlhub/*.tif"
regex = "sig="
kind = "object"
ranged = false
from = 3
until = 30
every = 2
times = 5
per = "path"
probability = 0.25
what = "status"
code = 503
headers = {Retry-After = "3"}
body = "<Error/>"
"""


def test_every_key_is_read():
    rule = Rule(
        kinds.Status(503, {"Retry-After": "3"}, b"<Error/>"),
        server="blob",
        method="GET",
        path="/mlhub/*.tif",
        regex="sig=",
        kind="object",
        ranged=False,
        first=3,
        last=30,
        every=2,
        times=5,
        per="path",
        probability=0.25,
    )
    assert parse_faults(FULL) == FaultPlan((rule,), 7)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('what = "login-page"', kinds.LoginPage()),
        ('what = "redirect"\nlocation = "{url}"\ncode = 307', kinds.Redirect("{url}", 307)),
        ('what = "alter"\nwithout = ["ETag"]', kinds.Alter(without=("ETag",))),
        ('what = "alter"\n[fault.headers]\nETag = "W/1"', kinds.Alter({"ETag": "W/1"})),
        ('what = "truncate"\nkeep = 50', kinds.Truncate(50)),
        ('what = "damage"\nat = 7', kinds.InvertedByte(7)),
        ('what = "changed"', kinds.Changed()),
        ('what = "whole"', kinds.IgnoredRange()),
        ('what = "coded"', kinds.Coded()),
        (
            'what = "page"\nnext = "null"\nids = [".."]\nassets = false',
            kinds.EditedPage("null", ("..",), assets=False),
        ),
        ('what = "bomb"\nshape = "packed"\nsize = 1', kinds.Bomb("packed", 1)),
        ('what = "delay"\nseconds = 1', kinds.Delay(1)),
        ('what = "close"', kinds.Close()),
        ('what = "close"\nafter = 100\nreset = true', kinds.Close(100, reset=True)),
        ('what = "stall"\nafter = 1\nseconds = 0.5', kinds.Stall(1, 0.5)),
        ('what = "drip"\nrate = 1.5', kinds.Drip(1.5)),
        ('what = "overlong"\nextra = 1', kinds.Overlong(1)),
        ('what = "unframed"\nkeep = 1\nchunked = true', kinds.Unframed(1, chunked=True)),
        ('what = "fields"\ncount = 9', kinds.Fields(9)),
        ('what = "raw"\ndata = "\\r\\n"', kinds.Raw(b"\r\n")),
    ],
)
def test_faults(text: str, fault: kinds.Fault):
    assert parse_faults(f"[[fault]]\n{text}").rules == (Rule(fault),)


def test_every_fault_has_a_name():
    assert set(FAULTS.values()) == set(get_args(kinds.Fault))


def test_keys_of_faults_and_rules_are_distinct():
    taken = {field.name for field in fields(Rule)} | {"what", "nth", "from", "until"}
    assert not [kind for kind in FAULTS.values() if taken & {field.name for field in fields(kind)}]


def test_nth_matches_one_request():
    (rule,) = parse_faults('[[fault]]\nnth = 4\nwhat = "close"').rules
    assert (rule.first, rule.last) == (4, 4)


def test_an_empty_file_has_no_faults():
    assert parse_faults("") == FaultPlan(())


CLOSE = '[[fault]]\nwhat = "close"\n'

WRONG = [
    ("sede = 1", None, "`sede`"),
    ('\nseed = "x"', None, "seed"),
    ("seed = -1", None, "seed"),
    ('[fault]\nwhat = "close"', None, "fault"),
    ("[[fault]]\nnth = 1\n", 1, "what must be one of status, login-page"),
    ('[[fault]]\n\nwhat = "clsoe"', 1, "what must be one of"),
    ("[[fault]]\nwhat = 3", 1, "what must be one of"),
    (CLOSE + 'after = "x"', 1, "after"),
    (CLOSE + "after = true", 1, "after"),
    (CLOSE + "after = -1", 1, "after must not be negative"),
    (CLOSE + "reset = 1", 1, "reset"),
    (CLOSE + CLOSE + "seconds = 1", 3, "seconds is not a key of a rule with close; it may have after, reset"),
    (CLOSE + "first = 1", 1, "first is not a key"),
    (CLOSE + "from = 0", 1, ">= 1"),
    (CLOSE + "nth = 0", 1, ">= 1"),
    (CLOSE + 'kind = "pages"', 1, "kind"),
    (CLOSE + 'per = "host"', 1, "per"),
    (CLOSE + "probability = 2", 1, "probability"),
    (CLOSE + 'regex = "("', 1, "unterminated subpattern"),
    ('[[fault]]\nwhat = "truncate"', 1, "`keep`"),
    ('[[fault]]\nwhat = "bomb"\nsize = 1\nshape = "flat"', 1, "shape"),
    ('[[fault]]\nwhat = "alter"\nwithout = "ETag"', 1, "without"),
    ('[[fault]]\nwhat = "alter"\nheaders = {ETag = 1}', 1, "headers"),
    ("[[fault]\n", None, "line 1"),
]


@pytest.mark.parametrize(("text", "line", "message"), WRONG)
def test_errors_name_the_key_and_the_line_of_the_rule(text: str, line: int | None, message: str):
    with pytest.raises(FaultFileError) as caught:
        parse_faults(text, "x.toml")
    start = "x.toml is not valid: " if line is None else f"x.toml, the rule in line {line}: "
    assert str(caught.value).startswith(start)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: Any):
    path = tmp_path / "faults.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FaultFileError, match=r"faults\.toml cannot be read"):
        read_faults(path)


def test_a_file_is_read(tmp_path: Path):
    path = tmp_path / "faults.toml"
    path.write_text(FULL)
    assert read_faults(path) == parse_faults(FULL)
