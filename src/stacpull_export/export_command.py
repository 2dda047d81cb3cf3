"""`stacpull export DEST OUT`: an index, training shards, a TorchGeo tree or a label table."""

from collections.abc import Mapping, Sequence

import click
from click.core import ParameterSource

from stacpull import entry_points
from stacpull.arguments import integer, load_ids, read_byte_count
from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import size
from stacpull.config.toml import Setting
from stacpull.errors import UsageError, quantity
from stacpull_export.formats import GROUP, Format

_FORMATS: Mapping[str, Format] = {
    name: entry_points.require(GROUP, name, "export") for name in entry_points.names(GROUP, everywhere=True)
}


def _out(context: click.Context, argument: click.Parameter, value: str | None) -> str:
    """Take a single argument as OUT if a config file states DEST."""
    config = context.params.get("config")
    is_given = context.get_parameter_source("dest") is ParameterSource.COMMANDLINE
    if value is None and is_given and config is not None and "dest" in config.addresses:
        value = context.params["dest"]
        context.params["dest"] = config.addresses["dest"]
    if value is None:
        raise click.MissingParameter(ctx=context, param=argument)
    return value


@command(
    "export",
    parameters.dest(),
    click.Argument(["out"], metavar="OUT", type=click.Path(), required=False, callback=_out),
    click.Option(
        ["-f", "--format", "form"],
        type=click.Choice(tuple(_FORMATS)),
        default="geoparquet",
        help="; ".join(f"{name}: {form.help}" for name, form in _FORMATS.items()) + ". [default: geoparquet]",
    ),
    *parameters.by_name("collection", "label-property"),
    parameters.with_help(
        "nomenclature",
        "Use the 43 classes of CORINE (clc43) or 19 of BigEarthNet (ben19), not the classes in DEST.",
        basic=True,
    ),
    click.Option(
        ["--split", "split"],
        metavar="NAME=@FILE",
        multiple=True,
        help="The items of a split: an id or its ending per line. Other items are skipped. May be repeated.",
    ),
    click.Option(
        ["--shard-size"],
        metavar="SIZE",
        help="Write shards of at most this size, such as 500M, unless one sample is larger. [default: 1G]",
    ),
    click.Option(["--shard-samples"], metavar="N", help="Put at most this many samples in a shard."),
    *parameters.by_name(*parameters.READING_DEST, "json", "no-progress", "quiet", "verbose"),
    parameters.config(),
    examples=[
        "export s2 s2.parquet",
        "export bigearthnet shards -f webdataset --split train=@train.txt",
    ],
)
def export(
    session: CommandSession,
    dest: str,
    out: str,
    form: str,
    split: tuple[str, ...],
    shard_size: str | None,
    shard_samples: str | None,
) -> int:
    """OUT is a file; for webdataset and torchgeo, it is a directory.

    Use one OUT per format. Each file appears when it is complete, and replaces a file of the same name. DEST
    is only read.
    """
    from stacpull_export import export as exporting

    chosen = session.selection
    shard_bytes = None if shard_size is None else Setting(shard_size, "--shard-size").read(read_byte_count)
    samples = None if shard_samples is None else Setting(shard_samples, "--shard-samples").read(integer(1))
    report = session.run(
        lambda stop: exporting.export(
            dest,
            out,
            form,
            collections=chosen.collections,
            splits=_splits(split),
            nomenclature=chosen.nomenclature,
            label_property=chosen.label_property,
            shard_bytes=shard_bytes,
            shard_samples=samples,
            options=session.options,
            on_event=session.display,
            stop=stop,
        )
    )
    what = _FORMATS[form].counted
    line = f"{out} ({form}): {quantity(report.items, what)}"
    if not form.startswith("torchgeo"):  # where they are only the lists
        line += f" in {quantity(len(report.files), 'file')}"
    line += f", {size(report.bytes)}"
    if report.items_failed:
        line += f"; {quantity(report.items_failed, 'item')} failed"
    if report.items_missing:
        line += f"; {quantity(report.items_missing, 'item')} missing"
    return session.finish(report, [line, *report.notes])


def _splits(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if not file.startswith("@") or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"--split must be NAME=@FILE, as in train=@train.txt, not {text!r}.")
        found[name] = (*found.get(name, ()), *Setting(file, f"--split {name}").read(load_ids))
    return found
