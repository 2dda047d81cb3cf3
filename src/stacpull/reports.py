"""What the public functions return, and what `--json` prints: one frozen value per command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

from stacpull.models import FailureKind

__all__ = [
    "ADVICE",
    "Disk",
    "FailureRecord",
    "HostPlan",
    "MirrorReport",
    "PlanReport",
    "RebuildReport",
    "ReportTable",
    "RunState",
    "StatusReport",
    "VerifyReport",
]

ADVICE: Mapping[FailureKind, tuple[str, str]] = {
    FailureKind.GONE: ("gone at the source", "to accept that: --missing ok"),
    FailureKind.REFUSED: ("refused (credentials, or an expired link)", "check the credentials, then retry"),
    FailureKind.THROTTLED: ("throttled", "retry later, perhaps with a lower --per-host"),
    FailureKind.SERVER: ("server errors", "retry later"),
    FailureKind.HTTP: ("HTTP errors that are final", "see the details"),
    FailureKind.NETWORK: ("network errors", "retry"),
    FailureKind.STALLED: ("stalled", "no data for --stall-timeout; retry"),
    FailureKind.TRUNCATED: ("shorter than announced", "retry"),
    FailureKind.OVERLONG: ("longer than announced", "retry"),
    FailureKind.CHANGED: ("changed during the download", "retry"),
    FailureKind.CHECKSUM: ("wrong checksum or size", "the content is not what the source states"),
    FailureKind.REDIRECT: ("redirects that must not be followed", "see the details"),
    FailureKind.ADDRESS: ("at private addresses", "--allow-private-hosts follows them"),
    FailureKind.SCHEME: ("with an unsupported URL scheme", "http, https and s3 are supported"),
    FailureKind.PREFIX: ("S3 prefixes instead of files", "--expand-prefix fetches what is under them"),
    FailureKind.NAME: ("name conflicts, or names that cannot be written", "choose another --layout"),
    FailureKind.EXISTS: ("blocked by a file of yours", "move that file, then retry"),
    FailureKind.FORMAT: ("not a valid file of its type", "see the details"),
    FailureKind.ITEM: ("items that cannot be read", "retry"),
    FailureKind.ORDERED: ("not ready yet at their host", "ask again later with retry --ordered"),
    FailureKind.OUTSIDE: ("with nothing in the area of --clip", "no fault: there is nothing to fetch"),
    FailureKind.DOWN: ("at hosts that do not answer", "resume"),
}
"""What each kind of failure means, and what helps."""

RunState = Literal["running", "complete", "interrupted", "failed"]
"""`complete`: the walk ended and nothing is pending, failures allowed."""


class ReportTable:
    """Shows a report as a table where Jupyter displays it."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in self.to_json().items()
            if value not in (None, {}, [], ())
        )
        return f"<table>{''.join(rows)}</table>"


@dataclass(frozen=True, slots=True)
class Counts(ReportTable):
    """What `mirror` and `status` both tell (docs/json.md). Sizes in bytes, times in seconds.

    `assets_planned` = done + failed + pending; `assets_skipped` are those of done that were found done
    already; `assets_missing` those of failed that are gone upstream (404, 410).
    """

    state: RunState
    items_seen: int
    items_matched: int
    items_done: int
    assets_planned: int
    assets_done: int
    assets_skipped: int
    assets_failed: int
    assets_missing: int
    assets_pending: int
    bytes_done: int
    bytes_fetched: int
    seconds: float
    requests: int
    retries: int


