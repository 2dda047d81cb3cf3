"""`stacpull verify DEST`: checks a mirror against its ledger, and repairs damaged files."""

from __future__ import annotations

from collections.abc import Iterator

import click

from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration, rate, size
from stacpull.cli.summary import next_steps, still_to_do
from stacpull.errors import quantity
from stacpull.events import Damage, Event
from stacpull.reports import VerifyReport


@command(
    "verify",
    parameters.dest(),
    click.Option(["--quick"], is_flag=True, help="Compare sizes only, without reading files."),
    click.Option(["--repair"], is_flag=True, help="Fetch damaged and missing files again."),
    click.Option(["--strict"], is_flag=True, help="Count files that do not belong to the mirror as damage."),
    *parameters.of_command("verify"),
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
            session.display(event)
        elif session.output.json:
            printing.json_line(event.to_json())
        elif not session.output.quiet and (
            event.what != "unknown" or how["strict"] or session.output.verbose
        ):
            details = {"missing": "", "unknown": ": not part of the mirror"}
            found = f": expected {event.expected}, found {event.found}"
            session.display.aside(f"{event.what}: {event.path}{details.get(event.what, found)}")

    report = session.run(
        lambda stop: verification.verify(
            dest, quick=quick, options=session.options, on_event=listen, stop=stop, **how
        )
    )
    return session.finish(report, verify_lines(report))


def verify_lines(report: VerifyReport) -> Iterator[str]:
    others = report.unknown if report.strict else 0  # unknown files fail the check, but are not damaged
    damaged, left = report.damaged - others, report.remaining - others
    is_interrupted, repaired = report.state == "interrupted", report.repair is not None
    is_unfinished = not repaired and report.mirror_state != "complete"
    failed = report.assets_failed + report.items_failed - report.assets_missing - report.assets_outside
    numbers = {"failed": failed, "gone at the source": report.assets_missing}
    lacking = [f"{number:,} {what}" for what, number in numbers.items() if number and not repaired]
    is_incomplete = is_unfinished or bool(lacking)
    kinds = ("missing", "short", "altered", "obstructed", "unreadable")
    found = ", ".join(f"{number:,} {kind}" for kind in kinds if (number := getattr(report, kind)))
    verdict = ["interrupted"] if is_interrupted else []
    if repaired:
        verdict += [f"repaired {max(0, damaged - left):,} of {quantity(damaged, 'damaged file')} ({found})"]
    elif damaged:
        verdict += [f"{quantity(damaged, 'file')} damaged ({found})"]
    elif not is_interrupted:
        verdict += [f"{'' if others or is_incomplete else 'OK, '}{quantity(report.files, 'file')} verified"]
    if report.unknown:
        what = quantity(report.unknown, "file that does not belong", "files that do not belong")
        verdict += [f"{what} to the mirror"]
    if is_incomplete:
        counts = ", ".join(filter(None, [still_to_do(report) if is_unfinished else "", *lacking]))
        verdict += [f"the mirror is incomplete{counts and f': {counts}'}"]
    yield f"{report.dest}: {'; '.join(verdict)}"
    yield (
        f"  checked {quantity(report.files, 'file')} (assets and metadata), {size(report.bytes)} "
        f"in {duration(report.seconds)} ({rate(report.bytes, report.seconds)})"
        + (f"; {report.unproven:,} checked by size only" if report.unproven else "")
    )
    if report.leftovers:
        yield f"  {quantity(report.leftovers, 'partial download')} (the next run will finish or remove them)"
    steps = {
        "verify": is_interrupted and not repaired,
        "resume": is_unfinished and not is_interrupted,
        "verify --repair": is_interrupted if repaired else damaged,
        "failures": report.repair.assets_failed if report.repair else len(lacking),
    }
    yield from next_steps(report, steps)
    if report.unknown:
        yield "unknown files (-v lists them) are never touched: move or keep them"
