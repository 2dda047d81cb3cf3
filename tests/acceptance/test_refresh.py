"""A mirror that is run again on a collection that has changed: what it asks, fetches, tells and removes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.trees import files_in

from stacpull import MirrorReport, Options, mirror, verify
from stacpull.replicas import EvolvingReplica, run_in_thread

FILES = ("file", "unchanged", "gone")


@pytest.fixture
def replica() -> Iterator[EvolvingReplica]:
    with run_in_thread(EvolvingReplica()) as found:
        yield found


def mirrored(replica: EvolvingReplica, dest: Path, **options: Any) -> MirrorReport:
    return asyncio.run(mirror(replica.base_url, dest, options=Options(**options)))


def assets_of(dest: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files_in(dest).items() if name.endswith(".bin")}


def asked(replica: EvolvingReplica, *kinds: str) -> Callable[[], int]:
    """Return a function that tells how many requests of these kinds came since."""
    before = sum(replica.counters["api", kind] for kind in kinds)
    return lambda: sum(replica.counters["api", kind] for kind in kinds) - before


def is_sound(dest: Path) -> bool:
    return asyncio.run(verify(dest)).damaged == 0


def test_what_changed_is_fetched_what_may_have_is_asked_about(tmp_path, replica):
    first = mirrored(replica, tmp_path)
    assert (first.items_new, first.items_changed, first.assets_changed) == (40, 0, 0)
    before = assets_of(tmp_path)
    assert before == replica.files()
    step = replica.evolve()
    fetched, same = asked(replica, "file"), asked(replica, "unchanged")
    again = mirrored(replica, tmp_path)
    assert again.exit_code == 0
    assert (again.items_new, again.items_changed) == (step.new, len(step.changed))
    assert again.assets_changed == len(step.rewritten) + len(step.resized)
    assert fetched() == again.assets_changed + 2 * step.new + len(step.asset_added)
    assert same() == again.assets_revalidated > len(step.touched)
    assert assets_of(tmp_path) == before | replica.files()
    assert is_sound(tmp_path)
    nothing = asked(replica, *FILES)
    calm = mirrored(replica, tmp_path)
    assert (nothing(), calm.items_new, calm.items_changed, calm.assets_changed) == (0, 0, 0, 0)


@pytest.mark.parametrize("validators", ["etag", "date", "none"])
def test_revalidate_asks_for_every_asset(tmp_path, validators):
    with run_in_thread(EvolvingReplica(items=8, validators=validators)) as replica:
        mirrored(replica, tmp_path)
        name = next(iter(replica.items))
        item = replica.items[name]
        mask = replace(item.files["mask"], data=b"x" * 400)  # with the date that it had
        replica.items[name] = replace(item, files={**item.files, "mask": mask})
        fetched, same = asked(replica, "file"), asked(replica, "unchanged")
        told = mirrored(replica, tmp_path, revalidate=True)
        seen = {"etag": (1, 15), "date": (0, 16), "none": (16, 0)}[validators]
        assert (fetched(), same()) == seen
        assert (told.assets_changed, told.assets_revalidated) == (
            (0, 16) if validators == "date" else (1, 15)
        )
        assert told.items_changed == 0
        if validators != "date":
            assert assets_of(tmp_path) == replica.files()
        assert is_sound(tmp_path)


def test_a_file_that_is_lost_is_fetched_and_not_asked_about(tmp_path, replica):
    mirrored(replica, tmp_path)
    name = next(iter(replica.files()))
    (tmp_path / name).unlink()
    told = mirrored(replica, tmp_path, revalidate=True)
    assert (told.assets_revalidated, told.exit_code) == (80, 0)  # the same bytes came again
    assert assets_of(tmp_path) == replica.files()
