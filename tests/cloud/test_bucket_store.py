"""A bucket behaves as every store does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.store_contract import Reopen, StoreContract

from stacpull.models import BucketLocation
from stacpull.store.protocol import Store
from stacpull_cloud.bucket_store import BucketStore


@pytest.mark.parametrize("location", ["radosgw", "moto", "azurite", "google"], indirect=True)
class TestBucketStore(StoreContract):
    has_directories = False

    @pytest.fixture
    def reopen(self, location: BucketLocation, tmp_path: Path) -> Iterator[Reopen]:
        opened: list[BucketStore] = []

        def reopen() -> Store:
            opened.append(BucketStore(tmp_path, location))
            return opened[-1]

        yield reopen
        for one in opened[1:]:  # the fixture `store` closes the first one
            one.close()
