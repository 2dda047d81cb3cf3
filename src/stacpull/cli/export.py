"""`stacpull export DEST OUT`: turn a mirror into an index, training shards or a label table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from stacpull.arguments import byte_count
from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.numbers import count, size
from stacpull.cli.progress import display
from stacpull.cli.running import run_until_stopped
from stacpull.errors import UsageError

_FORMATS = ("geoparquet", "webdataset", "csv", "parquet")


def _option(
    flags: Sequence[str], text: str, metavar: str | None = None, *, many: bool = False
) -> click.Option:
    return parameters.GroupedOption(flags, metavar=metavar, multiple=many, help=text)


@click.command(
    "export",
    cls=Command,
    examples=[
        "export s2 s2/items.parquet",
        "export bigearthnet shards -f webdataset --split train=@train.txt --split test=@test.txt",
    ],
    params=[
        parameters.dest(),
        click.Argument(["out"], metavar="OUT", type=click.Path(path_type=Path)),
        click.Option(
            ["-f", "--format", "form"],
            type=click.Choice(_FORMATS),
            default="geoparquet",
            show_default=True,
            help="geoparquet: an index of the items; webdataset: tar shards; csv, parquet: labels.",
        ),
        *parameters.named("collection", "nomenclature", "label-property"),
        _option(
            ["--split", "split"],
            "The ids in a split, one per line: whole ids or their endings (repeatable). Others are left out.",
            "NAME=@FILE",
            many=True,
        ),
        _option(["--shard-size"], "Bytes per shard, at most, as in 500M. [default: 1G]", "SIZE"),
        click.Option(
            ["--shard-samples"], type=click.IntRange(min=1), metavar="N", help="Samples per shard, at most."
        ),
        *parameters.named("json", "no-progress", "quiet", "verbose"),
    ],
)
@click.pass_context
def command(
    context: click.Context,
    /,
    dest: Path,
    out: Path,
    form: str,
    split: tuple[str, ...],
    shard_size: str | None,
    shard_samples: int | None,
    **raw: object,
) -> None:
    """Write what is in DEST as one index, as training shards, or as a table of labels.

    OUT is a file, for webdataset a directory. It appears when it is complete. Complete shards are kept when
    an interrupted export is run again. DEST is only read.
    """
    from stacpull.outputs.formats import export

    told = parameters.told(context, raw)
    chosen = told.selection
    show = display(told.output, noun="items")
    try:
        report = run_until_stopped(
            lambda stop: export(
                dest,
                out,
                form,
                collections=chosen.collections,
                splits=dict(map(_split, split)),
                nomenclature=chosen.nomenclature,
                label_property=chosen.label_property,
                shard_bytes=None if shard_size is None else byte_count(shard_size),
                shard_samples=shard_samples,
                on_event=show,
                stop=stop,
            ),
            show,
        )
    finally:
        show.close()
    if told.output.json:
        printing.json_line(report.to_json())
    elif not told.output.quiet:
        what = "sample" if form != "geoparquet" else "item"
        files = count(len(report.files), "file")
        printing.lines(
            [f"{out}: {count(report.items, what)} in {files}, {size(report.bytes)}", *report.notes]
        )


def _split(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, file = text.partition("=")
    if not name or not file.startswith("@") or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--split must be NAME=@FILE, as in train=@train.txt, not {text!r}.")
    try:
        lines = Path(file[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--split {name}: {file[1:]} cannot be read: {error}.") from error
    ids = tuple(line.split(",", 1)[0].strip() for line in lines if line.strip())
    if not ids:
        raise UsageError(f"--split {name}: {file[1:]} holds no ids.")
    return name, ids
