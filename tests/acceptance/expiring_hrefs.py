"""Hrefs that expire, but not all the time."""

from stacpull_replicas import MlhubReplica, RequestInfo
from stacpull_replicas.faults import Status

_LONG = 600.0
"""Seconds: longer than any test takes."""


def expire_once(replica: MlhubReplica) -> None:
    """From the first refusal on, have a replica hand out hrefs that last.

    Otherwise an href that was read again expires on a busy machine before it is used.
    """

    def are_to_last(_request: RequestInfo) -> bool:
        if replica.counters["api", "error"]:
            replica._sealer.ttl = _LONG
        return False

    replica.inject(are_to_last, Status(500))
