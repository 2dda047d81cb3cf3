"""The statistics of a run: the counters of the ledger and of the network."""

from __future__ import annotations

from typing import Any

from stacpull.engine.network import Network
from stacpull.engine.store_client import StoreClient
from stacpull.engine.store_operations import RunFindings
from stacpull.events import Progress
from stacpull.filters.labels import NO_LABEL_IN_NOMENCLATURE
from stacpull.ledger.runs import EndState, Run
from stacpull.plurals import count
from stacpull.reports import MirrorReport


class RunStats:
    """The statistics of one run in this process."""

    def __init__(self, run: Run, store: StoreClient, network: Network) -> None:
        """Start with the counters with which the run was resumed.

        Args:
            run: The run.
            store: Has its counters in the ledger.
            network: Has the counters of the network, and the clock.
        """
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
        done, failed, pending = (self._count(f"assets_{state}") for state in ("done", "failed", "pending"))
        return Progress(
            items_seen=self._count("items_seen"),
            items_matched=self._count("items_matched"),
            items_done=self._count("items_done"),
            assets_planned=done + failed + pending,
            assets_done=done,
            assets_skipped=self._skipped(),
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

    def report(
        self,
        state: EndState,
        reason: str | None,
        findings: RunFindings,
        *,
        items_unseen: int,
        missing_ok: bool,
        dest: str,
        work: str | None,
    ) -> MirrorReport:
        """Return the report of the run.

        Args:
            state: How it ended.
            reason: Why it stopped early, if it did.
            findings: What the ledger has of it.
            items_unseen: Items that the source announced but the walk did not find.
            missing_ok: True if missing assets are accepted.
            dest: DEST.
            work: The work directory, if DEST is a bucket.
        """
        progress, clip = self.progress(), self._run.spec.selection.clip
        shared = set(MirrorReport.__struct_fields__) & set(Progress.__struct_fields__)
        counts: dict[str, Any] = {name: getattr(progress, name) for name in shared} | findings.counts
        return MirrorReport(
            **counts,
            state=state,
            assets_whole=0
            if clip is None
            else progress.assets_done - findings.counts.get("assets_clipped", 0),
            items_failed=self._count("items_failed") + findings.unwritten,
            items_unseen=items_unseen,
            items_without_label=findings.left_out.get(NO_LABEL_IN_NOMENCLATURE, 0),
            items_left_out=findings.left_out,
            run=self._run.id,
            source=self._run.spec.source,
            dest=dest,
            work=work,
            reason=reason,
            missing_ok=missing_ok,
            dashboard=None,
            nothing_to_resume=False,
        )

    def of_nothing(self) -> str | None:
        """Return the warning for a complete run without anything to fetch."""
        progress = self.progress()
        return nothing_to_fetch(
            seen=progress.items_seen,
            matched=progress.items_matched,
            planned=progress.assets_planned,
            excluded=self._count("assets_excluded"),
            pages=self._count("assets_pages"),
        )

    def _count(self, name: str) -> int:
        return self._store.counters.get(name) or 0

    def _skipped(self) -> int:
        """Return the number of assets that were already done in this process."""
        before = self._run.counters
        found = self._count("assets_skipped") - (before["assets_skipped"] or 0)
        return found + (before["assets_done"] or 0)


def nothing_to_fetch(*, seen: int, matched: int, planned: int, excluded: int, pages: int) -> str | None:
    """Return the warning for a selection without anything to fetch, else None.

    Args:
        seen: Number of items that were read.
        matched: Number of items that match the filters.
        planned: Number of planned assets, including those that cannot be fetched.
        excluded: Number of assets that the asset filters left out.
        pages: Number of assets that were left out because they are web pages.
    """
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
