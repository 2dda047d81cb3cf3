"""Invalid expressions are refused in one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.errors import UsageError
from stacpull.filters.cql2 import compile_filter


def message(text):
    with pytest.raises(UsageError) as caught:
        compile_filter(text)[1]
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *((text, "at its end: a value, a property or `)`") for text in ("eo:cloud_cover <", "a = 1 AND", "")),
        ("a << 20", "from '< 20' on"),
        ("foo bar", "from 'bar' on; text takes single quotes: platform = 'a'."),
        ("a =\n  5 AND\n  b = =", "from '=' on."),
        ("(a = '('", "or `)` is missing"),
        ("a == '=='", "CQL2 compares with =, not ==."),
        *((text, "write a date like DATE('2020-01-31')") for text in ("a > 2020-01-01", "datetime>= 2020")),
        ("LOWER(a) = 'x'", "there is no operator or function LOWER"),
        ("a = 1 AND CASEII(b) = 'x'", "CASEII; did you mean CASEI?"),
        ("a = TIMESTAMP('noon')", "'noon' is not a valid time for TIMESTAMP('…')"),
        ("a = TIMESTAMP('2018-01-16')", "'2018-01-16' is not a valid time for TIMESTAMP('…'); use DATE('"),
        ("a = DATE('2020-13-01')", "'2020-13-01' is not a valid time"),
        ("T_INTERSECTS(a, INTERVAL('x', '..'))", "'x' is not a valid time for INTERVAL"),
        *((text, "is a value.") for text in ("a = 1 AND 5", "a + 1", "'text'", "5", "null")),
        ("a LIKE b", "LIKE needs a pattern in single quotes"),
        ("S_INTERSECTS(geometry, POLYGON((0 0, 5 5)))", "this Polygon cannot be read"),
        ("S_INTERSECTS(geometry, BBOX(1, 2, 3))", "this BBOX cannot be read"),
        ("S_INTERSECTS(geometry, POINT(500000 4649776))", "use longitude and latitude in degrees"),
        ('{"op":"=","args":[1,2]', "is not valid JSON: Expecting ',' delimiter"),
        ('{"op":"eq","args":[1,2]}', "there is no operator or function eq"),
        *((f'{{"op":"=","args":{given}}}', "= takes 2 arguments") for given in ("[1]", "5", "[]")),
        ('{"op":"and","args":[]}', "and takes conditions as arguments"),
        ('{"op":"isNull","args":[1,2]}', "isNull takes 1 arguments"),
        *((text, "is not part of CQL2") for text in ("{}", '{"filter": {"op": "="}}', '{"property": 5}')),
        ('{"op":"not","args":[' * 20_000 + "true" + "]}" * 20_000, "nested too deeply"),
        ("NOT (" * 2_000 + "a = 1" + ")" * 2_000, "nested too deeply"),
        (" OR ".join(["a = 1"] * 20_000), "too many operators (for ids, use --ids @FILE)"),
        ("a" + " ^ 1" * 12_000 + " = 1", "too many operators"),
        ("a = " + "- " * 4_000 + "1", "too many operators"),
        ("a" + " = b" * 4_000, "too many operators"),
        ("NOT " * 4_000 + "a = 1", "too many operators"),
        (f"{'NOT ' * 10}(a = 1 AND " * 400 + "a = 1" + ")" * 400, "too many operators"),
    ],
)
def test_an_error_names_the_problem(text, problem):
    assert message(text).startswith("--filter")
    assert problem in message(text)


def test_a_date_in_quotes_is_not_arithmetic():
    assert compile_filter("a > '2020-01-01' AND \"2020-01-02\" = 1")[0]["op"] == "and"


@given(st.text("ab =<>()'\"{}[]:,ANDORTLIKEINS_.%10-", max_size=30))
def test_no_text_raises_anything_else(text):
    try:
        found = compile_filter(text)[1]({}, {})
    except UsageError:
        found = None
    assert found in (True, False, None)


def test_a_condition_for_each_of_many_values_is_accepted():
    assert compile_filter(" OR ".join(["a = -1"] * 4_000))[0]["op"] == "or"
