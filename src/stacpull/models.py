"""The values that flow through the pipeline, from page to disk.

    Page ─filters─▶ item (dict) ─plan─▶ Asset ─ledger─▶ Job ─transfer─▶ AssetFile | Failure ─store─▶ ledger

Items stay raw dicts, because creating a `pystac.Item` takes far longer than decoding. Only hrefs of assets
and pages may contain secrets (signatures), which stay in memory.
"""

import enum
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Self, cast

import msgspec
from msgspec.structs import replace

from stacpull.redact import Secrets, unsigned_url

Json = dict[str, Any]
Headers = Mapping[str, str]  # of a request or a response
Comparison = Literal["same", "other", "unknown"]  # of two versions


class PublicValue(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """An immutable value that a public function returns or reports."""

    def to_json(self) -> Json:
        """Return the object that `--json` prints."""
        return cast("Json", msgspec.to_builtins(self))

    def _repr_html_(self) -> str:
        from html import escape  # noqa: PLC0415 - needed in notebooks only

        rows = ""
        for name, value in self.to_json().items():
            if value:
                rows += f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
        return f"<table>{rows}</table>"  # a line of 40 fields is not readable


OWN_DIRECTORY = ".stacpull"  # of a mirror, for everything but its files: ledger, event log, lock and parts
OWN_ASSETS_ID = ""  # the item ID of a collection's own assets: no item has an empty ID
FILE_OF_USER: Final = None  # as an identity: the user may have a file of this name, which is never removed


def path_in_dest(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


class ItemId(NamedTuple):
    """The identity of an item. It does not depend on its URL, which may be signed and change each time."""

    collection: str
    item: str


class Then(enum.Flag):
    """What stacpull does after a failure."""

    RETRY = enum.auto()  # the same request again in this run, unless the failure says otherwise
    NEXT_RUN = enum.auto()  # `mirror` and `resume` try again, once per run: it may pass, or costs no request
    HOLD_BACK = enum.auto()  # recorded only once the host has answered again
    OWN_HOST = enum.auto()  # a next link may name an internal host: the page is read from SOURCE's own host
    SMALLER_PAGE = enum.auto()  # of a page: fewer items are requested
    NEW_HREF = enum.auto()  # the item is read again, because it may have another href by now
    NEW_CONTENT = enum.auto()  # after a second one: the item may state another size or checksum by now
    NO_RESUME = enum.auto()  # the part that was received is removed


class FailureKind(enum.StrEnum):
    """Why an asset failed, with a `meaning` and `advice` in words, and what follows (`_THEN`)."""

    meaning: str
    advice: str

    def __new__(cls, value: str, *words: str) -> Self:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.meaning, kind.advice = words
        return kind

    @property
    def then(self) -> Then:
        return _THEN.get(self, Then(0))

    # the ledger stores the values: never rename one
    GONE = "gone", "missing from the source", "a run with --missing ok accepts it"
    REFUSED = "refused", "refused, or with an expired link", "check the credentials, then retry"
    THROTTLED = "throttled", "throttled", "retry later, perhaps with a lower --per-host"  # or overloaded
    SERVER = "server", "with a server error or invalid HTTP", "retry later"  # 5xx, unless throttled
    HTTP = "http", "with an HTTP error", "the message says why"  # any other status
    NETWORK = "network", "with a network error", "retry"  # refused, reset, DNS, TLS
    STALLED = "stalled", "stalled", "no data for --stall-timeout; retry"
    TRUNCATED = "truncated", "shorter than announced", "retry"
    OVERLONG = "overlong", "longer than announced, or too long for DEST", "the message says why"
    CHANGED = "changed", "changed during the download", "retry"  # 412, or another Content-Range
    CHECKSUM = "checksum", "with a wrong checksum or size", "not what its item or server states"
    REDIRECT = "redirect", "with a redirect that is not allowed", "the message says why"  # or is a loop
    ADDRESS = "address", "at private addresses", "the message says why"  # or link-local
    SCHEME = "scheme", "with a URL that stacpull does not request", "the message says why"
    PREFIX = "prefix", "a prefix of a bucket instead of a file", "use --expand-prefix to fetch its files"
    NAME = "name", "with a name that is taken or not allowed", "free the name or change --layout, then retry"
    EXISTS = "exists", "blocked by another file", "the message says what to do"
    FORMAT = "format", "not a valid file of its type", "the message says why"
    ITEM = "item", "with an invalid or unreadable item", "the message says why"
    ORDERED = "ordered", "not ready yet at their host", "try again later with retry --ordered"
    OUTSIDE = "outside", "with nothing in the area of --clip", "not an error; --bbox leaves out their items"
    # an asset stays pending instead
    DOWN = "down", "at hosts that failed too often", "run the same command again"


_THEN: Final = {  # what stacpull does after a failure; after other kinds, nothing
    FailureKind.GONE: Then.OWN_HOST,
    FailureKind.REFUSED: Then.HOLD_BACK | Then.OWN_HOST | Then.NEW_HREF,
    FailureKind.THROTTLED: Then.RETRY | Then.NEXT_RUN,
    FailureKind.SERVER: Then.RETRY | Then.NEXT_RUN | Then.SMALLER_PAGE,
    FailureKind.NETWORK: Then.RETRY | Then.NEXT_RUN | Then.HOLD_BACK | Then.OWN_HOST,
    FailureKind.STALLED: Then.RETRY | Then.NEXT_RUN | Then.HOLD_BACK | Then.OWN_HOST | Then.SMALLER_PAGE,
    FailureKind.TRUNCATED: Then.RETRY | Then.NEXT_RUN | Then.SMALLER_PAGE,
    FailureKind.OVERLONG: Then.RETRY | Then.SMALLER_PAGE | Then.NEW_CONTENT | Then.NO_RESUME,
    FailureKind.CHANGED: Then.RETRY | Then.NEXT_RUN | Then.NO_RESUME,
    FailureKind.CHECKSUM: Then.RETRY | Then.NEW_CONTENT | Then.NO_RESUME,
    FailureKind.ADDRESS: Then.NEXT_RUN | Then.OWN_HOST,
    FailureKind.SCHEME: Then.NEXT_RUN,
    FailureKind.DOWN: Then.NEXT_RUN,  # of source items
}
NOT_FAILURES = (FailureKind.ORDERED, FailureKind.OUTSIDE)  # `--max-failures` does not count these
COUNTED_APART = frozenset({FailureKind.GONE, *NOT_FAILURES})  # a summary does not call these failures


def count_failures(counts: Mapping[str, Any], gone: int) -> int:
    """Return how many of `assets_failed` are failures, without `gone` ones and `NOT_FAILURES`."""
    not_failures = sum(counts.get(f"assets_{kind}", 0) for kind in NOT_FAILURES)
    return int(counts.get("assets_failed", 0) - gone - not_failures)


class Failure(msgspec.Struct, frozen=True):
    """One expected failure: a value, not an exception. `message` is a plain sentence without credentials."""

    kind: FailureKind
    message: str
    status: int | None = None
    host: str = ""
    retry_after: float | None = None  # seconds that the host requested to wait, if it did
    retry: bool | None = None  # None: as its kind (`Then.RETRY`)
    resumable_bytes: int = 0  # the size of the part that the next attempt resumes
    attempts: int = 1  # at an asset or a document; 0 if they are not counted

    @property
    def retryable(self) -> bool:
        """True if the same request may succeed later; the retry policy decides."""
        return Then.RETRY in self.kind.then if self.retry is None else self.retry

    @property
    def is_temporary(self) -> bool:
        return self.retryable or self.kind is FailureKind.DOWN

    @property
    def is_over_limit(self) -> bool:
        """True if a document exceeds our limit, not only the length that its server announced."""
        return self.kind is FailureKind.OVERLONG and not self.retryable

    def masked(self, secrets: Secrets) -> Self:
        message = secrets.masked(self.message)
        return self if message == self.message else replace(self, message=message)


class WalkUpdate(NamedTuple):
    """What a batch of items changes in the stored state of the walk."""

    position: str | None = None  # the next page (`engine.walk.Position`), set by the last batch of a page
    walk_ended: bool = False
    announced: int | None = None  # items that all collections announce; None if it is not yet known
    cut_short: str | None = None
    """Why the walk of a collection ended before its last page; at the end, the last such reason."""
    unseen: int = 0  # at the end of the walk, unless `--max-items` ended it: announced items on no page


class PlannedVersion(NamedTuple):
    """The version of an item that a run has planned. `is_linked` if only a link, and no page, led to it."""

    updated: str | None = None
    is_linked: bool = False


class PageRequest(msgspec.Struct, frozen=True):
    """The cursor that the ledger stores, without credentials. `headers`, of a `next` link, are not secret."""

    url: str
    method: Literal["GET", "POST"] = "GET"
    body: Mapping[str, Any] | None = None
    headers: Headers | None = None


class UnreadableEntry(NamedTuple):
    """What a walk could not read or plan: a link of a catalog, an entry of a file (a line), or an item."""

    collection: str  # empty for an entry, whose collection is not known
    name: str  # the URL, the position of the entry, or the id of the item
    failure: Failure
    href: str = ""  # the URL to read a link again; empty for an entry or an item


class ItemLink(NamedTuple):
    href: str
    parent: ItemId
    id: ItemId | None = None


class UnreadableItem(msgspec.Struct, frozen=True):
    id: ItemId
    href: str
    parent: ItemId
    failure: Failure


class Page(msgspec.Struct, frozen=True):
    request: PageRequest
    items: list[Json]
    next: PageRequest | None  # None after the last page, and in a source without cursors
    announced: int | None  # the total number of items that the service announces
    loop_reason: str | None = None  # why this is the last page although it has a `next`; without a subject
    unreadable: tuple[UnreadableEntry, ...] = ()  # unreadable links and entries


class ClippedPart(NamedTuple):
    """The part of an asset that is in the mirror (`--clip`)."""

    area_hash: int  # of the area's text (`digests.text_hash`)
    source_size: int  # bytes of the whole asset
    fields: Json  # members of the asset that differ for the clipped file; null removes a member


class MirroredFile(msgspec.Struct, frozen=True):
    path: str
    size: int | None = None
    sha256: bytes | None = None
    clip: ClippedPart | None = None


class Checksum(NamedTuple):
    """A digest that the source states for an asset, and the name of its `algorithm` (see `digests`)."""

    algorithm: str
    digest: bytes


def digest_algorithm(checksum: str | None) -> str | None:
    """Return the algorithm of the digests that the ledger records (`--checksum`), or None for none."""
    return None if checksum == "none" else checksum or "sha256"


class Asset(msgspec.Struct, frozen=True, array_like=True):
    """One planned asset. `name` is None while it depends on the resolved URL: see `name_template`."""

    key: str
    href: str
    directory: str
    name: str | None
    name_template: str | None = None
    size: int | None = None
    checksum: Checksum | None = None
    media_type: str | None = None
    alternates: tuple[str, ...] = ()  # other hrefs of the same content, tried in this order (`--prefer`)


class PlannedItem(NamedTuple):
    """A selected item, with its planned assets and those that were not planned.

    `href` is its own URL, to read it again when asset hrefs have expired. `parent` is the item whose
    link led to a linked item. In a message to the ledger, `document` is empty and `public_json` is set.
    """

    id: ItemId
    document: Json
    href: str | None
    assets: tuple[Asset, ...]
    parent: ItemId | None = None
    updated: str | None = None
    problems: tuple[tuple[str, Failure], ...] = ()
    """Keys of wanted assets that cannot be planned; the key `assets` if no asset of the item can."""
    excluded: tuple[str, ...] = ()  # keys of the assets that a filter left out
    web_pages: tuple[str, ...] = ()  # keys of assets that are web pages or endpoints, and therefore left out
    expanded_prefixes: tuple[str, ...] = ()  # keys of prefixes that `assets` replaces with their objects
    public_json: bytes = b""  # the document without credentials, as the ledger keeps it

    @property
    def is_collection(self) -> bool:
        """True if these are the assets of a collection itself, and there is no item."""
        return self.id.item == OWN_ASSETS_ID


class Validator(NamedTuple):
    """The ETag and date of a response: whether two responses are of the same object (RFC 9110, 8.8)."""

    etag: str | None = None
    last_modified: str | None = None

    @property
    def strong_etag(self) -> str | None:
        """The ETag if it is strong (without `W/`), also without the quotes, as Azure's old API sends it."""
        return None if self.etag is None or self.etag.startswith("W/") else self.etag

    @property
    def resumable(self) -> bool:
        return self.strong_etag is not None or self.last_modified is not None

    @property
    def etag_or_date(self) -> str | None:
        return self.etag if self.etag is not None else self.last_modified


class VersionInDest(NamedTuple):
    etag_or_date: str  # of the response with this version (`Validator.etag_or_date`)
    size: int
    checksum_unverified: bool = False  # the item states a checksum that was not verified for these bytes


class Job(Asset, frozen=True, array_like=True, kw_only=True):
    """One asset to transfer, with its row in the ledger. Plain values only."""

    rowid: int
    item_rowid: int
    generation: int  # how many versions of the asset were done before this one
    item_href: str | None = None
    item_name: str = ""  # the id that the document at `item_href` must have; empty for any
    stale: bool = False  # the stored href lacks something or is outdated: the item is read again first
    required_digest: bytes | None = None  # of the earlier content, if only this is accepted (`--repair`)
    version_in_dest: VersionInDest | None = None  # the version in DEST: the request is conditional
    href_changed: bool = False  # it differs from the planned one, so the ETag of its response is not stored
    checksum_changed: bool = False  # the item was read again and states another checksum
    is_clipped: bool = False  # to the area of the run's `--clip`
    replanned_at: float = 0.0  # when the run planned a newer version; downloads are not shared across it
    has_failed: bool = False  # in an earlier `mirror` or `resume`: `--max-failures` does not count it again

    def at(self, hrefs: tuple[str, ...]) -> Self:
        """Return the job with new hrefs, at least one, after its item was read again or an href failed.

        With another URL, signature apart, the request has no condition: a validator belongs to one URL.
        """
        job = replace(self, href=hrefs[0], alternates=hrefs[1:], stale=False)
        if unsigned_url(hrefs[0]) == unsigned_url(self.href):
            return job
        return replace(job, version_in_dest=None, href_changed=True)


class WalkBatch(msgspec.Struct):
    """What a walk selected from up to 100 items: linking items come before linked ones."""

    items: list[PlannedItem] = []
    unreadable_items: list[UnreadableItem] = []
    deferred: list[UnreadableItem] = []  # to the next batch; failures, in case the run ends before that
    seen: list[ItemId] = []
    left_out: dict[str, list[ItemId]] = {}
    unreadable_entries: list[UnreadableEntry] = []  # links, entries, and items that cannot be planned
    update: WalkUpdate = WalkUpdate()


class SavedBatch(msgspec.Struct):
    jobs: list[Job] = []
    failures: list[tuple[ItemId, str, Failure]] = []  # item, asset key ("" for the item itself), and reason
    counted: dict[str, int] = {}  # added to the counters of the run; items count once per run

    def count(self, name: str, number: int) -> None:
        if number:
            self.counted[name] = self.counted.get(name, 0) + number


class NotFoundItem(NamedTuple):
    """An item that a walk did not find. `href` is its own URL, if it has one; `size` is in bytes."""

    item_rowid: int
    id: ItemId
    was_on_page: bool  # of the walk, and a filter rejected it
    parent: int | None
    href: str | None
    assets: int
    size: int


class BucketLocation(msgspec.Struct, frozen=True):
    """A bucket as DEST: where it is, how it is accessed, and what its lease needs. It contains no secret."""

    bucket: str
    prefix: str = ""  # without `/` at its ends
    endpoint_url: str | None = None
    region: str | None = None
    scheme: str = "s3"
    server: str = ""  # in the URL of a container: `ACCOUNT.dfs.SUFFIX`
    account: str | None = None  # the storage account of Azure
    profile: str | None = None
    ca_bundle: str | None = None
    read_timeout: float = 60.0  # seconds of silence
    metadata: bool = False  # whether a metadata service may give credentials (`--aws-metadata`)
    is_signed: bool = True  # False for requests without credentials to Google and Azure
    mirror: str = ""  # the id of the mirror that the objects below the prefix belong to
    run: str = ""  # the id of the last run, by which its processes recognise its lease
    epoch: int = 0  # the last run on the bucket that the ledger in the work directory knows; 0 for none
    break_lock: bool = False
    adopt: bool = False  # whether objects of a mirror whose ledger is lost may be adopted

    @property
    def url(self) -> str:
        server = f"@{self.server}" if self.server else ""
        return f"{self.scheme}://{self.bucket}{server}/{self.prefix}".rstrip("/")


class AssetFile(msgspec.Struct, array_like=True):
    """The file of a received asset, which changes on its way to its final name.

    received   a small asset has its `body`; a longer one is already written
    written    `part` is complete, and has `identity` and perhaps `digest`; its `body` may stay for an upload
    reserved   `name` may be another one; `identity` may be `FILE_OF_USER`
    placed     `part` is empty if a worker has placed it, or an earlier process
    """

    rowid: int
    item_rowid: int
    generation: int
    directory: str
    name: str  # its final name in `directory`
    size: int
    identity: int | None = 0  # of its part (`Store.find`), 0 until that is written; or `FILE_OF_USER`
    digest: bytes | None = None
    etag_or_date: str | None = None  # of its response (`Validator.etag_or_date`)
    unproven: bool = False  # no Content-Length, known size or checksum proved its length
    part: str = ""  # once it is written
    body: memoryview | None = None  # until it is written: a view of the received message, to avoid a copy
    checksum_changed: bool = False  # than the ledger has from the plan (`Job.checksum_changed`)
    filename: str = ""  # the last segment of the resolved URL, percent-decoded; empty if `name` was planned

    @property
    def path(self) -> str:
        return path_in_dest(self.directory, self.name)


class Placement(msgspec.Struct, array_like=True):
    """A complete part, and the final name that a store gives it. `body` may have the content of the part."""

    part: str
    directory: str
    name: str
    digest: bytes | None
    may_replace: bool  # True if a file in its place may be replaced
    body: memoryview | None = None

    @property
    def path(self) -> str:
        return path_in_dest(self.directory, self.name)


class OutcomeWithoutFile(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of an asset without a new file: its failure, or None if the file in DEST is current."""

    rowid: int
    item_rowid: int
    generation: int
    failure: Failure | None


class ResumePoint(NamedTuple):
    """The state of a part: `size` bytes of the object version `validator`, which has `total` bytes."""

    size: int
    validator: Validator
    total: int | None
    href_hash: int | None = None  # of the URL of the object (`redact.href_hash`)
