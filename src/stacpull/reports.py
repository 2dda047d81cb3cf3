"""The results of the public functions, which `--json` prints: one frozen value per command."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from stacpull.events import Counters
from stacpull.models import PublicValue, count_failures
from stacpull.system import INTERRUPTED

RunState = Literal["running", "complete", "interrupted", "failed"]
"""`complete`: the walk ended and nothing is pending; assets may have failed."""


class CommonReport(Counters, frozen=True, kw_only=True):
    """What both `mirror` and `status` report."""

    state: RunState
    walk_ended: bool = False
    """True if the run (in `status`: the last walk) has listed everything: no more files follow."""
    items_unseen: int = 0
    """Items that the source announced but this walk did not find."""
    items_pruned: int = 0
    """Items that `prune` removed (in `status`: in the last `mirror`)."""
    source_items: int = 0
    """Items that links of matched items lead to."""
    assets_ordered: int = 0
    """The part of `assets_failed` whose hosts are preparing them: `retry --ordered` requests them again."""
    assets_clipped: int = 0
    """The part of `assets_done` of which only the tiles in the area of `--clip` were fetched."""
    assets_outside: int = 0
    """The part of `assets_failed` that has nothing in the area of `--clip`: no reason for exit code 1."""
    assets_kept: int = 0
    """The part of `assets_failed` of which DEST has an earlier version."""
    items_failed: int = 0
    """Items, links and entries that could not be read or planned, and items whose JSON could not be written
    (another file has its name, or someone changed it). A collection with own assets counts as an item."""
    run: int = 0
    source: str = ""
    dest: str = ""
    work: str | None = None
    """The work directory, if DEST is a bucket. Other commands need it, as `work` in their options."""
    reason: str | None = None
    """One sentence: why the run (in `status`: the last one) ended early, if the user did not stop it."""


class MirrorReport(CommonReport, frozen=True):
    """The result of a run. The counters refer to this run's selection (docs/json.md)."""

    items_left_out: Mapping[str, int] = msgspec.field(default_factory=dict)
    """How many items the filters left out, by the first that did not match, in the order of testing."""
    assets_excluded: int = 0
    """Assets of matched items that the asset filters left out."""
    assets_pages: int = 0
    """Assets left out because they are web pages or endpoints (`--include-pages` fetches them)."""
    items_new: int = 0
    """Items (source items too) that were not in the mirror before the run."""
    items_changed: int = 0
    """Items of the mirror that changed: `updated` (without it: the document), a size or a checksum."""
    assets_changed: int = 0
    """Assets that were fetched again with other content."""
    assets_revalidated: int = 0
    """Assets that were checked with the source and are unchanged (304, or the same bytes)."""
    files_lost: int = 0
    """Recorded files (assets and item JSON) that are missing in DEST, and are requested or written again."""
    items_not_listed: int = 0
    """Items of earlier runs with this selection that the source did not list in this run. DEST keeps them;
    `prune` finds out which are gone. 0 with `max_items` or `sample`."""
    items_of_other_runs: int = 0
    """Items in DEST that only other runs matched, and those of `items_not_listed`. All of them are kept."""
    items_gone: int = 0
    """With `prune`: items that the walk did not find, and whose own URL answered 404 or 410."""
    assets_pruned: int = 0
    """Asset files that were removed with these items."""
    assets_missing_new: int = 0
    """The part of `assets_missing` that this run found (`retry`: all that it tried)."""
    assets_accepted: int = 0
    """The part of `assets_missing` that does not cause exit code 1 (`--missing`)."""
    nothing_to_resume: bool = False
    """True if `resume` or `retry` had nothing to do: except requests and bytes, counters are the mirror's."""

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, exit_code={self.exit_code})"

    @property
    def exit_code(self) -> int:
        """0: all done, or nothing to do. 1: something failed or was not reached. 130: interrupted."""
        if self.nothing_to_resume:
            return 0
        if self.state == "interrupted":
            return INTERRUPTED
        failed = count_failures(self.to_json(), self.assets_accepted) + self.assets_ordered
        unreached = self.items_unseen and self.reason is not None
        return 1 if failed or self.items_failed or unreached or self.state == "failed" else 0


class FailureRecord(PublicValue, frozen=True):
    """One asset that failed: the reason, the number of attempts, and the time (seconds since 1970).

    Without `key`, it is an item that could not be read or planned; without `collection`, a line of SOURCE.
    """

    collection: str
    item: str
    key: str
    kind: str
    message: str
    status: int | None
    attempts: int
    when: float
    href: str | None = None
    """The URL that was requested, without keys and signatures in its query."""


