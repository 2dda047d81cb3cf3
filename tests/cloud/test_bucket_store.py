"""A bucket behaves as every store does."""

import hashlib
from collections.abc import Iterator

import pytest
from tests.store.store_contract import Reopen, StoreContract

from stacpull.models import Placement
from stacpull.store.protocol import Store
from stacpull.store.staging import StagedParts
from stacpull_cloud.bucket_store import BucketStore
from stacpull_cloud.lease import Lease
from stacpull_cloud.objects import Objects


@pytest.mark.parametrize("location", ["radosgw", "azurite", "google"], indirect=True)
class TestBucketStore(StoreContract):
    has_directories = False

    @pytest.fixture
    def reopen(self, location, tmp_path, monkeypatch) -> Iterator[Reopen]:
        monkeypatch.setattr(Lease, "check", lambda _: None)
        opened: list[BucketStore] = []

        def reopen() -> Store:
            staged = StagedParts(tmp_path, are_renamed=False)
            opened.append(BucketStore(staged, Objects(location)))
            return opened[-1]

        yield reopen
        for one in opened[1:]:  # the fixture `store` closes the first one
            one.close()

    @pytest.mark.parametrize("digest", [hashlib.sha256(b"abc").digest(), None])
    def test_the_same_content_is_placed_twice_but_no_object_of_others_is_taken(self, store, digest):
        """The response to an upload may be lost: the repeated upload finds the object."""

        def fails(name: str, body: bytes) -> bool:
            store.staged.write_part("1.0.3.whole", body)
            part = Placement("1.0.3.whole", "c", name, digest, may_replace=False)
            return store.place([part])[0] is not None

        assert [fails("a", b"abc"), fails("a", b"abc")] == [False, False]
        store.objects.put("c/foreign", b"abc", {"stacpullpart": "x"}, create=True)
        assert store.find("c/foreign") == (0, 3)
        store.objects.put("c/longer", b"abcd", {}, create=True)
        assert [fails("foreign", b"abc"), fails("longer", b"abc")] == [True, True]
