"""Embedded replicas of the services that stacpull mirrors, for trials, tests and measurements.

`MlhubReplica` is the Radiant MLHub of BigEarthNet (API, blob host, S3), `S3Replica` is an S3 endpoint over
any store, and `SentinelHubReplica` is Sentinel Hub with Analysis-Ready PlanetScope. `run_in_thread` hosts
them for blocking clients. Nothing is stored: data sets of any size are generated on request.
"""

from stacpull_replicas.dataset import Dataset, Patch
from stacpull_replicas.evolving import Evolution, EvolvingReplica
from stacpull_replicas.faults import (
    Close,
    Delay,
    Fault,
    FaultFileError,
    FaultPlan,
    PlannedFaults,
    Rule,
    Stall,
    Status,
    Truncate,
    parse_faults,
    read_faults,
)
from stacpull_replicas.http_messages import RequestInfo
from stacpull_replicas.mlhub_replica import ExpectedFile, MlhubReplica, S3Replica, demo_access, manifest
from stacpull_replicas.object_store import DirectoryStore, MemoryStore, ObjectStore
from stacpull_replicas.replica_server import Faults, RequestRecord, run_in_thread, serve
from stacpull_replicas.s3_service import S3Access
from stacpull_replicas.sentinelhub import SentinelHubReplica

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
    "serve",
]
