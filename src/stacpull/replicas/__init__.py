"""Embedded replicas of the services that stacpull mirrors: for trying out, for tests, for measuring.

`MlhubReplica` is the Radiant MLHub of BigEarthNet (API, blob host, S3), `S3Replica` an S3 endpoint over
anything, `SentinelHubReplica` Sentinel Hub with Analysis-Ready PlanetScope; `run_in_thread` hosts them for
clients that block. Nothing here is stored: data sets of any size are made while they are asked for.
"""

from stacpull.replicas.dataset import Dataset, Patch
from stacpull.replicas.evolving import Evolution, EvolvingReplica
from stacpull.replicas.fault_file import FaultFileError, parse_faults, read_faults
from stacpull.replicas.fault_plan import FaultPlan, PlannedFaults, Rule
from stacpull.replicas.faults import Close, Delay, Fault, Faults, Stall, Status, Truncate
from stacpull.replicas.hosting import run_in_thread
from stacpull.replicas.manifest import ExpectedFile, manifest
from stacpull.replicas.objects import DirectoryStore, MemoryStore, ObjectStore
from stacpull.replicas.replica import MlhubReplica, S3Replica, demo_access
from stacpull.replicas.s3_access import S3Access
from stacpull.replicas.sentinelhub import SentinelHubReplica
from stacpull.replicas.serve import serve_mlhub, serve_s3, serve_sentinelhub
from stacpull.replicas.traffic import RequestRecord
from stacpull.replicas.wire import Request

RequestInfo = Request
"""What a fault's `match` looks at: server, method, target, headers."""

__all__ = [
    "Close",
    "Dataset",
    "Delay",
    "DirectoryStore",
    "Evolution",
    "EvolvingReplica",
    "ExpectedFile",
    "Fault",
    "FaultFileError",
    "FaultPlan",
    "Faults",
    "MemoryStore",
    "MlhubReplica",
    "ObjectStore",
    "Patch",
    "PlannedFaults",
    "Request",
    "RequestInfo",
    "RequestRecord",
    "Rule",
    "S3Access",
    "S3Replica",
    "SentinelHubReplica",
    "Stall",
    "Status",
    "Truncate",
    "demo_access",
    "manifest",
    "parse_faults",
    "read_faults",
    "run_in_thread",
    "serve_mlhub",
    "serve_s3",
    "serve_sentinelhub",
]
