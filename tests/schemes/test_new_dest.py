"""A new kind of DEST is a store and three methods of its scheme: a mirror into `mem://`."""

from __future__ import annotations

import orjson
import pytest
from tests.schemes.mem_dest import MemDest
from tests.schemes.test_new_scheme import OBJECTS, SOURCE
from tests.store.memory_store import MemoryDisk
from tests.store.store_contract import StoreContract

from stacpull import DestinationError, Options, UsageError, sync
from stacpull.ledger.database import ledger_path
from stacpull.models import BucketLocation
from stacpull.schemes import SCHEMES
from stacpull.store.lease import LEASE_SECONDS

DEST = "mem://bucket/rice"
pytestmark = pytest.mark.usefixtures("threaded_store")  # the store must see the same dict


class TestMemBucket(StoreContract):
    """It behaves as every store does."""

    @pytest.fixture
    def reopen(self, tmp_path):
        scheme = MemDest({})
        location = BucketLocation("bucket", "rice", scheme="mem")
        return lambda: scheme.open_store(tmp_path, location, publishes=True, on_silent=print)


@pytest.fixture
def mem(monkeypatch):
    scheme = MemDest({**OBJECTS, "mem://other/deep/absolute.tif": b"long" * (1 << 19)})
    monkeypatch.setitem(SCHEMES, "mem", scheme)
    return scheme


def objects(mem):
    return {path: one.data for path, one in mem.buckets[DEST].files.items()}


def test_a_mirror_in_a_new_kind_of_bucket(mem, tmp_path):
    options = Options(work=tmp_path / "work")
    report = sync.mirror(SOURCE, DEST, options=options)
    assert (report.state, report.dest, report.assets_done, report.assets_failed) == ("complete", DEST, 2, 1)
    found = objects(mem)
    assert found["c/one/beside.tif"] == b"beside"
    assert found["c/one/absolute.tif"] == b"long" * (1 << 19)
    assert orjson.loads(found["c/one/one.json"])["assets"]["beside"]["href"] == "./beside.tif"
    assert orjson.loads(found["catalog.json"])["type"] == "Catalog"
    assert not list((tmp_path / "work").rglob("*.tif"))


def test_other_commands_take_the_bucket_and_its_work_directory(mem, tmp_path):
    options = Options(work=tmp_path / "work")
    sync.mirror(SOURCE, DEST, options=options)
    assert sync.verify(DEST, options=options).damaged == 0
    del mem.buckets[DEST].files["c/one/beside.tif"]
    mem.buckets[DEST].files["c/one/absolute.tif"].data = b"damaged"
    damaged = sync.verify(DEST, options=options)
    assert (damaged.missing, damaged.short) == (1, 1)
    assert sync.verify(DEST, repair=True, options=options).remaining == 0
    assert objects(mem)["c/one/beside.tif"] == b"beside"
    assert sync.mirror(SOURCE, DEST, options=options).assets_skipped == 2


def test_another_machine_continues_from_the_copy_of_the_ledger(mem, tmp_path):
    sync.mirror(SOURCE, DEST, options=Options(work=tmp_path / "first"))
    report = sync.mirror(SOURCE, DEST, options=Options(work=tmp_path / "second"))
    assert (report.assets_done, report.assets_skipped) == (2, 2)
    with pytest.raises(DestinationError, match="is outdated"):
        sync.mirror(SOURCE, DEST, options=Options(work=tmp_path / "first"))


def test_an_existing_object_is_compared_before_anything_is_fetched(mem, tmp_path):
    """Also if long bodies pass through files (`streamed_parts` returns None)."""
    mem.buckets[DEST] = MemoryDisk()
    mem.buckets[DEST].files["c/one/beside.tif"] = mem.buckets[DEST].stored(b"of another program")
    report = sync.mirror(SOURCE, DEST, options=Options(work=tmp_path / "work", adopt=True))
    assert report.assets_done == 1
    messages = [
        one.message for one in sync.failures(DEST, Options(work=tmp_path / "work")) if one.kind == "exists"
    ]
    assert len(messages) == 1
    assert "it has 18 bytes, the source 6" in messages[0]
    assert objects(mem)["c/one/beside.tif"] == b"of another program"


def test_the_lease_excludes_a_second_mirror(mem, tmp_path):
    sync.mirror(SOURCE, DEST, options=Options(work=tmp_path / "first"))
    owner = mem.buckets[DEST].files[".stacpull/owner.json"]
    owner.data = orjson.dumps({**orjson.loads(owner.data), "held": True})
    with pytest.raises(DestinationError, match=f"in {LEASE_SECONDS:.0f} seconds"):
        sync.mirror(SOURCE, DEST, options=Options(work=tmp_path / "second"))


def test_a_url_without_a_bucket_is_refused(mem, tmp_path):
    with pytest.raises(UsageError, match="use mem://bucket/prefix"):
        sync.mirror(SOURCE, "mem://", options=Options(work=tmp_path / "work"))
    with pytest.raises(UsageError, match="add --work DIR"):
        sync.mirror(SOURCE, DEST)
    assert not ledger_path(tmp_path / "work").exists()
