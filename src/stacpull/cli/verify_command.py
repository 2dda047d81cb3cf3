"""`stacpull verify DEST`: checks a mirror against its ledger, and repairs damaged files."""

from collections.abc import Iterator
from functools import partial

import click

from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration, rate, size
from stacpull.cli.summary import FailureCounts, named_counts, next_steps, not_done, still_to_do
from stacpull.errors import StacpullError, quantity
from stacpull.events import Damage, Event
from stacpull.reports import VerifyReport


@command(
    "verify",
    parameters.dest(),
    click.Option(["--quick"], is_flag=True, help="Compare sizes only, without reading files."),
    click.Option(["--repair"], is_flag=True, help="Fetch damaged and missing files again."),
    click.Option(["--strict"], is_flag=True, help="Count files that do not belong to the mirror as damage."),
    *parameters.for_command("verify"),
    examples=["verify s2", "verify s2 --repair"],
)
def verify(session: CommandSession, dest: str, quick: bool, repair: bool, strict: bool) -> int:
    """It prints a line for each file that is missing, truncated or altered; if there is one, it exits with 1.

    Without --repair, nothing is changed. Other files are reported as unknown and never touched. With --strict
    they count as damage; otherwise only -v lists them. With --json, each line is a JSON object.
    """
    from stacpull.engine import verify as verification

    are_listed = strict or session.output.verbose > 0

    def listen(event: Event) -> None:
        if not isinstance(event, Damage):
            session.display(event)
        elif session.output.json:
            printing.json_line(event.to_json())
        elif event.what != "unknown" or are_listed:
            details = {"missing": "", "unknown": ": not part of the mirror"}
            difference = f": expected {event.expected}; found {event.found}"
            session.display.print_result(f"{event.what}: {event.path}{details.get(event.what, difference)}")

    shown = partial(verify_lines, failures=session.display.failures, are_listed=are_listed)
    check = partial(verification.verify, dest, quick=quick, repair=repair, strict=strict)
    check = partial(check, options=session.options, on_event=listen)
    try:
        report = session.run(lambda stop: check(stop=stop))
    except StacpullError as error:
        if isinstance(error.report, VerifyReport):
            session.finish(error.report, shown(error.report), code=error.exit_code)
        raise
    return session.finish(report, shown(report))


def verify_lines(report: VerifyReport, *, failures: FailureCounts, are_listed: bool) -> Iterator[str]:
    is_interrupted = report.state == "interrupted"
    is_unfinished = report.repair is None and report.mirror_state != "complete"
    failed = report.assets_failed - report.assets_outside + report.items_failed
    is_lacking = report.repair is None and failed > 0
    is_incomplete = is_unfinished or is_lacking
    kinds = ("missing", "short", "altered", "obstructed", "unreadable")
    numbers = {kind: getattr(report, kind) for kind in kinds}
    damaged = sum(numbers.values())  # without unknown files, which only fail the check
    damage = ", ".join(named_counts(numbers))
    verdict = ["interrupted"] if is_interrupted else []
    if report.repair is not None:
        repaired = max(0, report.damaged - report.remaining)
        verdict.append(f"repaired {repaired:,} of {quantity(damaged, 'damaged file')} ({damage})")
    elif damaged:
        verdict.append(f"{quantity(damaged, 'file')} damaged ({damage})")
    elif not is_interrupted:
        ok = "" if report.damaged or is_incomplete else "OK, "
        verdict.append(f"{ok}{quantity(report.files, 'file')} verified")
    if report.unknown:
        files = quantity(report.unknown, "file that does not belong", "files that do not belong")
        counted = " (damage, because of --strict)" if report.strict else ""
        verdict.append(f"{files} to the mirror{counted}")
    if is_incomplete:
        counts = ", ".join([*still_to_do(report), *not_done(report, report.assets_missing)])
        incomplete = "the mirror is incomplete" if is_unfinished else ""
        verdict.append(": ".join(filter(None, [incomplete, counts])))
    yield f"{report.dest}: {'; '.join(verdict)}"
    checked = f"{quantity(report.files, 'file')} (assets and metadata), {size(report.bytes)}"
    end = f" ({rate(report.bytes, report.seconds)})"
    if report.unproven:
        end = f"; {report.unproven:,} checked by size only"
    yield f"  checked {checked} in {duration(report.seconds)}{end}"
    if report.repair is not None:
        yield from failures.lines(report.repair.assets_failed, report.repair.assets_missing, 0)
    if report.leftovers:
        yield f"  {quantity(report.leftovers, 'partial download')} (the next run will finish or remove them)"
    if report.obstructed:
        yield "to repair obstructed files, first move the directory or link that has their name"
    steps: dict[str, object] = {
        "verify": is_interrupted and report.repair is None,
        "resume": is_unfinished and not is_interrupted,
        "verify --repair": damaged,
        "failures": is_lacking,
    }
    if report.repair is not None:
        steps["verify --repair"] = is_interrupted or report.obstructed
        steps["failures"] = report.repair.assets_failed
    yield from next_steps(report, steps)
    if report.unknown:
        listed = "" if are_listed else "; -v lists them"
        yield f"unknown files are kept{listed}. `stacpull mirror SOURCE DEST --adopt` accepts matching files"
