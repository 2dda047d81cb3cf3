"""The statistics of a run: the counters of the ledger and of the network."""

from __future__ import annotations

from stacpull.engine.network import Network
from stacpull.engine.store_client import StoreClient
from stacpull.events import Progress
from stacpull.ledger.runs import Run
from stacpull.plurals import count


class RunStats:
    """The statistics of one run in this process."""

    def __init__(self, run: Run, store: StoreClient, network: Network) -> None:
        self._run = run
        self._store = store
        self._network = network.counters
        self._hosts = network.client.gates.progress
        self._clock = network.clock
        self._started = network.clock.monotonic()
        self._saved: dict[str, float] = {}
        """The effort of this process that was already saved."""

    def progress(self) -> Progress:
        """Return the progress of the run."""
        before = self._run.counters
        skipped = (before["assets_done"] or 0) - (before["assets_skipped"] or 0)
        done, failed, pending = (self._count(f"assets_{state}") for state in ("done", "failed", "pending"))
        return Progress(
            items_seen=self._count("items_seen"),
            items_matched=self._count("items_matched"),
            items_done=self._count("items_done"),
            assets_planned=done + failed + pending,
            assets_done=done,
            assets_skipped=skipped + self._count("assets_skipped"),  # those done before this process
            assets_failed=failed,
            assets_missing=self._count("assets_missing"),
            assets_pending=pending,
            bytes_done=self._count("bytes_done"),
            bytes_fetched=self._network.bytes_fetched,
            items_announced=self._store.counters["items_announced"],
            items_wanted=self._run.spec.selection.most_items,
            hosts=self._hosts(),
            requests=self._network.requests,
            retries=self._network.retries,
            walk_ended=bool(self._store.counters["walk_ended"]),
            seconds=round(self._clock.monotonic() - self._started, 3),
        )

    def spend(self) -> dict[str, float]:
        """Return the effort since the last call, to add to the sums of the run."""
        before = self._saved
        now = self._saved = {
            "bytes_fetched": self._network.bytes_fetched,
            "requests": self._network.requests,
            "retries": self._network.retries,
            "seconds": self._clock.monotonic() - self._started,
        }
        return {name: value - before.get(name, 0) for name, value in now.items()}

    def _count(self, name: str) -> int:
        return self._store.counters.get(name) or 0


def nothing_to_fetch(*, seen: int, matched: int, planned: int, excluded: int, pages: int) -> str | None:
    """Return the warning for a selection without anything to fetch, else None."""
    if matched == 0 and seen:
        return f"Nothing matched: {seen:,} items were seen, and the filters kept none of them."
    if planned:
        return None
    if seen == 0:
        return "Nothing matched: the source listed no items."
    if pages:
        filters = " or by the filters" if excluded else ""
        why = f"every asset was left out: as a web page (--include-pages){filters}"
    else:
        why = "the asset filters dropped every asset" if excluded else "they have no assets"
    return f"{count(matched, 'item')} matched, but {why}."