class StatusReport(CommonReport, frozen=True):
    """The contents of DEST, over all runs. Readable while a mirror is running and after it was killed."""

    assets_unproven: int = 0
    """Assets whose length could not be verified, because the server stated none."""
    runs: int = 0
    sources: int = 1
    """How many sources these runs had; `source` is the one of the last run, or of the unfinished one."""
    started: float = 0.0
    ended: float | None = None
    """When the last run began and ended, in seconds since 1970. None if it is running or was killed."""
    checkpoint: str | None = None
    """The next page to read, without credentials; None when the walk has ended."""
    live: bool = False
    """True if a process is using the mirror now."""
    pid: int | None = None
    """The id of that process; None if there is none, or if it is not known."""
    rate: float | None = None
    """Bytes per second in the last run."""
    selection: Mapping[str, Any] = msgspec.field(default_factory=dict)
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    last_errors: tuple[FailureRecord, ...] = ()
    last_attempt: str | None = None
    """When and why the last attempt failed, if its run had not begun or DEST could not be written."""


class HostPlan(PublicValue, frozen=True):
    """How many assets would be requested from one host (or bucket), before redirects."""

    host: str
    assets: int


class PlanReport(PublicValue, frozen=True):
    """What `mirror` would do. `bytes_basis`: whether `bytes_total` is known, sampled, or unknown."""

    items_seen: int
    items_matched: int
    source_items: int
    assets: int
    assets_excluded: int
    bytes_total: int | None
    bytes_basis: Literal["known", "sampled", "unknown"]
    bytes_sampled: int
    """How many assets gave the sizes that others are estimated from."""
    requests: int
    """Requests that the mirror would make, including redirects that were seen."""
    hosts: tuple[HostPlan, ...]
    excluded_keys: Mapping[str, int]
    """How many assets were excluded, by asset key."""
    seconds_estimated: float | None
    assets_done: int = 0
    """With DEST: assets of this selection that are done, and would not be requested."""
    assets_pending: int = 0
    """With DEST: assets that would be requested. Those of a changed item may turn out to be unchanged."""
    bytes_pending: int | None = None
    """The part of `bytes_total` that would be requested."""
    items_announced: int | None = None
    """Items that the source announces, over all selected collections; None if one of them announces none."""
    items_left_out: Mapping[str, int] = msgspec.field(default_factory=dict)
    """How many items the filters left out, by the first that did not match, in the order of testing."""
    assets_pages: int = 0
    """Web pages and endpoints, which are left out (`--include-pages` fetches them). `page_keys`: by key."""
    page_keys: Mapping[str, int] = msgspec.field(default_factory=dict)
    assets_outside: int = 0
    """With `--clip`: the part of `bytes_sampled` that has nothing in its area."""
    assets_refused: int = 0
    """Assets that would fail: an href that cannot be fetched, a prefix without `--expand-prefix`."""
    seconds: float = 0.0
    source: str = ""
    unknown_keys: Mapping[str, int] = msgspec.field(default_factory=dict)
    """How many assets of each key are not in `bytes_total`, as neither item nor server states a size."""
    items_failed: int = 0
    """Links to items, and entries of files, that could not be read. Their assets are not counted."""

    @property
    def exit_code(self) -> int:
        """0, or 1 if `items_failed` is not 0."""
        return 1 if self.items_failed else 0


class VerifyReport(PublicValue, frozen=True):
    """The result of `verify`. Sizes in bytes, times in seconds. `state` is the state of the check itself."""

    dest: str
    state: Literal["complete", "interrupted"]
    files: int
    """Files of the mirror that were checked: assets, item JSON, catalogs."""
    bytes: int
    missing: int
    short: int
    altered: int
    obstructed: int
    unreadable: int
    unknown: int
    """Files that do not belong to the mirror. No command touches them; they are damage only if `strict`."""
    unproven: int
    """Files whose content was not compared, because no digest of it is recorded, or `quick` was given."""
    leftovers: int
    """Partial downloads, and what a killed `--prune` left. The next run finishes or removes them."""
    assets_pending: int
    assets_failed: int
    assets_missing: int
    quick: bool
    seconds: float
    remaining: int
    """Files that are still damaged: all, or with `--repair` those that could not be repaired."""
    mirror_state: RunState  # as in `status`
    strict: bool = False
    repair: MirrorReport | None = None
    """The result of the run that fetched damaged files again, if one was needed."""
    walk_ended: bool = False
    assets_ordered: int = 0
    assets_outside: int = 0
    items_failed: int = 0
    work: str | None = None
    """The work directory, if DEST is a bucket. The four fields before it are those of `status`."""

    @property
    def damaged(self) -> int:
        """How many files of the mirror are damaged; if `strict`, unknown files count too."""
        damaged = self.missing + self.short + self.altered + self.obstructed + self.unreadable
        return damaged + self.unknown if self.strict else damaged

    @property
    def exit_code(self) -> int:
        """0: no damage is left. 1: damage is left. 130: interrupted."""
        if self.state == "interrupted":
            return INTERRUPTED
        return 1 if self.remaining else 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints last."""
        return {**super().to_json(), "damaged": self.damaged}
