"""How a command that transfers ends: its report is printed, and says the exit code."""

from __future__ import annotations

from stacpull.cli import printing
from stacpull.cli.progress import Display
from stacpull.cli.summary import mirror_lines, resumed_nothing
from stacpull.config.options import Output
from stacpull.reports import MirrorReport

__all__ = ["finish"]


def finish(report: MirrorReport, output: Output, shown: Display) -> int:
    """Print `report` as asked for and return the exit code."""
    if not output.quiet:
        texts = resumed_nothing(report) if report.nothing_to_resume else mirror_lines(report, shown.failed)
        for text in texts:
            shown.write(text) if output.json else printing.lines([text])
    if output.json:
        printing.json_line(report.to_json())
    return report.exit_code
