"""`stacpull demo [DEST]`: the main job, on replicas of the services that run in this process."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from stacpull.cli import parameters, printing
from stacpull.cli.ending import finish
from stacpull.cli.progress import Display, display
from stacpull.cli.running import run_until_stopped
from stacpull.cli.shipped import shipped_config
from stacpull.reports import MirrorReport

__all__ = ["command"]

_SEED = 7
_ITEMS = 400
_PORT = 8801
"""Where `stacpull serve mlhub` listens, for the commands to try next."""
_COLLECTION = "bigearthnet_v1_labels"
_LABELS = ("Coniferous forest", "Rice fields")
_MOST_ENTRIES = 6
"""Entries of a directory that the tree shows."""


@click.command(
    "demo",
    params=[parameters.dest(required=False), *parameters.named("json", "no-progress", "quiet", "verbose")],
)
@click.pass_context
def command(context: click.Context, /, dest: Path | None, **raw: object) -> int:
    """Run the main job on replicas and say what to try next.

    Starts Radiant MLHub, its blob host and its S3 on free ports of this machine, mirrors the selection of the
    BigEarthNet notebook into DEST (stacpull-demo by default, gone on with if it is there), and shows it.
    """
    dest = dest or Path("stacpull-demo")
    output = parameters.told(context, raw).output
    show = display(output)
    try:
        report = run_until_stopped(lambda stop: _mirror_replica(context, dest, show, stop))
    finally:
        show.close()
    code = finish(report, output, show)
    if not (output.quiet or output.json):
        printing.lines(["", *tree(dest), "", *_next_commands(dest)])
    return code


async def _mirror_replica(
    context: click.Context, dest: Path, show: Display, stop: asyncio.Event
) -> MirrorReport:
    """Mirror from a replica that lives as long as this takes."""
    from stacpull.engine import api
    from stacpull.replicas import MlhubReplica

    async with MlhubReplica(items=_ITEMS, seed=_SEED) as replica:
        os.environ.update(replica.exports())
        raw = {
            "config": shipped_config("bigearthnet.toml"),
            "collection": (_COLLECTION,),
            "label": _LABELS,
            "cloud_and_shadow": False,
            "seasonal_snow": False,
            "max_items": "5",
        }
        told = await asyncio.to_thread(parameters.told, context, raw, source=replica.base_url)
        return await api.mirror(
            replica.base_url, dest, selection=told.selection, options=told.options, on_event=show, stop=stop
        )


def tree(top: Path, indent: str = "") -> Iterator[str]:
    """Draw what `top` holds: directories before files, the long ones cut, what is stacpull's own left out."""
    if not indent:
        yield f"{top}/"
        indent = "  "
    entries = sorted(top.iterdir(), key=lambda path: (path.is_file(), path.name))
    entries = [path for path in entries if path.name != ".stacpull"]
    shown = entries if len(entries) <= _MOST_ENTRIES else entries[: _MOST_ENTRIES - 1]
    for path in shown:
        yield f"{indent}{path.name}{'/' if path.is_dir() else f'  {path.stat().st_size:,} B'}"
        if path.is_dir():
            yield from tree(path, f"{indent}  ")
    if len(shown) < len(entries):
        yield f"{indent}... and {len(entries) - len(shown)} more"


def _next_commands(dest: Path) -> Iterator[str]:
    """Tell what to try: commands that can be pasted as they stand."""
    from stacpull.replicas import MlhubReplica

    me, here = _own_name(), shlex.quote(str(dest))
    replica = MlhubReplica(port=_PORT, items=_ITEMS, seed=_SEED)
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in replica.exports().items())
    labels = " ".join(f"--label {shlex.quote(label)}" for label in _LABELS)
    selection = f"-C {_COLLECTION} {labels} --no-cloud-and-shadow --no-seasonal-snow"
    config = shlex.quote(os.path.relpath(shipped_config("bigearthnet.toml")))
    yield "Look at what is there:"
    yield f"  {me} status {here}"
    yield f"  {me} status {here} --json"
    yield "The same by hand, on a replica of your own (stop it with: kill %1):"
    yield f"  {me} serve mlhub --port {_PORT} &"
    yield f"  export {exports}"
    yield f"  {me} collections {replica.base_url}"
    yield f"  {me} classes {replica.base_url} -C {_COLLECTION}"
    yield f"  {me} plan {replica.base_url} {selection} --config {config}"
    yield f"  {me} mirror {replica.base_url} mirror-of-mine {selection} --config {config}"


def _own_name() -> str:
    """Return how this command is called from here: by name if the shell finds it, else by its path."""
    found, own = shutil.which("stacpull"), Path(sys.argv[0])
    if own.name != "stacpull" or (found and Path(found).resolve() == own.resolve()):
        return "stacpull"
    return shlex.quote(os.path.relpath(own))
