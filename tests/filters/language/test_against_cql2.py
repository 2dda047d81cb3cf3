"""Comparison with the library's own `matches`, and the cases where the library is wrong."""

from __future__ import annotations

import cql2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.cql2 import compile_expression, parse_filter

NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, 1.5])
TEXTS = st.text("abAB%_", max_size=3)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "n": NUMBERS,
        "m": NUMBERS,
        "s": TEXTS,
        "b": st.booleans(),
        "l": st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
    },
)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


CONDITIONS = st.one_of(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(["n", "m"]),
        st.sampled_from(["=", "<>", "<", "<=", ">", ">="]),
        NUMBERS,
    ),
    st.builds("n {} m".format, st.sampled_from(["=", "<>", "<", "<=", ">", ">="])),
    st.builds("n {} 2 = m".format, st.sampled_from(["+", "-", "*"])),
    st.builds("n BETWEEN {} AND {}".format, NUMBERS, NUMBERS),
    st.builds("n IN ({}, {})".format, NUMBERS, NUMBERS),
    st.builds("s {} {}".format, st.sampled_from(["=", "<>", "<", ">"]), TEXTS.map(quoted)),
    st.builds("s LIKE {}".format, TEXTS.map(quoted)),
    st.builds("CASEI(s) = CASEI({})".format, TEXTS.map(quoted)),
    st.builds("{}(l, ('x', 'y'))".format, st.sampled_from(["A_CONTAINS", "A_CONTAINEDBY", "A_OVERLAPS"])),
    st.sampled_from(["b", "b = TRUE", "n IS NULL", "s IS NOT NULL", "l IS NULL"]),
)
EXPRESSIONS = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner)
        | st.builds("(NOT ({}))".format, inner)
    ),
    max_leaves=4,
)


def ours(text, item):
    return compile_expression(parse_filter(text))(item, item["properties"])


def theirs(text, item):
    """Return the library's result; it raises if the result is unknown."""
    try:
        return cql2.Expr(text).matches(item)
    except Exception:  # noqa: BLE001 -- the library raises bare Exception
        return None


@given(text=EXPRESSIONS, properties=PROPERTIES)
def test_results_equal_those_of_the_library(text, properties):
    item = {"properties": properties}
    assert ours(text, item) is theirs(text, item)


ITEM = {
    "id": "a",
    "geometry": {"type": "Point", "coordinates": [1, 2]},
    "properties": {"datetime": "2020-01-01T12:00:00Z", "n": 5, "s": "abc", "a.b": 1},
}


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("datetime >= DATE('2020-01-01')", True, False),
        (
            "datetime BETWEEN TIMESTAMP('2019-01-01T00:00:00Z') AND TIMESTAMP('2021-01-01T00:00:00Z')",
            True,
            False,
        ),
        ("datetime IN (TIMESTAMP('2020-01-01T12:00:00Z'))", True, False),
        ("T_INTERSECTS(datetime, INTERVAL('..', '2020-01-01'))", True, False),
        ("datetime = '2020-01-01T13:00:00+01:00'", True, False),
        ("CASEI(s) IN (CASEI('ABC'))", True, None),
        ("n = NULL", None, False),
        ("n IN (6, NULL)", None, False),
        ('"a.b" = 1', True, None),
        ("S_INTERSECTS(geometry, BBOX(170, 0, -170, 5))", False, True),
    ],
)
def test_known_errors_of_the_library(text, right, wrong):
    """If a new version of the library makes this fail, check whether its `matches` can be used."""
    assert ours(text, ITEM) is right
    assert theirs(text, ITEM) is wrong
