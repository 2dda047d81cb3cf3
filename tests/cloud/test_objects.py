"""No metadata service is asked without `--aws-metadata`: a store without complete keys does not sign."""

from __future__ import annotations

from typing import Any

import pytest

from stacpull.dest_address import BucketLocation
from stacpull_cloud import objects

COMPLETE = ("client_id", "client_secret", "tenant_id")


@pytest.mark.parametrize(
    "given",
    [
        ("client_secret",),
        ("client_id", "client_secret"),
        ("tenant_id", "client_id"),
        ("federated_token_file",),
        COMPLETE,
    ],
    ids=" ".join,
)
def test_an_incomplete_client_of_azure_does_not_sign(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(objects, "AzureStore", lambda _name, **how: made.append(how))
    for name in (
        "TENANT_ID",
        "CLIENT_ID",
        "CLIENT_SECRET",
        "FEDERATED_TOKEN_FILE",
        "STORAGE_ACCOUNT_KEY",
        "STORAGE_SAS_TOKEN",
        "STORAGE_CONNECTION_STRING",
        "USE_AZURE_CLI",
    ):
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    for name in given:
        monkeypatch.setenv(f"AZURE_{name.upper()}", "x")
    location = BucketLocation("cont", scheme="az", account="acct", endpoint_url=None, ca_bundle=None)
    _ = objects.Service(location).store
    assert made[0].get("skip_signature", False) == (given != COMPLETE)
