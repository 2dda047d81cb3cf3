"""The included evalscripts, and those of users."""

import pytest

from stacpull.errors import UsageError
from stacpull_trace.indices import INDICES, index_of_name, index_of_script

NOTEBOOK = """//VERSION=3
function setup() {
    return {
        input: [{bands: ["green", "nir", "cloud_mask", "scene_mask", "dataMask"]}],
        output: [
            {id: "default", bands: 1, sampleType: "FLOAT32"},
            {id: "scenes", bands: 1, sampleType: "INT16"},
            {id: "dataMask", bands: 1}
        ]
    };
}
function evaluatePixel(s) { return {default: [s.green], scenes: [s.scene_mask], dataMask: [s.dataMask]}; }
"""


@pytest.mark.parametrize("name", INDICES)
def test_each_index_has_the_three_outputs(name: str) -> None:
    index = index_of_name(name)
    assert index.evalscript.startswith("//VERSION=3")
    read_again = index_of_script(index.evalscript, name)
    assert read_again.bands == index.bands
    assert all(f"sample.{band}" in index.evalscript for band in ("scene_mask", "cloud_mask", "dataMask"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('id: "scenes"', 'id: "scene"', "id scenes"),
        ('id: "default"', 'id: "index"', "id default"),
        ('id: "dataMask"', 'id: "mask"', "id dataMask"),
        ('{id: "scenes"', '// {id: "scenes"', "id scenes"),
        ('{id: "scenes", bands: 1, sampleType: "INT16"},', "/* scenes */", "id scenes"),
        (', sampleType: "INT16"', "", "INT16"),
        ('sampleType: "INT16"', 'sampleType: "UINT8"', "INT16"),
        ('sampleType: "INT16"', 'sampleType: "FLOAT32"', "INT16"),
    ],
)
def test_an_unsuitable_script_is_refused(old: str, new: str, words: str) -> None:
    assert old in NOTEBOOK
    with pytest.raises(UsageError, match=words):
        index_of_script(NOTEBOOK.replace(old, new), "mine")


def test_a_script_may_quote_its_keys() -> None:
    script = NOTEBOOK
    for key in ("bands", "id", "sampleType"):
        script = script.replace(f"{key}:", f'"{key}":')
    assert index_of_script(script, "mine").bands == index_of_script(NOTEBOOK, "mine").bands == 4


@pytest.mark.parametrize(
    ("listed", "bands"),
    [
        ('["green", "nir", "cloud_mask", "scene_mask", "dataMask"]', 4),
        ("['green', 'nir',]", 2),
        ('[{bands: ["green"], units: "DN"}, {datasource: "other", bands: ["nir", "dataMask"]}]', 2),
        ("BANDS", None),
        ('["green", ...OTHERS]', None),
        ('[{bands: ["green"]}, {bands: OTHERS}]', None),
    ],
)
def test_input_bands_are_counted_in_both_forms(listed: str, bands: int | None) -> None:
    named = NOTEBOOK.replace("bands: 1", 'bands: ["x"]').splitlines()
    named[3] = f"input: {listed},"
    assert index_of_script("\n".join(named), "mine").bands == bands
