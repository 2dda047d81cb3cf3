"""Evalscripts give the same results on arrays as JavaScript pixel by pixel; unknown syntax is refused."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.replicas.sentinelhub.requests_made import script

from stacpull_replicas.sentinelhub.evalscript import ScriptError, ScriptFault, read_script

BANDS = ("green", "nir", "cloud_mask", "dataMask")
PIXELS = {
    "green": [3, 0, 7, 2, 100, -5],
    "nir": [1, 0, 2, 2, 50, 5],
    "cloud_mask": [1, 1, 0, 0, 1, 1],
    "dataMask": [1, 1, 1, 0, 1, 1],
}


def samples() -> dict[str, np.ndarray]:
    return {band: np.array(values, np.int16) for band, values in PIXELS.items()}


def run(body: str, more: str = "") -> list[float]:
    text = script('"green", "nir", "cloud_mask", "dataMask"', body) + more
    found = read_script(text, BANDS).evaluate(samples())
    return found.values["default", "B0"].tolist()


@pytest.mark.parametrize(
    ("expression", "by_pixel"),
    [
        ("sample.green + sample.nir * 2", lambda g, n, c: g + n * 2),
        ("(sample.green - sample.nir) / 4", lambda g, n, c: (g - n) / 4),
        ("sample.green / sample.nir", lambda g, n, c: g / n if n else math.nan),
        ("-sample.green % 3", lambda g, n, c: math.fmod(-g, 3)),
        ("2 ** 3 ** sample.cloud_mask", lambda g, n, c: 2.0 ** (3**c)),
        ("sample.green > 2 ? sample.nir : -1", lambda g, n, c: n if g > 2 else -1),
        ("sample.green >= sample.nir", lambda g, n, c: float(g >= n)),
        ("sample.cloud_mask == 1 && sample.green", lambda g, n, c: g if c == 1 else 0.0),
        ("sample.green || 9", lambda g, n, c: g or 9),
        ("!sample.cloud_mask", lambda g, n, c: float(not c)),
        ("!(sample.green < 3 || sample.nir === 2)", lambda g, n, c: float(not (g < 3 or n == 2))),
        ("Math.max(sample.green, sample.nir, 2.5)", lambda g, n, c: max(g, n, 2.5)),
        ("Math.min(sample.green, 6)", lambda g, n, c: min(g, 6)),
        ("Math.round(sample.green / 2)", lambda g, n, c: math.floor(g / 2 + 0.5)),
        ("Math.abs(sample.green) * Math.PI", lambda g, n, c: abs(g) * math.pi),
        ("Math.pow(sample.nir, 2)", lambda g, n, c: n**2),
        ("isNaN(sample.nir / sample.nir) ? 5 : 6", lambda g, n, c: 5 if n == 0 else 6),
        ("isFinite(1 / sample.nir)", lambda g, n, c: float(n != 0)),
        (
            "index(sample.green, sample.nir)",
            lambda g, n, c: (g - n) / (g + n) if g + n else (-math.inf if g < n else math.nan),
        ),
        ("[sample.green, sample.nir][1]", lambda g, n, c: n),
        ("{a: sample.green}.a + 0x10 + 1e1", lambda g, n, c: g + 26),
        ("[1, 2, 3].length", lambda g, n, c: 3),
        ("sample.missing", lambda g, n, c: math.nan),
        ("'a' === \"a\" ? 1 : 2", lambda g, n, c: 1),
    ],
)
def test_expressions(expression, by_pixel):
    wanted = [by_pixel(g, n, c) for g, n, c in zip(*(PIXELS[b] for b in BANDS[:3]), strict=True)]
    np.testing.assert_array_equal(
        np.float32(run(f"return {{default: [{expression}], dataMask: [1]}}")), np.float32(wanted)
    )


def classified(green: int, nir: int) -> int:
    kind = 0
    if green > nir:
        if green > 50:
            return 3
        kind = 1
    elif green == nir:
        kind = 2
    else:
        kind += 4
        return kind
    return kind * 10


@pytest.mark.parametrize(
    "body",
    [
        """let kind = 0
        if (sample.green > sample.nir) {
            if (sample.green > 50) return out(3);
            kind = 1
        } else if (sample.green == sample.nir) kind = 2
        else { kind += 4; return out(kind) }
        return out(kind * 10)""",
        """var kind = 0, g = sample.green, n = sample.nir;
        if (g > n && g > 50) { return out(3) }
        if (g > n) { let kind = 10; return out(kind) }
        if (g < n) { kind += 1; kind *= 4; return out(kind) } else { kind = 20 }
        return out(kind)""",
        "return out(kindOf(sample.green, sample.nir))",
    ],
)
def test_branches_are_evaluated_per_pixel(body: str) -> None:
    more = """
    function out(value) { return {default: [value], dataMask: [1]} }
    const kindOf = (g, n) => g > n ? (g > 50 ? 3 : 10) : g == n ? 20 : 4
    """
    assert run(body, more) == [classified(g, n) for g, n in zip(PIXELS["green"], PIXELS["nir"], strict=True)]


def test_a_pixel_that_returns_nothing_is_a_fault() -> None:
    with pytest.raises(ScriptFault, match="evaluatePixel must return"):
        run("let unused = 1")


def test_globals_are_reset_between_evaluations() -> None:
    text = script('"green"', "calls += 1; return {default: [calls], dataMask: [1]}") + "\nvar calls = 0"
    found = read_script(text, BANDS)
    for _ in range(2):
        assert found.evaluate({"green": np.zeros(2, np.int16)}).values["default", "B0"].tolist() == [1, 1]


def test_masks_and_types() -> None:
    text = script(
        '"green", "nir", "dataMask"',
        """return {one: [sample.green / 2, sample.green * 1000], two: [1 / sample.nir],
        dataMask: [sample.dataMask, sample.nir > 1]}""",
        """{id: "one", bands: ["a", "b"], sampleType: "INT16"}, {id: "two", bands: 1},
        {id: "dataMask", bands: ["one", "two"]}""",
    )
    found = read_script(text, BANDS).evaluate(samples())
    assert found.values["one", "a"].tolist() == [2, 0, 4, 1, 50, -2]  # halves to even
    assert found.values["one", "b"].tolist() == [3000, 0, 7000, 2000, 32767, -5000]
    assert found.valid["one", "a"].tolist() == [True, True, True, False, True, True]
    assert found.valid["two", "B0"].tolist() == [False, False, True, True, True, True]
    assert found.values["two", "B0"].dtype == np.float32


GOOD = "return {default: [sample.green], dataMask: [1]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with //VERSION=3"),
        ("//VERSION=3\nfunction setup() { return {} }", "function evaluatePixel is missing"),
        ("//VERSION=3\nfunction evaluatePixel() {}", "function setup is missing"),
        (script('"green"', "for (let i = 0; i < 3; i++) {}"), "line 3: ForStatement is not supported"),
        (script('"green"', "return {default: [1"), "Unexpected token }"),
        (script('"green"', "sample.green = 3"), "only variables can be assigned to"),
        (script('"green"', "return [1].map(x)[0]()"), "only functions with a name can be called"),
        (script('"red"', GOOD), "no band red"),
        (script("", GOOD), "input names no band"),
        (script('"green"', GOOD, '{id: "default", bands: 1}'), "an output with the id dataMask is required"),
        (script('"green"', GOOD, '{id: "dataMask", bands: 0}'), "bands of an output must be"),
        (script('"green"', GOOD, '{id: "dataMask", bands: 1, sampleType: "INT64"}'), "sampleType INT64"),
        (script('"green"', GOOD, '{id: "a", bands: 1}, {id: "a", bands: 1}'), "two outputs have the same id"),
        (script('"green"', GOOD).replace("input:", "mosaicking: 'ORBIT', input:"), "mosaicking ORBIT"),
        (
            script('"green"', GOOD).replace("input: [{", "input: [{units: 'REFLECTANCE', "),
            "units REFLECTANCE",
        ),
        (script('"green"', GOOD) + "\nlet a = b", "b is not defined"),
        ("//VERSION=3\n" + "a+" * 3000 + "1", "nested too deeply"),
        ("//VERSION=3\n" + " " * 100_000, "too long"),
    ],
)
def test_unsupported_scripts_are_refused(text, message):
    with pytest.raises(ScriptError) as refused:
        read_script(text, BANDS)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {default: [nothing], dataMask: [1]}", "nothing is not defined"),
        ("let a; return {default: [a.b], dataMask: [1]}", "cannot read b of undefined"),
        ("const a = 1; a = 2; return {default: [a], dataMask: [1]}", "a is constant"),
        ("return {default: [1, 2], dataMask: [1]}", "output default must be returned with 1 values"),
        ("return {default: ['a'], dataMask: [1]}", "a string is used as a number"),
        ("return {default: [evaluatePixel(sample)], dataMask: [1]}", "calls itself too deeply"),
        ("return {default: [sample[1]], dataMask: [1]}", "elements are taken of arrays"),
    ],
)
def test_faults(body: str, message: str) -> None:
    with pytest.raises(ScriptFault) as fault:
        run(body)
    assert message in str(fault.value)


@given(text=st.text(alphabet="(){}[];=+-*/<>!&|?:.,'\" \nabret12functionsmpl", max_size=80))
@example(text="/1/")
def test_invalid_code_is_refused_with_a_message(text):
    try:
        read_script(script('"green"', GOOD) + "\n" + text, BANDS).evaluate(samples())
    except (ScriptError, ScriptFault) as refused:
        assert str(refused)  # noqa: PT017 - only these two outcomes are correct
