"""`stacpull serve`: runs replicas of services on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stacpull import arguments
from stacpull.config.toml import Setting
from stacpull.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from stacpull.arguments import ValueReader
    from stacpull_replicas import Faults
    from stacpull_replicas.replica_server import ReplicaServer


def _into_background(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    receiving, sending = os.pipe()
    process = os.fork()
    if process == 0:
        os.setpgid(0, 0)  # Ctrl-C in the shell is for other commands
        # neither output stays open: what reads it to its end need not wait for the replica
        for descriptor, target in ((sending, 1), (sending, 2), (os.open(os.devnull, os.O_RDONLY), 0)):
            os.dup2(descriptor, target)
        os.close(receiving)
        return
    os.close(sending)
    lines = b""
    while b"\nexport " not in lines and (piece := os.read(receiving, 1 << 16)):
        lines += piece
    if b"\nexport " not in lines:
        sys.stderr.write(lines.decode())
        context.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    sys.stdout.write(f"{lines.decode()}export REPLICA_PID={process}\n")
    sys.stderr.write(f"The replica runs in the background. To stop it: kill {process}\n")
    context.exit(0)


def _number(name: str, read: ValueReader, default: float | None, text: str) -> click.Option:
    """Return an option whose value is read like those of other commands."""
    return click.Option(
        [name],
        metavar="N",
        default=None if default is None else f"{default:g}",
        show_default=True,
        callback=lambda _context, _parameter, raw: None if raw is None else Setting(raw, name).read(read),
        help=text,
    )


_not_negative = arguments.number("a number of at least 0", 0)


def _shared(port_help: str, *, port: int = 8801, items: bool = True) -> list[click.Parameter]:
    return [
        _number("--port", arguments.integer(1, 65535), port, port_help),
        click.Option(["--host"], default="127.0.0.1", show_default=True, help="The address to listen on."),
        *([_number("--items", arguments.integer(1), 400, "Patches in the data set.")] if items else []),
        _number("--seed", arguments.integer(), 7, "The seed of the data."),
        _number("--latency-ms", _not_negative, 0, "Wait this many milliseconds before each reply."),
        click.Option(
            ["--background"],
            is_flag=True,
            expose_value=False,
            callback=_into_background,
            help='Return as soon as the replica is ready; use as eval "$(stacpull serve ... --background)".',
        ),
        click.Option(
            ["--faults"],
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Apply the faults in this TOML file (docs/replicas.md).",
        ),
    ]


def _planned(faults: Path | None) -> Faults | None:
    from stacpull_replicas import FaultFileError, PlannedFaults, read_faults

    if faults is None:
        return None
    try:
        return PlannedFaults(read_faults(faults))
    except FaultFileError as error:
        raise UsageError(str(error)) from error


def _run(replica: ReplicaServer) -> None:
    from stacpull_replicas import serve

    try:
        asyncio.run(serve(replica))
    except OSError as error:
        why = error.strerror or error
        hint = "use another --port or --host (`serve mlhub` also needs the two ports after --port)"
        raise UsageError(f"{why}: {hint}.") from error


@click.group("serve")
def command() -> None:
    """Run a replica of a service on this machine, for trials and tests.

    The command prints `export` lines with the environment variables that clients need. It runs until you
    stop it: with Ctrl-C, or if it is in the background, with `kill $REPLICA_PID`.
    """


@command.command(
    "mlhub",
    short_help="Serve Radiant MLHub with BigEarthNet.",
    epilog='Example: eval "$(stacpull serve mlhub --background)"',
    params=[
        *_shared("The API's port; the blob host and S3 use the next two."),
        _number("--href-ttl", arguments.read_seconds, 6 * 3600, "Seconds until download links expire."),
    ],
)
@click.option(
    "--era",
    type=click.Choice(["2021", "2022"]),
    default="2022",
    show_default=True,
    help="The generation of the API to imitate.",
)
@click.option("--key", default=None, help="The API key to require. Default: derived from the seed.")
def mlhub(faults: Path | None, **options: Any) -> None:
    """Serve Radiant MLHub with BigEarthNet: the API, a blob host and an S3 endpoint."""
    from stacpull_replicas import MlhubReplica

    _run(MlhubReplica(faults=_planned(faults), **options))


@command.command("s3", params=_shared("The endpoint's port."))
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the folders of this directory as buckets. Default: the data set.",
)
@click.option("--anonymous", is_flag=True, help="Allow reads without credentials.")
@click.option("--requester-pays", is_flag=True, help="Refuse requests that do not agree to pay.")
def s3(faults: Path | None, seed: int, anonymous: bool, requester_pays: bool, **options: Any) -> None:
    """Serve a read-only S3 endpoint."""
    from stacpull_replicas import S3Replica, demo_access

    access = demo_access(seed, anonymous=anonymous, requester_pays=requester_pays)
    _run(S3Replica(seed=seed, access=access, faults=_planned(faults), **options))


@command.command(
    "sentinelhub",
    short_help="Serve Sentinel Hub with PlanetScope.",
    params=[
        *_shared("The service's port.", port=8802, items=False),
        _number("--token-ttl", arguments.read_seconds, 3600, "Seconds until an access token expires."),
        _number(
            "--rate-limit",
            arguments.number("a number of requests per second above 0", arguments.ABOVE_ZERO),
            None,
            "Answer at most this many requests per second, and others with 429. Default: no limit.",
        ),
        _number(
            "--quota",
            _not_negative,
            None,
            "The account's processing units. Once they are used up, requests get a 403. Default: no limit.",
        ),
    ],
)
def sentinelhub(faults: Path | None, **options: Any) -> None:
    """Serve Sentinel Hub with a collection of Analysis-Ready PlanetScope: statistics, catalog, BYOC."""
    for library in ("pyproj", "esprima"):
        if find_spec(library) is None:
            raise MissingExtraError("serve sentinelhub", library, "trace")
    from stacpull_replicas import SentinelHubReplica

    _run(SentinelHubReplica(faults=_planned(faults), **options))
