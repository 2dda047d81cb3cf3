"""`stacpull demo [DEST]`: mirrors from a replica of MLHub that runs in this process."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import stacpull
from stacpull import entry_points
from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import mirror_lines
from stacpull.config.resolve import resolve
from stacpull.config.toml import read_config_file, shipped_config
from stacpull.dest_address import resolve_dest
from stacpull.errors import UsageError
from stacpull.ledger.database import ledger_path
from stacpull.reports import MirrorReport

_SEED = 7
_ITEMS = 400
_PORT = 8801
"""The port of `stacpull serve mlhub` in the commands to try next."""
_DEMO_PORT = 8811
"""The first port of the demo. A second demo is then of the same SOURCE, unless the port is taken."""
_OWN_SOURCE = re.compile(r"http://127\.0\.0\.1:\d+/mlhub/v1")
_COLLECTION = "bigearthnet_v1_labels"
_LABELS = ("Coniferous forest", "Rice fields")
_MAX_ITEMS = 5
_MAX_ENTRIES = 3
"""Entries of a directory that the tree shows."""


@command(
    "demo",
    parameters.dest(required=False),
    *parameters.by_name("json", "no-progress", "quiet", "verbose"),
    examples=["demo"],
)
def demo_command(session: CommandSession, dest: str | None) -> int:
    """The command starts a replica of Radiant MLHub with its blob host and S3 on free local ports.

    It mirrors the selection of the BigEarthNet notebook into DEST (default: stacpull-demo), prints commands
    to try next, and writes a report of the mirror to DEST.html.
    """
    top = resolve_dest("stacpull-demo" if dest is None else dest, session.options).work
    page = top.with_name(f"{top.name}.html")
    is_mirror = ledger_path(top).exists()
    if page.exists() and not is_mirror:
        raise UsageError(f"{page} exists, and the demo would replace it: choose another DEST.")
    flags: dict[str, object] = {
        "collection": (_COLLECTION,),
        "label": _LABELS,
        "cloud-and-shadow": False,
        "seasonal-snow": False,
        "max-items": str(_MAX_ITEMS),
    }
    report = session.run(lambda stop: _mirror_replica(top, session, flags, stop, is_mirror=is_mirror))
    code = session.finish(
        report, mirror_lines(report, session.display.failures), on_stderr=session.output.json
    )
    lines = ["", *tree(top), "", *_next_commands(top)]
    if report.state == "complete" and "report" in entry_points.names("stacpull.commands"):
        session.run(lambda stop: stacpull.report(top, page, stop=stop))
        lines += ["", f"Open the report of this mirror in a browser: {page}"]
    if not (session.output.quiet or session.output.json):
        printing.lines(lines)
    return code


async def _mirror_replica(
    dest: Path, session: CommandSession, flags: dict[str, object], stop: asyncio.Event, *, is_mirror: bool
) -> MirrorReport:
    from stacpull.engine.mirror import mirror
    from stacpull_replicas import MlhubReplica

    async with AsyncExitStack() as stack:
        try:
            replica = await stack.enter_async_context(MlhubReplica(items=_ITEMS, seed=_SEED, port=_DEMO_PORT))
        except OSError:
            replica = await stack.enter_async_context(MlhubReplica(items=_ITEMS, seed=_SEED))
        os.environ.update(replica.exports())
        url = replica.base_url
        if is_mirror and not _OWN_SOURCE.fullmatch(stacpull.status(dest).source):
            raise UsageError(f"{dest} is a mirror of another source: choose another DEST.")
        config = read_config_file(shipped_config("bigearthnet.toml"))
        given = await asyncio.to_thread(partial(resolve, flags, source=url, config=config))
        return await mirror(
            url, dest, selection=given.selection, options=given.options, on_event=session.display, stop=stop
        )


def tree(top: Path, indent: str = "") -> Iterator[str]:
    """Yield the lines of the tree below `top`: directories first, shortened, without `.stacpull`."""
    if not indent:
        yield f"{top}/"
        indent = "  "
    entries = sorted(top.iterdir(), key=lambda path: (path.is_file(), path.name))
    entries = [path for path in entries if path.name != ".stacpull"]
    shown = entries if len(entries) <= _MAX_ENTRIES else entries[: _MAX_ENTRIES - 1]
    for path in shown:
        yield f"{indent}{path.name}{'/' if path.is_dir() else f'  {path.stat().st_size:,} B'}"
        if path.is_dir():
            yield from tree(path, f"{indent}  ")
    if len(shown) < len(entries):
        yield f"{indent}... and {len(entries) - len(shown)} more"


def _next_commands(dest: Path) -> Iterator[str]:
    me, here, source = _own_name(), shlex.quote(str(dest)), f"http://127.0.0.1:{_PORT}/mlhub/v1"
    labels = " ".join(f"--label {shlex.quote(label)}" for label in _LABELS)
    options = "--config bigearthnet --no-cloud-and-shadow --no-seasonal-snow"
    selection = f"-C {_COLLECTION} {labels} {options} --max-items {_MAX_ITEMS}"
    yield "Look at the mirror:"
    yield f"  {me} status {here}"
    yield f"  {me} verify {here}"
    yield "Run it yourself, in a new shell, on a replica in the background:"
    yield f'  eval "$({me} serve mlhub --port {_PORT} --background)"'
    yield f"  {me} collections {source}"
    yield f"  {me} classes {source} -C {_COLLECTION}"
    yield f"  {me} plan {source} {selection}"
    yield f"  {me} mirror {source} my-mirror {selection}"
    yield "  kill $REPLICA_PID"


def _own_name() -> str:
    """Return how to call this command: by name if the shell finds it, otherwise by its path from here."""
    found, own = shutil.which("stacpull"), Path(sys.argv[0])
    if own.name != "stacpull" or (found and Path(found).resolve() == own.resolve()):
        return "stacpull"
    whole = own.absolute()
    return shlex.quote(str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole))
