"""The messages between the coordinator and a worker process, decoded by type.

The settings in `Start` are pickled, because a worker trusts the process that started it. Only they hold
credentials, because other users can read the arguments and the environment of a process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from stacpull.config.options import Options
from stacpull.engine.messages import EventMessage, Outcomes, ProcessEnded
from stacpull.engine.network import ResolvedSource
from stacpull.models import AssetFile, BucketLocation, Failure, Job, Placement
from stacpull.net.addresses import AddressPolicy


class WorkerSettings(NamedTuple):
    """The settings of a worker for its run. They contain credentials."""

    resolved: ResolvedSource
    bucket: BucketLocation | None
    options: Options  # with this worker's share of the limits
    ip_policy: AddressPolicy  # with what the coordinator has learned of SOURCE's addresses
    work: str  # DEST, or the work directory of a bucket
    prefer: tuple[str, ...]
    clip: str | None
    worker_parts: str = ""  # the worker's directory among the parts
    variables: Mapping[str, str] = {}  # added to the worker's environment
    wanted: tuple[str, ...] | None = None
    """The credentials that the worker's environment must have, by name; None if `options` has all of them."""
    profile: str | None = None  # the name of the credential profile that its own files must have


class WholeEnvironment(msgspec.Struct, tag=9, array_like=True):
    variables: dict[bytes, bytes]  # they may be invalid Unicode


class Start(msgspec.Struct, tag=0, array_like=True):
    settings: bytes


class Jobs(msgspec.Struct, tag=1, array_like=True):
    jobs: list[Job]


class Stop(msgspec.Struct, tag=5, array_like=True):
    """Begin no more transfers, and end: after the transfers in flight, or at once (`park`)."""

    park: bool


class Upload(msgspec.Struct, tag=6, array_like=True):
    """Upload these assets to the bucket, whose names are reserved. `refused` are rows with taken names."""

    reserved: list[tuple[AssetFile, Placement]]
    refused: list[int]


class Uploaded(msgspec.Struct, tag=12, array_like=True):
    results: list[tuple[int, Failure | None]]  # by row


class Ready(msgspec.Struct, tag=10, array_like=True):
    slots: int  # for transfers at once


class Spent(msgspec.Struct, tag=16, array_like=True):
    """The usage since the last message of this kind."""

    requests: int
    retries: int
    bytes_fetched: int


ToWorker = Start | Jobs | Upload | Stop | WholeEnvironment
FromWorker = Ready | Outcomes | Uploaded | Spent | EventMessage | ProcessEnded
decode_to_worker: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
