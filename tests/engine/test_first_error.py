"""A run that failed reports its own error, although closing its store fails as well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.acceptance.mirrored import SELECTION, options_for

import stacpull
from stacpull.engine.store_client import StoreClient
from stacpull.errors import CredentialsError, UsageError
from stacpull_replicas import MlhubReplica, run_in_thread


def test_the_error_of_a_run_is_not_replaced_by_that_of_closing_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = StoreClient.close

    async def failing_close(self: StoreClient) -> None:
        await close(self)
        raise CredentialsError("while closing")

    async def fail(*_: object) -> None:
        raise UsageError("first")

    monkeypatch.setattr(StoreClient, "close", failing_close)
    monkeypatch.setattr("stacpull.engine.mirror.MirrorRun._transfer", fail)
    with run_in_thread(MlhubReplica(items=2, seed=5)) as replica:
        run = stacpull.mirror(
            replica.base_url, tmp_path / "mirror", selection=SELECTION, options=options_for(replica)
        )
        with pytest.raises(UsageError, match="first"):
            asyncio.run(run)