@dataclass(frozen=True, slots=True)
class MirrorReport(Counts):
    """How a run ended, counted over this run's selection."""

    assets_ordered: int = 0
    """The part of `assets_failed` whose hosts are preparing them: `retry --ordered` asks again."""
    assets_clipped: int = 0
    """The part of `assets_done` of which only the tiles in the area of `--clip` were fetched."""
    assets_whole: int = 0
    """With `--clip`: the part of `assets_done` that could not be clipped, or was here, and is here whole."""
    assets_outside: int = 0
    """The part of `assets_failed` that has nothing in the area of `--clip`: no reason for exit code 1."""
    items_failed: int = 0
    """Source items that could not be read (they are listed by `failures`), and items whose JSON could not be
    written, since a file that is not ours is in the way (a warning names it)."""
    items_unseen: int = 0
    """Items that the source announced but the walk never met."""
    items_without_label: int = 0
    """Items dropped because no label of theirs exists in the nomenclature asked for."""
    items_left_out: Mapping[str, int] = field(default_factory=dict)
    """How many items the filters left out, by the reason that was found first."""
    assets_excluded: int = 0
    """Assets of matched items that the asset filters left out."""
    assets_pages: int = 0
    """Those left out since they are web pages or endpoints, and --include-pages was not given."""
    items_new: int = 0
    """Items, source items included, that were not here before the run."""
    items_changed: int = 0
    """Items that were here, and that are listed otherwise: `updated`, a size, a checksum, an asset more."""
    assets_changed: int = 0
    """Assets that came in with another content than the one that was here."""
    assets_revalidated: int = 0
    """Assets that the source was asked about and that are the same: by 304, or by their bytes."""
    files_lost: int = 0
    """Files of the mirror (assets and item JSON) that were recorded and gone from DEST: they are fetched or
    written again."""
    items_gone: int = 0
    """With `prune`: items that the walk did not meet, and whose own URL said 404 or 410."""
    items_pruned: int = 0
    """Of those, removed."""
    assets_pruned: int = 0
    """Files of assets removed with them."""
    run: int = 0
    source: str = ""
    dest: str = ""
    work: str | None = None
    """The work directory, if DEST is a bucket: other commands may name it as DEST."""
    reason: str | None = None
    """Why the run stopped early, if it did: one plain sentence."""
    missing_ok: bool = False
    """True if assets that are gone upstream are no reason for exit code 1 (`--missing ok`)."""
    dashboard: str | None = None
    """The URL at which the run was shown while it lasted (`--dashboard`)."""
    nothing_to_resume: bool = False
    """True if `resume` found no unfinished run. The counters are then those of the mirror, without effort."""

    @property
    def exit_code(self) -> int:
        """0 all done (or nothing to resume), 1 something failed or was not reached, 130 interrupted."""
        if self.nothing_to_resume:
            return 0
        if self.state == "interrupted":
            return 130
        failed = self.assets_failed - self.assets_outside - (self.assets_missing if self.missing_ok else 0)
        unreached = self.items_unseen and self.reason is not None
        return 1 if failed or self.items_failed or unreached or self.state == "failed" else 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StatusReport(Counts):
    """What DEST holds, over all runs; readable while a mirror is running and after it was killed."""

    assets_ordered: int = 0
    """The part of `assets_failed` whose hosts are preparing them: `retry --ordered` asks again."""
    assets_clipped: int = 0
    """The part of `assets_done` of which only the tiles in the area of `--clip` were fetched."""
    assets_outside: int = 0
    """The part of `assets_failed` that has nothing in that area."""
    items_failed: int = 0
    assets_unproven: int = 0
    """Assets whose length nothing proved: a response without one, from a server that states no more; a file
    that `verify --rebuild` found by its name alone."""
    run: int = 0
    runs: int = 0
    source: str = ""
    dest: str = ""
    work: str | None = None
    """The work directory, if DEST is a bucket."""
    checkpoint: str | None = None
    """The next page the walk would read, credentials cut; None when the walk has ended."""
    walk_ended: bool = False
    live: bool = False
    """True if a process holds the mirror now."""
    pid: int | None = None
    """The id of that process, if it is known."""
    rate: float | None = None
    """Bytes per second over the last run."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    last_errors: tuple[FailureRecord, ...] = ()
    reason: str | None = None
    """Why the last run stopped early, if it did."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """One asset that failed: why, how often, when (seconds since 1970).

    With an empty `key` an item: one that could not be read, or whose JSON has a file in its way.
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
    """Where it was asked for, credentials and signatures cut."""

    def to_json(self) -> dict[str, Any]:
        """Return one line of `failures --json` (NDJSON)."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HostPlan:
    """How many assets would be asked of one host (or bucket), before redirects."""

    host: str
    assets: int


@dataclass(frozen=True, slots=True)
class Disk:
    """Room at the destination: bytes and inodes free, None where the system does not tell."""

    bytes_free: int | None
    inodes_free: int | None


@dataclass(frozen=True, slots=True)
class PlanReport(ReportTable):
    """What a mirror would do. `bytes_basis`: whether bytes are known, sampled, or unknown."""

    items_seen: int
    items_matched: int
    source_items: int
    assets: int
    assets_excluded: int
    bytes_total: int | None
    bytes_basis: Literal["known", "sampled", "unknown"]
    bytes_sampled: int
    """How many assets were asked for their size (HEAD or a ranged read) to estimate the total."""
    requests: int
    """Requests the mirror would make, redirects included where they were seen."""
    hosts: tuple[HostPlan, ...]
    excluded_keys: Mapping[str, int]
    """How many assets each excluded asset key would have had."""
    seconds_estimated: float | None
    assets_done: int = 0
    """With DEST: assets of this selection that are there already."""
    assets_pending: int = 0
    """With DEST: assets still to do."""
    items_announced: int | None = None
    items_without_label: int = 0
    items_left_out: Mapping[str, int] = field(default_factory=dict)
    """How many items the filters left out, by the reason that was found first."""
    assets_pages: int = 0
    """Assets left out since they are web pages or endpoints (`--include-pages` takes them)."""
    page_keys: Mapping[str, int] = field(default_factory=dict)
    """How many of these each asset key would have had."""
    assets_refused: int = 0
    """Assets that would fail: an href that cannot be fetched, a prefix without `--expand-prefix`."""
    disk: Disk | None = None
    seconds: float = 0.0
    source: str = ""
    assets_basis: Literal["known", "sampled"] = "known"
    """`sampled`: only the source items of the first matched items were read, the others counted alike."""
    unknown_keys: Mapping[str, int] = field(default_factory=dict)
    """How many assets of each key have no known size: none is stated, and the server gave none. They are not
    part of `bytes_total`."""
    urls_written: int | None = None
    """With a list of URLs: its entries."""
    urls_left_out: int | None = None
    """Assets that are not in the list, because the format cannot hold them."""

    @property
    def exit_code(self) -> int:
        """1 if a list of URLs is not complete, else 0."""
        return 1 if self.urls_left_out else 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """How a ledger was rebuilt (`verify --rebuild`). Assets that are done are counted by their evidence.

    `done` = `by_checksum` + `by_size` + `by_name`.
    """

    reason: str
    """What was wrong with the ledger before: one plain sentence."""
    aside: str | None
    """The path of the old ledger now, relative to DEST; None if there was none."""
    items: int = 0
    done: int = 0
    by_checksum: int = 0
    """Their SHA-256 is that of the old ledger, or their digest the one that the item states."""
    by_size: int = 0
    """Their size is the one that the item states; nothing states a digest."""
    by_name: int = 0
    """An item's JSON names them as here, and nothing else is known: it was written when they were whole."""
    pending: int = 0
    """Named as here, but missing or other than they should be: the next `mirror` fetches them."""
    recovered: int = 0
    """Of those done, the ones that only the old ledger knew: their items were not whole yet."""
    source: str = ""
    """Where it all came from, as far as that is known."""
    layout: str | None = None
    """What `--layout` the files follow, if one was recognised."""
    selection_known: bool = False
    """True if the old ledger still had the selection, so that `resume` can continue."""


