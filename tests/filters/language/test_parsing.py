"""Invalid expressions: one sentence, the line, and a mark under the position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.errors import UsageError
from stacpull.filters.cql2 import compile_expression, parse_filter


def message(text):
    with pytest.raises(UsageError) as caught:
        compile_expression(parse_filter(text), text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem", "marked"),
    [
        ("eo:cloud_cover <", "a value or a property is missing", ""),
        ("a = 1 AND", "a value or a property is missing", ""),
        ("a << 20", "a value or a property is missing", "< 20"),
        ("x IN ()", "a value or a property is missing", ")"),
        ("foo bar", "AND, OR, a comparison or the end is expected", "bar"),
        ('"a"."b" = 1', "AND, OR, a comparison or the end is expected", '."b" = 1'),
        ("datetime > 2020-01-01", "write a date as DATE('2020-01-01')", "2020-01-01"),
        ("UPPR(a) = 'x'", "there is no operator or function UPPR", "UPPR(a) = 'x'"),
        ("\"groß\" = 1 AND UPPR(a) = 'x'", "there is no operator or function UPPR", "UPPR(a) = 'x'"),
        ("a = 1 AND CASEII(b) = 'x'", "CASEII; did you mean CASEI?", "CASEII(b) = 'x'"),
        ("a = TIMESTAMP('noon')", "'noon' is not a valid time for TIMESTAMP('…')", "noon')"),
        ("a = DATE('2020-13-01')", "'2020-13-01' is not a valid time", "2020-13-01')"),
        ("T_INTERSECTS(a, INTERVAL('x', '..'))", "'x' is not a valid time for INTERVAL", "x', '..'))"),
        ("a = 1 AND 5", "this is only a value", "5"),
        ("a + 1", "this is only a value", "+ 1"),
        ("'text'", "this is only a value", "text'"),
        ("a LIKE b", "LIKE needs a pattern in single quotes", "LIKE b"),
        (
            "S_INTERSECTS(geometry, POLYGON((0 0, 5 5)))",
            "this Polygon cannot be read",
            "POLYGON((0 0, 5 5)))",
        ),
        ("S_INTERSECTS(geometry, BBOX(1, 2, 3))", "this is not a box: a box has four", "BBOX(1, 2, 3))"),
        ('{"op":"=","args":[1,2]', "this is not valid JSON: Expecting ',' delimiter", ""),
        ('{"op":"eq","args":[1,2]}', "there is no operator or function eq", 'eq","args":[1,2]}'),
        ('{"op":"=","args":[1]}', "= takes 2 arguments, not 1", '=","args":[1]}'),
        ('{"op":"=","args":5}', "`args` of = must be a list", '=","args":5}'),
        ('{"op":"and","args":[]}', "AND needs conditions", 'and","args":[]}'),
        ('{"op":"isNull","args":[1,2]}', "isNull takes 1 arguments, not 2", 'isNull","args":[1,2]}'),
    ],
)
def test_an_error_points_at_its_position(text, problem, marked):
    text_of_error = message(text)
    first, line, mark = text_of_error.split("\n")
    assert first.startswith("--filter: ")
    assert problem in first
    assert line == f"  {text}"
    assert line[len(mark) - 1 :] == marked


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"filter": {"op": "="}}', '{"property": 5}', '{"op": 5}', "5", "null"]
)
def test_invalid_expressions_are_rejected(text):
    assert message(text).startswith("--filter")


def test_only_the_line_with_the_error_is_shown():
    assert message("a =\n  5 AND\n  b ==").split("\n")[1:] == ["    b ==", "       ^"]


def test_a_date_in_quotes_is_not_arithmetic():
    assert parse_filter("a > '2020-01-01' AND \"2020-01-02\" = 1")["op"] == "and"


def test_deep_nesting_is_an_error_and_not_a_crash():
    deep = '{"op":"not","args":[' * 20_000 + "true" + "]}" * 20_000
    assert "nested too deeply" in message(deep)


@given(st.text("ab =<>()'\"{}[]:,ANDORTLIKEINS_.%10-", max_size=30))
def test_no_text_raises_anything_else(text):
    try:
        found = compile_expression(parse_filter(text), text).evaluate({}, {})
    except UsageError:
        found = None
    assert found in (True, False, None)
