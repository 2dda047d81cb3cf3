"""The messages between the process of the command, the coordinator, and a worker process.

    coordinator ─▶ WholeEnvironment (from the relay), Start, then Jobs, PartsWritten, Stop
    worker      ─▶ Ready, then Arrivals, AssetFailure, UnchangedAsset, Spent, Noticed, Broke

Messages of a worker are decoded by type, because it reads the responses of servers. The settings in `Start`
are pickled, because a worker trusts the process that started it. Credentials are only in `Start`: other users
can read the arguments and the environment of a process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from stacpull.config.options import Options
from stacpull.engine.messages import Arrivals, ErrorReport, PartsWritten
from stacpull.engine.network import SourceAddress
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.models import Job
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
    """Which addresses may be connected to, with what the coordinator has learned of SOURCE's."""
    work: str
    """DEST, or the work directory of a bucket."""
    worker_parts: str
    """The worker's directory among the parts."""
    prefer: tuple[str, ...]
    """As `Selection.prefer`."""
    clip: str | None
    """As `Selection.clip`."""
    variables: Mapping[str, str] = {}
    """Added to the worker's environment."""
    credentials: CredentialNames | None = None
    """Credentials of its environment and files; None if `address` and `options` have all of them."""


class WholeEnvironment(msgspec.Struct, tag=9, array_like=True):
    """The environment of a worker process: the first message of its parent."""

    variables: dict[bytes, bytes]


class Start(msgspec.Struct, tag=0, array_like=True):
    """Prepare for transfers."""

    settings: bytes
    """Pickled `WorkerSettings`."""


class Jobs(msgspec.Struct, tag=1, array_like=True):
    """Transfer these assets."""

    jobs: list[Job]


class Stop(msgspec.Struct, tag=5, array_like=True):
    """Begin no more transfers, and end: after the transfers in flight, or at once (`park`)."""

    park: bool


class Ready(msgspec.Struct, tag=10, array_like=True):
    """The worker has created its directory among the parts, and can take jobs."""

    slots: int
    """Its simultaneous transfers; 0 if it does not see DEST, and ends."""


class Spent(msgspec.Struct, tag=16, array_like=True):
    """The worker's use of the network since it started."""

    requests: int = 0
    retries: int = 0
    bytes_fetched: int = 0


class Noticed(msgspec.Struct, tag=17, array_like=True):
    """A message for the user. If several workers send it, it is shown once."""

    level: Literal["debug", "warning"]
    text: str


class Broke(msgspec.Struct, tag=18, array_like=True):
    """An error that ends the run."""

    error: ErrorReport


ToWorker = Start | Jobs | PartsWritten | Stop | WholeEnvironment
FromWorker = Ready | Arrivals | AssetFailure | UnchangedAsset | Spent | Noticed | Broke
decode_to_worker: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
