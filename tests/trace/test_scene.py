"""Scene ids: their fields, and the reasons for refusing invalid ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull_trace.scene_map import NoScene, Scene, read_scene

HUNDREDTHS, SECOND = 0.005, 1.0


@pytest.mark.parametrize(
    ("text", "time", "precision", "satellite"),
    [
        ("PSScene/20231102_190003_53_2495", "2023-11-02T19:00:03.535", HUNDREDTHS, "2495"),
        ("20231102_190003_53_2495", "2023-11-02T19:00:03.535", HUNDREDTHS, "2495"),
        ("20231102_190003_00_2495", "2023-11-02T19:00:03.005", HUNDREDTHS, "2495"),
        ("20231102_235959_99_24c1", "2023-11-02T23:59:59.995", HUNDREDTHS, "24c1"),
        ("20160831_143848_1_0c79", "2016-08-31T14:38:48", SECOND, "0c79"),
        ("20160831_143848_0c79", "2016-08-31T14:38:48", SECOND, "0c79"),
        ("20200229_101010_77_105c_3B_AnalyticMS", "2020-02-29T10:10:10.775", HUNDREDTHS, "105c"),
        ("PSScene/20170101_000000_0f12_3B", "2017-01-01T00:00:00", SECOND, "0f12"),
    ],
)
def test_reads_time_and_precision(text: str, time: str, precision: float, satellite: str) -> None:
    scene = read_scene(text)
    assert isinstance(scene, Scene)
    assert scene.acquired == datetime.fromisoformat(time).replace(tzinfo=UTC)
    assert (scene.precision, scene.satellite) == (precision, satellite)
    assert scene.id == text.removeprefix("PSScene/")


def test_hundredths_are_truncated() -> None:
    scene = read_scene("20231102_190003_53_2495")
    assert isinstance(scene, Scene)
    written = datetime(2023, 11, 2, 19, 0, 3, 530_000, tzinfo=UTC)
    reach = timedelta(seconds=scene.precision)
    assert scene.acquired - reach == written
    assert scene.acquired + reach == written + timedelta(seconds=0.01)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("None", "no scene"),
        ("SkySatCollect/20231102_190003_ssc9_u0011", "SkySatCollect"),
        ("20231102_190003_ssc9_u0011", "SkySat"),
        ("PSScene/20231102_190003_ssc9_u0011", "SkySat"),
        ("REOrthoTile/20160707_1056015_RapidEye-4", "REOrthoTile"),
        ("20160707_105601_RapidEye-4", "RapidEye"),
        ("PSScene3Band/20231102_190003_53_2495", "PSScene3Band"),
        ("20231302_190003_53_2495", "does not exist"),
        ("20230229_190003_53_2495", "does not exist"),
        ("20231102_246003_53_2495", "does not exist"),
        ("20231102_190003_533_2495", "not a scene id"),
        ("20231102_190003_53_249", "not a scene id"),
        ("20231102-190003_53_2495", "not a scene id"),
        ("\u0662\u0660231102_190003_53_2495", "not a scene id"),
        ("", "not a scene id"),
        ("/", "not a PlanetScope scene"),
    ],
)
def test_invalid_ids_are_refused_with_a_reason(text: str, reason: str) -> None:
    refused = read_scene(text)
    assert isinstance(refused, NoScene)
    assert reason in refused.reason
    assert refused.text == text


@given(st.one_of(st.text(), st.from_regex(r"\A(PSScene/)?\d{8}_\d{6}(_\d{1,2})?_[0-9a-z]{4}(_.*)?\Z")))
def test_never_raises_and_times_are_in_utc(text: str) -> None:
    read = read_scene(text)
    if isinstance(read, Scene):
        assert read.acquired.tzinfo is UTC
        assert read.precision in {HUNDREDTHS, SECOND}
        assert read.id in text
    else:
        assert read.reason


@given(
    st.datetimes(datetime(2013, 1, 1), datetime(2099, 12, 31)),  # noqa: DTZ001 - hypothesis wants naive bounds
    st.integers(0, 99) | st.none(),
    st.from_regex(r"\A(?!ssc)[0-9a-z]{4}\Z"),
)
def test_an_id_round_trips(time: datetime, part: int | None, satellite: str) -> None:
    middle = "" if part is None else f"_{part:02d}"
    scene = read_scene(f"PSScene/{time:%Y%m%d_%H%M%S}{middle}_{satellite}")
    assert isinstance(scene, Scene)
    assert scene.acquired.replace(microsecond=0) == time.replace(microsecond=0, tzinfo=UTC)
    assert scene.acquired.microsecond == (0 if part is None else part * 10_000 + 5_000)
    assert scene.satellite == satellite
