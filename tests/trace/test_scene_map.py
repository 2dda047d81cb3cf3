"""Scene maps from the tags of QA headers, recorded and generated ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull_trace.scene_map import OriginKind, SceneMap, read_scene_map

IDS, AZIMUTH, ELEVATION = (
    f"{name}[LAYER_2_VALUE]" for name in ("SCENE_IDS", "SCENE_SOLAR_AZIMUTH", "SCENE_SOLAR_ELEVATION")
)
ONE, TWO = "PSScene/20231102_190001_45_2495", "PSScene/20231102_190003_53_2495"


def scene_map(**tags: str) -> SceneMap:
    names = {"ids": IDS, "azimuth": AZIMUTH, "elevation": ELEVATION, "ps_ids": f"PS_{IDS}"}
    return read_scene_map({names[name]: text for name, text in tags.items()})


def test_reads_the_recorded_header(shared_data: Path) -> None:
    found = read_scene_map(json.loads((shared_data / "sentinelhub" / "arps_qa_tags.json").read_text()))
    assert found.problems == ()
    kinds = {index: origin.kind for index, origin in found.origins.items()}
    assert kinds == {10: OriginKind.SCENE, 233: OriginKind.SCENE, 29: OriginKind.NONE}
    main = found.origin(233)
    assert (main.name, main.solar_azimuth, main.solar_elevation) == ("20231102_190003_53_2495", 165.2, 25.7)
    assert main.scene is not None
    assert f"{main.scene.acquired:%H:%M:%S.%f}".startswith("19:00:03.53")


@pytest.mark.parametrize(
    ("line", "index", "kind", "name"),
    [
        ("None[29]", 29, OriginKind.NONE, "scene index 29 names no scene in the header"),
        ("None[-999]", -999, OriginKind.NONE, "index -999 names no scene in the header"),
        ("SkySatCollect/20231102_190003_ssc9_u0011[7]", 7, OriginKind.FOREIGN, "SkySatCollect"),
        ("[8]", 8, OriginKind.FOREIGN, "not a scene id"),
        (f"  {ONE}[9]\r", 9, OriginKind.SCENE, "20231102_190001_45_2495"),
    ],
)
def test_the_scene_of_an_index(line: str, index: int, kind: OriginKind, name: str) -> None:
    origin = scene_map(ids=f"None[0]\n{line}\n{TWO}[10]").origin(index)
    assert origin.kind is kind
    assert name in origin.name


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"ids": f"{ONE}[10]\nrubbish"}, "not value[index]"),
        ({"ids": f"{ONE}[10]\n{ONE}[1.5]"}, "not value[index]"),
        ({"ids": f"{ONE}[10]\n{ONE}[12345678901]"}, "not value[index]"),
        ({"ids": f"{ONE}[10]\n{TWO}[10]"}, "for index 10, but before"),
        ({"ids": f"{ONE}[10]", "ps_ids": f"{TWO}[10]"}, "for index 10, but before"),
        ({"ids": f"{ONE}[10]", "azimuth": "north[10]"}, "not a number"),
        ({"ids": f"{ONE}[10]", "azimuth": "nan[10]"}, "not a number"),
    ],
)
def test_unreadable_lines_are_reported_and_skipped(tags: dict[str, str], problem: str) -> None:
    found = scene_map(**tags)
    assert len(found.problems) == 1
    assert problem in found.problems[0]
    assert found.origin(10).name == "20231102_190001_45_2495"


@given(st.text(), st.text(), st.text())
def test_never_raises(ids: str, azimuth: str, elevation: str) -> None:
    found = scene_map(ids=ids, azimuth=azimuth, elevation=elevation)
    assert all(found.origin(index).name for index in (*found.origins, 600))
