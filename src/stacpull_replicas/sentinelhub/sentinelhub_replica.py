"""`SentinelHubReplica`: Sentinel Hub on one port, with one account that owns one collection."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Mapping
from typing import Unpack

from stacpull_replicas.faults import Responder
from stacpull_replicas.replica_server import ReplicaServer, ServerOptions
from stacpull_replicas.sentinelhub.byoc_service import Byoc
from stacpull_replicas.sentinelhub.captures import (
    DEFAULT_SEED,
    FIRST_DAY,
    LAST_DAY,
    Archive,
    archive_of,
    whole_area,
)
from stacpull_replicas.sentinelhub.catalog_service import Catalog
from stacpull_replicas.sentinelhub.notebook_figures import PRINTED_BOX
from stacpull_replicas.sentinelhub.sentinelhub_service import (
    TOKEN_PATHS,
    Accounts,
    Quota,
    RateLimit,
    SentinelHubService,
)
from stacpull_replicas.sentinelhub.statistics_service import Statistics

_FOREIGN = 1_000_003
"""The difference between the seeds of the account's own collection and of the shared one."""


def _derived(seed: int, purpose: str) -> str:
    return hashlib.sha256(f"stacpull sentinelhub {purpose} {seed}".encode()).hexdigest()


def _uuid(seed: int, purpose: str) -> str:
    return str(uuid.UUID(_derived(seed, purpose)[:32], version=4))


class SentinelHubReplica(ReplicaServer):
    """Sentinel Hub with an ARPS collection.

    `collection_id` is the account's own collection. `foreign_collection_id` is shared by another account:
    statistics and catalog serve it, but BYOC does not. `archive` has the captures of the account's own
    collection, with their pixels.

    Args:
        seed: The seed of the data; with the default, they match the notebook.
        token_ttl: Seconds until a token expires.
        rate_limit: Answer at most this many requests per second, others with 429. None for no limit.
        quota: The account's processing units. Once used up, requests get a 403. None for no limit.
        failing_days: Days (`2023-11-07`) whose interval of statistics is an error.
    """

    server_names = ("api",)

    def __init__(
        self,
        *,
        seed: int = DEFAULT_SEED,
        token_ttl: float = 3600,
        rate_limit: float | None = None,
        quota: float | None = None,
        failing_days: Collection[str] = (),
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(**server)
        self.seed = seed
        self.client_id = _uuid(seed, "client id")
        self.client_secret = "demo-" + _derived(seed, "client secret")[:32]
        self.collection_id = _uuid(seed, "collection")
        self.foreign_collection_id = _uuid(seed, "foreign collection")
        self.quota = Quota(quota)
        self._failing_days = frozenset(failing_days)
        self._accounts = Accounts(
            self.client_id, self.client_secret, bytes.fromhex(_derived(seed, "token key")), token_ttl
        )
        self._rate = RateLimit(rate_limit)

    @property
    def archive(self) -> Archive:
        return archive_of(self.seed)

    @property
    def base_url(self) -> str:
        """The URL to use in place of `https://services.sentinel-hub.com`."""
        return self.url("api")

    @property
    def token_url(self) -> str:
        return self.base_url + TOKEN_PATHS[0]

    def places(self) -> dict[str, str]:
        days = f"{FIRST_DAY} to {LAST_DAY}"
        return {
            "Sentinel Hub": self.base_url,
            "collection": f"byoc-{self.collection_id} (Analysis-Ready PlanetScope, {days})",
            "area": ",".join(map(str, whole_area())),
            "box of the notebook": ",".join(map(str, PRINTED_BOX)),
            "collection of another account": f"byoc-{self.foreign_collection_id}",
        }

    def exports(self) -> dict[str, str]:
        """Return the environment variables for clients of the replica.

        sentinelhub-py reads only the first two (its URLs are in its config file), and needs the last one to
        request a token without https. `SH_COLLECTION_ID` is for commands and notebooks; no client reads it.
        """
        return {
            "SH_CLIENT_ID": self.client_id,
            "SH_CLIENT_SECRET": self.client_secret,
            "SH_COLLECTION_ID": self.collection_id,
            "SH_BASE_URL": self.base_url,
            "SH_TOKEN_URL": self.token_url,
            "OAUTHLIB_INSECURE_TRANSPORT": "1",
        }

    def responders(self) -> Mapping[str, Responder]:
        own = {self.collection_id: self.archive}
        shared = {**own, self.foreign_collection_id: archive_of(self.seed + _FOREIGN)}
        foreign = frozenset({self.foreign_collection_id})
        parts = {
            "statistics": Statistics(shared, self._failing_days).respond,
            "catalog": Catalog(shared, self.base_url).respond,
            "byoc": Byoc(own, foreign, _uuid(self.seed, "user"), self.base_url).respond,
        }
        service = SentinelHubService(self._accounts, parts, self.quota, self._rate)
        return {"api": service.respond}
