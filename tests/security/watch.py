"""In every acceptance test: the secrets that its replicas gave out, and whether one turned up somewhere.

Looked into, when a test is over: each mirror it left (ledger, write-ahead log and free pages included, as
these are bytes of files), each table of `headers` and `trace` with what is kept beside it, what its commands
printed, the arguments of their processes and those these started, and what each server of a replica was
asked that the secret was not for.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.forked_command import STORE_NAME, WORKER_NAME
from tests.security.secrets import entries_under, found_at, found_in, found_under

from stacpull_replicas import MlhubReplica, SentinelHubReplica
from stacpull_replicas.sentinelhub.sentinelhub_service import TOKEN_PATHS

WORKER = b"stacpull_dask.worker"
STORE = b"stacpull.engine.store_server"


@dataclass
class Watch:
    replicas: list[MlhubReplica | SentinelHubReplica] = field(default_factory=list)
    looked: dict[int, int] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    arguments: set[bytes] = field(default_factory=set)
    """Command lines, but for those that are word by word what the test gave."""

    def forget(self) -> None:
        self.replicas.clear()
        self.printed.clear()
        self.arguments.clear()

    def note(self, replica: MlhubReplica | SentinelHubReplica) -> None:
        """A test points clients at `replica`: from now on it keeps the headers of its requests."""
        replica.record_headers = True
        if replica not in self.replicas:
            self.replicas.append(replica)

    def assert_clean(self, top: Path) -> None:
        secrets = [secret for one in self.replicas for secret in _secrets_of(one) if secret]
        if not secrets:
            return
        owned = [Path(entry) for entry in entries_under(top) if entry.name.endswith(".stacpull")]
        mirrors = {own.parent for own in owned if own.name == ".stacpull"}
        assert [found for mirror in mirrors for found in found_under(mirror, secrets)] == []
        kept = [one for one in owned if one.name != ".stacpull"]
        tables = [table for one in kept for table in one.parent.glob(f"{one.stem}*")]
        assert [found for table in tables for found in found_at(table, secrets)] == []
        assert found_in("\n".join(self.printed).encode(), secrets) == []
        assert found_in(b"\n".join(self.arguments), secrets) == []
        for replica in self.replicas:
            self._assert_sent_only_where_due(replica)

    def _assert_sent_only_where_due(self, replica: MlhubReplica | SentinelHubReplica) -> None:
        total = sum(replica.counters.values())
        new = min(total - self.looked.get(id(replica), 0), len(replica.requests))
        self.looked[id(replica)] = total
        records = list(islice(replica.requests, len(replica.requests) - new, None))
        reported = {server: bytearray() for server in replica.server_names}
        for record in records:
            if record.target not in TOKEN_PATHS:
                reported[record.server] += f"{record.target}\n{record.headers}\n".encode()
        for server, data in reported.items():
            assert found_in(bytes(data), filter(None, _not_for(replica, server))) == [], server


def _secrets_of(replica: MlhubReplica | SentinelHubReplica) -> tuple[str | None, ...]:
    if isinstance(replica, SentinelHubReplica):
        return (replica.client_secret,)
    return replica.key, replica.access.secret_key, replica.access.session_token


def _not_for(replica: MlhubReplica | SentinelHubReplica, server: str) -> list[str | None]:
    if isinstance(replica, SentinelHubReplica):
        return [replica.client_secret]
    found: list[str | None] = [replica.access.secret_key]
    found += [] if server == "api" else [replica.key]
    return found + ([] if server == "s3" else [replica.access.access_key, replica.access.session_token])


CURRENT = Watch()


def arguments_of(pid: int) -> set[bytes]:
    """The arguments of a process and of those it has started, as anybody on this machine can read them.

    Of its worker processes also what they were started with as environment.
    """
    found: set[bytes] = set()
    for one in (pid, *children_of(pid)):
        try:
            arguments = Path(f"/proc/{one}/cmdline").read_bytes()
            found.add(arguments)
            if WORKER in arguments:
                found.add(Path(f"/proc/{one}/environ").read_bytes())
        except OSError:  # gone, or no such file system
            continue
    return found


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, by any of its threads, and those that these have started."""
    found: list[int] = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # the process is gone
        return found
    for thread in threads:
        try:
            listed = (thread / "children").read_text()
        except OSError:  # the thread is gone
            continue
        children = [int(child) for child in listed.split()]
        found += [*children, *(one for child in children for one in children_of(child))]
    return found


def workers_of(pid: int) -> list[int]:
    return [child for child in children_of(pid) if _is_called(child, WORKER, WORKER_NAME)]


def stores_of(pid: int) -> list[int]:
    return [child for child in children_of(pid) if _is_called(child, STORE, STORE_NAME)]


def _is_called(pid: int, module: bytes, name: str) -> bool:
    """Return whether a process that still is there has a module in its command line, or a name."""
    with suppress(OSError):
        own = Path(f"/proc/{pid}")
        return module in (own / "cmdline").read_bytes() or (own / "comm").read_text().strip() == name
    return False


@pytest.fixture(autouse=True, scope="session")
def every_replica() -> Iterator[None]:
    """Let replicas report themselves when a test requests what to point clients at them with."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (MlhubReplica, SentinelHubReplica):

            def noted(replica: Any, exports: Any = kind.exports) -> dict[str, str]:
                CURRENT.note(replica)
                return exports(replica)

            patch.setattr(kind, "exports", noted)
        yield


@pytest.fixture(autouse=True)
def watching(tmp_path: Path, every_replica: None) -> Iterator[Watch]:
    """No secret turns up anywhere, in whatever the test does."""
    CURRENT.forget()
    yield CURRENT
    CURRENT.assert_clean(tmp_path)
