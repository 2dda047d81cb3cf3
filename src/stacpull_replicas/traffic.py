"""What the replicas were asked: cheap counters always, a bounded log of requests for tests to look into."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One answered request. `sent` counts body bytes; `headers` is empty unless the replica records them."""

    server: str
    kind: str
    method: str
    target: str
    status: int
    sent: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Traffic:
    """The log of a replica: the last 20,000 requests, and counts per (server, kind of route) of all."""

    record_headers: bool = False
    requests: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=_KEPT))
    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_sent: int = 0

    def note(self, record: RequestRecord) -> None:
        """Count and keep a request."""
        self.requests.append(record)
        self.counters[record.server, record.kind] += 1
        self.bytes_sent += record.sent
