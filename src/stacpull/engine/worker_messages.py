"""The messages between the first network process and a worker process (`engine.messages`).

    first process ─▶ WholeEnvironment, Start, then Jobs, PartsWritten, ItemRead, Granted, …, Stop or End
    worker        ─▶ Ready, then Arrivals, AssetFailure, UnchangedAsset, RequestItem, Reserve, Throttled, …

A Dask worker (`engine.dask_cluster`) is on another machine, and only gets these messages.

Credentials are only sent in `Start`, because other processes can read the arguments and the environment of a
process. The settings in it are pickled, because a worker trusts the process that started it. Messages of a
worker are decoded by type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from stacpull.config.options import Options
from stacpull.engine.messages import Arrivals, ErrorReport, PartsWritten, WholeEnvironment
from stacpull.engine.network import SourceAddress
from stacpull.events import HostProgress
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.models import Checksum, Failure, Job
from stacpull.net.addresses import AddressPolicy


class CredentialNames(NamedTuple):
    """The names of credentials, without values."""

    names: tuple[str, ...]
    """The names of variables, and the other names in `SourceAddress.credential_names`."""
    profile: str | None
    """The name of the credential profile (`--credentials`)."""


class WorkerSettings(NamedTuple):
    """The settings of a worker for its run. They contain credentials."""

    address: SourceAddress
    options: Options
    """With this worker's share of the limits."""
    addresses: AddressPolicy
    """Which addresses may be connected to, with what the first process has learned of SOURCE's."""
    slots: int
    """Simultaneous transfers."""
    dest: str
    prefer: tuple[str, ...] = ()
    """Schemes of alternate hrefs, as `Selection.prefer`."""
    clip: str | None = None
    """The area to clip rasters to, see `Selection.clip`."""
    worker_parts: str = ""
    """Its directory among the parts (`store.worker_parts`), if it is not a process of this machine's run."""
    durable: bool = False
    """True if only the worker itself can sync its files."""
    variables: Mapping[str, str] = {}
    """Added to the environment of a Dask worker."""
    credentials: CredentialNames | None = None
    """Credentials of its environment and files; None if `address` and `options` have all of them."""


class Start(msgspec.Struct, tag=0, array_like=True):
    """Prepare for transfers."""

    settings: bytes
    """Pickled `WorkerSettings`."""


class Jobs(msgspec.Struct, tag=1, array_like=True):
    """Transfer these assets."""

    jobs: list[Job]


class LookAgain(msgspec.Struct, tag=2, array_like=True):
    """Read the unfinished parts again: another worker was lost, and this one may get its jobs."""


class Stop(msgspec.Struct, tag=3, array_like=True):
    """Start no more transfers; end after those in flight."""


class End(msgspec.Struct, tag=4, array_like=True):
    """Park the transfers in flight, and end."""


class ItemRead(msgspec.Struct, tag=5, array_like=True):
    """The response to a `RequestItem`."""

    number: int
    found: bytes | Failure
    """The assets and some properties of the item as JSON, or the failure."""
    read_at: float


class Granted(msgspec.Struct, tag=6, array_like=True):
    """The response to a `Reserve`: the seconds to wait."""

    number: int
    seconds: float


class FileFound(msgspec.Struct, tag=21, array_like=True):
    """The response to a `LookForFile`."""

    number: int
    is_found: bool


class Throttled(msgspec.Struct, tag=7, array_like=True):
    """A host must get no requests for some seconds. Sent in both directions."""

    host: str
    seconds: float


class NewLimits(msgspec.Struct, tag=8, array_like=True):
    """Use these limits from now on: a worker has joined or left, so all shares have changed."""

    slots: int
    per_host: int


class Ready(msgspec.Struct, tag=10, array_like=True):
    """The worker can take jobs. `now` is the time on its monotonic clock."""

    now: float


class RequestItem(msgspec.Struct, tag=14, array_like=True):
    """Read this item for an asset. `newer_than` and the response use the worker's monotonic clock."""

    number: int
    href: str
    newer_than: float | None


class Reserve(msgspec.Struct, tag=15, array_like=True):
    """Reserve requests to a host, or bytes (for the host ""), of the user's limits."""

    number: int
    host: str
    amount: int


class LookForFile(msgspec.Struct, tag=20, array_like=True):
    """Look whether the file of this job is in DEST.

    A Dask worker may lack the credentials of a bucket, or have other ones.
    """

    number: int
    row: int
    checksum: Checksum | None
    """The checksum that it must have, if it is compared."""


class Spent(msgspec.Struct, tag=16, array_like=True):
    """The worker's use of the network since it started."""

    requests: int = 0
    retries: int = 0
    bytes_fetched: int = 0
    hosts: tuple[HostProgress, ...] = ()


class Noticed(msgspec.Struct, tag=17, array_like=True):
    """A message for the user. If several workers send it, it is shown once."""

    level: Literal["debug", "warning"]
    text: str


class WithinLimits(msgspec.Struct, tag=19, array_like=True):
    """The worker obeys its new limits: it has no more requests in flight than they allow."""

    per_host: int


class Broke(msgspec.Struct, tag=18, array_like=True):
    """An error that ends the run."""

    error: ErrorReport


ToWorker = (
    Start
    | Jobs
    | PartsWritten
    | LookAgain
    | Stop
    | End
    | ItemRead
    | FileFound
    | Granted
    | Throttled
    | NewLimits
    | WholeEnvironment
)
FromWorker = (
    Ready
    | Arrivals
    | AssetFailure
    | UnchangedAsset
    | RequestItem
    | LookForFile
    | Reserve
    | Throttled
    | Spent
    | Noticed
    | WithinLimits
    | Broke
)
decode_to_worker: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
