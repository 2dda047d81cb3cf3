"""The fetcher of a mirror, as its options want it: the same in the process of the command and in workers."""

from __future__ import annotations

from collections.abc import Callable

from stacpull.clock import Clock
from stacpull.config.options import Options
from stacpull.engine.adoption import AdoptingFetcher
from stacpull.engine.course import Fetches
from stacpull.engine.network import Network
from stacpull.models import Job, Received
from stacpull.store.destination import Destination
from stacpull.store.parts import PartStore
from stacpull.transfer.fetch import Fetcher

__all__ = ["open_fetcher"]


def open_fetcher(
    network: Network,
    parts: PartStore,
    destination: Destination,
    options: Options,
    *,
    clock: Clock,
    on_detail: Callable[[str], None],
) -> Fetches[Job, Received]:
    """Return what makes one attempt at an asset.

    Args:
        network: of the run.
        parts: where long bodies go.
        destination: where `--adopt` looks for what is there.
        options: of the run.
        clock: where time comes from.
        on_detail: hears sentences for those who want to know everything.
    """
    checksum = options.checksum == "sha256"
    fetcher = Fetcher(
        network.client, parts, checksum=checksum, clock=clock, secrets=network.secrets, on_detail=on_detail
    )
    if not options.adopt:
        return fetcher
    return AdoptingFetcher(fetcher, network.client, destination, checksum=checksum)
