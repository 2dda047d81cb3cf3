"""`stacpull verify DEST`: checks a mirror against its ledger, and repairs damaged files."""

from __future__ import annotations

from collections.abc import Iterator

import click

from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration, rate, size
from stacpull.cli.summary import dest_of, still_to_do
from stacpull.errors import count
from stacpull.events import Damage, Event
from stacpull.reports import VerifyReport


@command(
    "verify",
    parameters.dest(),
    click.Option(["--quick"], is_flag=True, help="Compare sizes only, without reading files."),
    click.Option(["--repair"], is_flag=True, help="Fetch damaged and missing files again."),
    click.Option(["--strict"], is_flag=True, help="Count files that do not belong to the mirror as damage."),
    *parameters.of("verify"),
    examples=["verify s2", "verify s2 --repair"],
)
def verify(session: CommandSession, dest: str, quick: bool, **how: bool) -> int:
    """Check the files in DEST against the ledger; optionally repair them.

    Prints a line for each file that is missing, truncated or altered, and exits with 1 if there is damage.
    Files that do not belong to the mirror (unknown) are damage only with --strict. Without it, -v lists them.
    Nothing is changed without --repair, and files that do not belong to the mirror are never
    touched. With --json, each line is a JSON object, and the last one is a summary.
    """
    from stacpull.upkeep import verify as verification

    def listen(event: Event) -> None:
        if not isinstance(event, Damage):
            session.show(event)
        elif session.output.json:
            printing.json_line(event.to_json())
        elif not session.output.quiet and (
            event.what != "unknown" or how["strict"] or session.output.verbose
        ):
            found = f"expected {event.expected}, found {event.found}"
            if event.what == "unknown":
                found = "not part of the mirror"
            session.show.aside(f"{event.what}: {event.path}: {found}")

    report = session.run(
        lambda stop: verification.verify(
            dest, quick=quick, options=session.options, on_event=listen, stop=stop, **how
        )
    )
    return session.finish(report, verify_lines(report))


def verify_lines(report: VerifyReport) -> Iterator[str]:
    repaired = report.repair is not None
    others = report.unknown if report.strict else 0  # they fail the check, but are not called damaged
    damaged, remaining = report.damaged - others, report.remaining - others
    is_unfinished = not repaired and report.mirror_state != "complete"
    if report.state == "interrupted":
        verdict = "interrupted"
    elif remaining:
        verdict = f"{count(remaining, 'file')} damaged{' and not repaired' if repaired else ''}"
    else:
        all_well = "" if others or is_unfinished else "OK, "
        verdict = "repaired" if damaged else f"{all_well}{count(report.files, 'file')} verified"
    if report.unknown:
        what = count(report.unknown, "file that does not belong", "files that do not belong")
        verdict += f"; {what} to the mirror"
    if is_unfinished or (report.assets_failed and not repaired):
        lacking = [
            is_unfinished and still_to_do(report),
            (failed := report.assets_failed - report.assets_missing) and f"{failed:,} failed",
            report.assets_missing and f"{report.assets_missing:,} gone at the source",
        ]
        counts = ", ".join(str(part) for part in lacking if part)
        verdict += f"; the mirror is incomplete{counts and f': {counts}'}"
    yield f"{report.dest}: {verdict}"
    yield (
        f"  checked {count(report.files, 'file')} (assets, documents, catalogs), {size(report.bytes)} "
        f"in {duration(report.seconds)} ({rate(report.bytes, report.seconds)})"
        + (f"; {report.unproven:,} checked by size only" if report.unproven else "")
    )
    for kind in ("missing", "short", "altered", "obstructed", "unreadable", "unknown"):
        if number := getattr(report, kind):
            yield f"  {kind:<10} {number:,}"
    if report.leftovers:
        yield f"  {count(report.leftovers, 'partial download')} (the next run will finish or remove them)"
    if report.repair is not None:
        yield f"  {max(0, damaged - remaining):,} repaired, {remaining:,} not repaired"
    dest = dest_of(report)
    if report.state == "interrupted":
        yield f"to continue: stacpull verify {dest}{' --repair' if repaired else ''}"
    elif is_unfinished:
        yield f"to resume:   stacpull resume {dest}"
    if damaged and not repaired:
        yield f"to repair:   stacpull verify --repair {dest}"
    if failed := report.assets_failed if report.repair is None else report.repair.assets_failed:
        yield f"{count(failed, 'asset')} failed; for details: stacpull failures {dest}"
    if report.unknown:
        yield "unknown files (-v lists them) are never touched: move or keep them"
