"""Help pages with grouped options and examples, and hints for options that similar tools have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

__all__ = ["GROUPS", "Command", "hint_for"]

GROUPS = ("Selection", "Area and period", "Destination", "Transfer", "Credentials and network", "Output")
"""Titles of the groups of options, in the order of help pages."""
_OTHERS = "Options"

_HINTS = {
    ("--dry-run", "--dryrun", "--simulate", "-n"): "use `stacpull plan` to see what a mirror would do",
    ("--limit", "--max", "--max-results", "--count"): "use --max-items N",
    ("-j", "--jobs", "--threads", "--workers", "--parallel", "--transfers"): "use --concurrency N",
    ("--query",): "use --where PROPERTY=VALUE, or --filter with CQL2",
    (
        "--overwrite",
        "--force",
        "-f",
    ): "changed files are fetched again; --revalidate checks all files",
    ("--api-key", "--key", "--token"): "use --header 'NAME: ${VARIABLE}', or --credentials NAME",
    ("-o", "-O", "-d", "--output", "--output-dir", "--out", "--dest"): "give DEST as the second argument",
    ("--include", "--assets"): "use --asset GLOB",
    ("--exclude", "--exclude-assets"): "use --exclude-asset GLOB",
    ("--collections", "-c"): "use -C ID",
    ("--continue", "--resume"): "run the same command again, or `stacpull resume DEST`",
    ("--delete", "--clean"): "use --prune, which only lists what it would remove, unless --yes is given",
    ("--timeout", "--read-timeout"): "use --stall-timeout SECONDS",
    ("--retry", "--tries"): "use --retries N",
    ("--date", "--time", "--start", "--end"): "use --datetime INTERVAL",
    ("--aoi", "--geometry", "--bounds"): "use --bbox W,S,E,N or --intersects GEOJSON",
    ("--cloud-cover", "--max-cloud"): "use --max-cloud-cover PERCENT",
    ("--profile",): "use --credentials NAME",
    ("--no-verify-ssl", "--insecure", "-k", "--no-check-certificate"): "use --ca-bundle FILE",
    ("--silent", "-s"): "use --quiet",
    ("-r", "--recursive"): "leave it out: all matching items are fetched",
}
"""Options of similar tools, and what to use here. Used only where a command has no such option."""
_NEVER_SUGGESTED = {"--prune", "--yes"}
"""Options that remove files: nobody who mistyped something else is to be pointed at them."""


def hint_for(option: str) -> str | None:
    """Return what to use in place of an option that does not exist here, if that is known."""
    return next((hint for names, hint in _HINTS.items() if option in names), None)


class Command(click.Command):
    """A command whose help shows its options in groups, and examples at the end.

    Args:
        examples: Command lines without `stacpull`.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self.examples = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`, with a hint for an option that does not exist."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as problem:
            name = problem.option_name.partition("=")[0]
            hint = hint_for(name)
            if hint is not None and _applies(self, hint):
                raise click.UsageError(f"No such option '{name}': {hint}.", ctx) from None
            near = [one for one in problem.possibilities or () if one not in _NEVER_SUGGESTED]
            raise click.NoSuchOption(name, possibilities=near, ctx=ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        grouped: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                grouped.setdefault(getattr(parameter, "group", _OTHERS), []).append(record)
        for title in sorted(grouped, key=_order):
            with formatter.section(title):
                formatter.write_dl(grouped[title])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are to be typed."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  stacpull {example}\n" for example in self.examples))


def _order(title: str) -> int:
    return GROUPS.index(title) if title in GROUPS else -1 if title == _OTHERS else len(GROUPS)


def _applies(command: click.Command, hint: str) -> bool:
    """Return True if the command has the option that a hint names first (a hint may name none)."""
    named = [word.strip(",;'") for word in hint.split() if word.startswith("-")]
    options = {name for one in command.params for name in one.opts}
    return not named or named[0] in options or "DEST" in hint
