"""The simulation of eight million files is faithful, and an exceeded bound is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.bench import eight_million
from tests.bench.curve_plot import Curve, plot
from tests.bench.eight_million import STEPS, Bounds, Result, main
from tests.bench.simulated_patches import ASSETS, ITEMS, LABELS, PER_PATCH, SLOTS, Patches, content
from tests.bench.simulated_store import SimulatedStore, make_bits

from stacpull.store.complete_parts import complete_part_name
from stacpull.store.protocol import Entry

FEW = 6000
LENIENT = Bounds(memory_mb=160, growth=100, ledger_bytes=1000, judged_from=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_step_is_measured_and_every_bound_is_checked(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    assert main(["--assets", str(FEW), "--json", str(figures)], LENIENT) == 0
    found = json.loads(figures.read_text())
    assert tuple(found["steps"]) == STEPS
    assert found["broken"] == []
    assert found["rows"][-1]["assets"] <= FEW

    result = Result(FEW, found["rows"], found["steps"])
    assert result.broken(LENIENT) == []
    assert len(result.broken(replace(LENIENT, memory_mb=10))) == len(STEPS)
    (ledger,) = result.broken(replace(LENIENT, ledger_bytes=10))
    assert ledger.startswith("The ledger has")
    assert [one.split(" grew")[0] for one in result.broken(replace(LENIENT, growth=0.01))] == [
        "CPU per asset",
        "Memory",
    ]
    result.steps["verify"]["report"]["missing"] = 1
    assert result.broken(LENIENT) == ["verify: missing is 1, not 0."]


@pytest.mark.timeout(300)
def test_an_exceeded_bound_gives_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step is enough: each is measured in a process of its own, which takes a second to start."""
    monkeypatch.setattr(eight_million, "STEPS", ("mirror",))
    assert main(["--assets", "500"], replace(LENIENT, memory_mb=10)) == 1
    assert "BROKEN: mirror took" in capsys.readouterr().err


@pytest.mark.parametrize("assets", [1000, 12_345, 1_000_000, ASSETS])
def test_the_number_of_files_is_exact(assets: int) -> None:
    patches = Patches.of(assets)
    some = patches.items if assets < ASSETS // 100 else 0
    assert 13 * patches.items <= assets <= 14 * patches.items
    assert not some or 13 * some + sum(map(patches.has_cirrus, range(some))) == assets
    assert Patches.of(ASSETS).items == ITEMS


def test_a_name_leads_to_its_patch() -> None:
    patches = Patches.of(ASSETS)
    for index in (0, 1, 77_777, ITEMS - 1):
        assert patches.index_of(patches.name(index)) == index
    assert patches.index_of("S2A_MSIL2A_20170613T90000_0_91x") is None
    assert len({patches.name(index) for index in range(10_000)}) == 10_000


@pytest.fixture
def store(tmp_path: Path) -> SimulatedStore:
    make_bits(tmp_path, 1000)
    return SimulatedStore(tmp_path)


def test_a_published_file_exists(store: SimulatedStore) -> None:
    item = f"{LABELS}_{Patches.of(1000).name(3)}"
    directory, part = f"{LABELS}/{item}", complete_part_name(1, 0, 1300, None, None)
    body = content(3, SLOTS["labels"])
    identity = store.write_part(part, body)
    assert not store.has(f"{directory}/labels.json")
    assert [one.name for one in store.list_parts()] == [part]

    assert store.place(part, directory, "labels.json", replace=False) is None
    assert store.list_parts() == []
    assert store.identity(directory, "labels.json") == (identity, 1300)
    assert store.read(f"{directory}/labels.json") == body
    assert [entry for some in store.walk(frozenset({".stacpull"})) for entry in some] == [
        Entry(f"{directory}/labels.json", is_file=True)
    ]

    store.write_part(part, body)
    assert store.place(part, directory, "labels.json", replace=False) is not None
    store.remove(directory, "labels.json")
    assert not store.has(f"{directory}/labels.json")


def test_the_content_of_another_file_is_refused(store: SimulatedStore) -> None:
    part = complete_part_name(1, 0, 1300, None, None)
    store.write_part(part, content(4, SLOTS["labels"]))
    with pytest.raises(ValueError, match="another file"):
        store.place(part, f"{LABELS}/{LABELS}_{Patches.of(1000).name(3)}", "labels.json", replace=False)


def test_files_of_a_patch_have_distinct_numbers() -> None:
    assert sorted(SLOTS.values()) == list(range(PER_PATCH - 2))


def test_curves_are_an_image() -> None:
    image = plot([1, 2, 3], [Curve("time", [5, 7, 6]), Curve("memory", [120, 121, 119])], "million")
    lines = ET.fromstring(image).findall("{http://www.w3.org/2000/svg}polyline")  # noqa: S314 -- ours
    assert [len(line.attrib["points"].split()) for line in lines] == [3, 3]