@dataclass(frozen=True, slots=True)
class MergeReport(ReportTable):
    """What `merge` did. Sizes in bytes, times in seconds."""

    dest: str
    shards: tuple[str, ...]
    items: int
    """Items that DEST did not have."""
    assets: int
    """Assets that were taken over."""
    bytes: int
    """Their size."""
    assets_there: int
    """Assets that DEST had already, with the same content."""
    assets_failed: int
    """Assets that failed in a shard: `retry` fetches them into DEST."""
    conflicts: int
    """Assets that were not taken over."""
    named: tuple[str, ...]
    """Why, for the first of them: a sentence for each."""
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 all of the shards is in DEST, 1 if not."""
        return 1 if self.conflicts or self.assets_failed else 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints last."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class VerifyReport(ReportTable):
    """What `verify` found. Sizes in bytes, times in seconds. `state` is that of the check itself."""

    dest: str
    state: Literal["complete", "interrupted"]
    files: int
    """Files of the mirror that were looked at: assets, item JSON, catalogs."""
    bytes: int
    missing: int
    short: int
    altered: int
    obstructed: int
    unreadable: int
    unknown: int
    """Files that do not belong to the mirror. They are never touched, and are damage only if `strict`."""
    unproven: int
    """Files whose digest is not known: looked at by their size, or (JSON) by being there."""
    leftovers: int
    """Unfinished downloads, files that a pruning did not get to: the next run takes up or removes them."""
    assets_pending: int
    assets_failed: int
    quick: bool
    seconds: float
    remaining: int
    """Damage that is left: all of it, or with `--repair` what could not be repaired."""
    strict: bool = False
    """True if files that do not belong to the mirror count as damage."""
    repair: MirrorReport | None = None
    """How the run ended that fetched again what was damaged, if one was needed."""
    rebuilt: RebuildReport | None = None
    mirror_state: RunState | None = None
    """The state of the mirror, as in `status`; None if nothing was planned, or the check did not begin."""
    work: str | None = None
    """The work directory, if DEST is a bucket."""

    @property
    def damaged(self) -> int:
        """How many files of the mirror were not as they should be; if `strict`, other files too."""
        of_mirror = self.missing + self.short + self.altered + self.obstructed + self.unreadable
        return of_mirror + (self.unknown if self.strict else 0)

    @property
    def exit_code(self) -> int:
        """0 all as it should be, 1 damage (left), 130 interrupted."""
        if self.state == "interrupted":
            return 130
        return 1 if self.remaining else 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints last."""
        return {**asdict(self), "damaged": self.damaged}
