"""The closing summary of a run: its report as a few lines for people, and what to do next."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import click

from stacpull.cli.parameters import READING_DEST
from stacpull.cli.printing import duration, rate, size
from stacpull.clock import rfc3339_at
from stacpull.config.options import options_of
from stacpull.errors import quantities, quantity
from stacpull.models import COUNTED_APART, NOT_FAILURES, FailureKind, count_failures
from stacpull.reports import FailureRecord, MirrorReport, PlanReport, StatusReport, VerifyReport

_PURPOSES = {
    "verify": "to continue:",
    "resume": "to resume:  ",
    "verify --repair": "to repair:  ",
    "failures": "for details:",
    "retry": "to retry:   ",
    "retry --ordered": "to fetch assets that were not ready yet:",
}
_REPEAT = "repeat the `stacpull mirror` command with the same filters"


class FailureCounts(Counter[FailureKind]):
    """Failures of this command by kind, with the first message of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.of_items = 0  # failures of items, which `retry` reads or writes again
        self.examples: dict[FailureKind, str] = {}
        self.missing_keys = Counter[str]()

    def record(self, kind: FailureKind, key: str, message: str) -> None:
        if not key:
            self.of_items += 1
            kind = FailureKind.ITEM if kind is FailureKind.GONE else kind  # --missing does not accept this
        elif kind is FailureKind.GONE:
            self.missing_keys[key] += 1
        self[kind] += 1
        self.examples.setdefault(kind, message)

    def lines(self, failed: int, gone: int, accepted: int) -> Iterator[str]:
        """Yield a line per kind, most frequent first, then how many of `failed` are of earlier runs."""
        numbers = Counter({**self, FailureKind.GONE: min(gone, self[FailureKind.GONE])})
        for kind, number in (+numbers).most_common():
            label = kind if kind in NOT_FAILURES else "failed"
            what = kind.meaning
            if kind is FailureKind.GONE:
                what += f" ({per_name(dict(self.missing_keys.most_common(10)))})"
            yield f"  {label:<8} {number:,} {what}; {kind.advice}"
            if kind not in COUNTED_APART and self.examples.get(kind):
                yield f"           for example: {self.examples[kind]}"
        noted = sum(number for kind, number in numbers.items() if kind not in NOT_FAILURES) - self.of_items
        if failed > noted:
            missing = {f"of them {FailureKind.GONE.meaning}": gone - numbers[FailureKind.GONE]}
            earlier = ", ".join(named_counts({"in earlier runs": failed - noted, **missing}))
            yield f"  failed   {earlier}: not requested again until a retry"
        if accepted:
            yield f"  accepted {accepted:,} {FailureKind.GONE.meaning} (--missing)"


def mirror_lines(report: MirrorReport, failures: FailureCounts, noun: str = "file") -> Iterator[str]:
    """Yield the lines; the first one says `complete` only if nothing failed. `noun` is the word for files."""
    accepted = report.assets_accepted
    failed = count_failures(report.to_json(), accepted)
    items = report.items_failed
    parts = not_done(report, accepted)
    if report.state != "complete":
        parts += still_to_do(report)
    state = f"{report.state}: "
    if report.reason and report.state != "failed":  # its error is printed after this
        state = f"{report.state} ({report.reason.rstrip('.')}): "
    elif report.state == "complete" and parts:
        state = ""
    elif report.state == "complete" and not report.assets_planned:
        state = "nothing to fetch: "
    files = f"{report.assets_done:,} of {quantity(report.assets_planned, noun)} in {report.dest}"
    yield "; ".join([f"{state}{files}", *parts])
    present = min(report.assets_done, report.assets_skipped + report.assets_revalidated)  # some are in both
    added = report.assets_done - present
    changed = min(added, report.assets_changed)
    total = size(report.bytes_done)
    new = [quantity(added - changed, "file"), *named_counts({"replaced": changed})]
    if added and not present:
        new.append(total)
    yield f"  added    {', '.join(new)}"
    fetched = f"{size(report.bytes_fetched)} of files and documents in {duration(report.seconds)}"
    kept = "; parts of long files are kept" if report.state == "interrupted" else ""
    yield f"  fetched  {fetched} ({rate(report.bytes_fetched, report.seconds)}){kept}"
    requests = [f"{report.requests:,}", *quantities((report.retries, "retry", "retries"))]
    yield f"  requests {', '.join(requests)}"
    if present:
        old = quantity(present, "file")
        checked = f" ({report.assets_revalidated:,} checked)" if report.assets_revalidated else ""
        now = f"the selection now has {quantity(report.assets_done, 'file')}, {total}"
        yield f"  present  {old} already here{checked}; {now}"
    if report.items_seen:
        yield f"  items    {items_read(report)}"
    yield from _changes(report)
    gone = report.assets_missing - accepted
    yield from failures.lines(failed, gone, accepted)
    steps = {
        "resume": report.state != "complete",
        "failures": report.assets_failed or items,
        "retry": failed > gone or failures.of_items,
        "retry --ordered": report.assets_ordered,
    }
    yield from next_steps(report, steps)
    if items > failures.of_items:
        yield f"to read the failed items again: {_REPEAT}"


def named_counts(numbers: Mapping[Any, int]) -> list[str]:
    return [f"{number:,} {name}" for name, number in numbers.items() if number]


def not_done(report: MirrorReport | StatusReport | VerifyReport, gone: int) -> list[str]:
    """Return how many files and items are not done, and why. Files that are `gone` did not fail."""
    counts = report.to_json()
    numbers = {"failed": count_failures(counts, gone), FailureKind.GONE.meaning: gone}
    for kind in NOT_FAILURES:
        numbers[kind.meaning] = counts[f"assets_{kind}"]
    numbers["of them kept in an earlier version"] = counts.get("assets_kept", 0)
    failed_items = quantities((report.items_failed, "item"))
    return [*named_counts(numbers), *(f"{items} failed" for items in failed_items)]


def items_read(report: MirrorReport | StatusReport) -> str:
    matched = [f"{report.items_matched:,} matched", *quantities((report.source_items, "source item"))]
    return f"{report.items_seen:,} read, {' and '.join(matched)}, {report.items_done:,} complete"


def still_to_do(report: MirrorReport | StatusReport | VerifyReport) -> list[str]:
    if report.walk_ended:
        return named_counts({"still to fetch or check": report.assets_pending})
    if report.assets_pending:
        return [f"at least {report.assets_pending:,} still to fetch or check"]
    return ["SOURCE was not read to its end"]


def state_of(report: MirrorReport | StatusReport) -> str:
    parts = not_done(report, report.assets_missing)
    is_finished = report.state == "complete" and parts
    return "; ".join(["finished", *parts]) if is_finished else report.state


def nothing_to_do(report: MirrorReport, command: str = "resume") -> Iterator[str]:
    yield f"{report.dest}: {state_of(report)}; nothing to {command}"
    steps = {
        "resume": report.state != "complete",
        "retry": count_failures(report.to_json(), report.assets_missing) or report.items_failed,
        "retry --ordered": report.assets_ordered,
    }
    yield from next_steps(report, steps)
    yield f"to look for new items, or to prune: {_REPEAT}"


def _changes(report: MirrorReport) -> Iterator[str]:
    changes = quantities(
        (report.items_new, "new item"),
        (report.items_changed, "changed item"),
        (report.assets_changed, "changed file"),
    )
    if changes and report.run > 1:  # in the first run, resumed or not, everything is new
        yield f"  changes  {', '.join(changes)} (source items included)"
    if report.items_pruned:
        files = quantity(report.assets_pruned, "file")
        yield f"  pruned   {quantity(report.items_pruned, 'item')} with {files}: no longer in SOURCE"
    elif report.items_gone:
        gone = quantity(report.items_gone, "item")
        yield f"  gone     {gone} no longer in SOURCE; --prune=remove removes them, if no item links to them"
    elif report.items_not_listed:
        items = quantity(report.items_not_listed, "item")
        yield f"  unlisted {items} of earlier runs, kept; --prune=remove removes only those that are gone"
    if (others := report.items_of_other_runs - report.items_not_listed) > 0:
        yield f"  others   {quantity(others, 'item')} that this run did not select: still in DEST and exports"
    if report.assets_clipped:
        yield f"  clipped  {quantity(report.assets_clipped, 'file')} to the area of --clip"
    if report.assets_excluded:
        yield f"  left out {quantity(report.assets_excluded, 'asset')} (asset filters)"
    if report.assets_pages:
        yield f"  left out {web_pages(report)}; --include-pages fetches them"
    if report.items_left_out:
        yield f"  left out {by_reason(report.items_left_out)}"
    if report.items_unseen:
        yield f"  unseen   {quantity(report.items_unseen, 'item')} that the source announced but did not list"


def web_pages(report: MirrorReport | PlanReport) -> str:
    return quantity(report.assets_pages, "web page or endpoint", "web pages or endpoints")


def by_reason(reasons: Mapping[str, int]) -> str:
    return f"{quantity(sum(reasons.values()), 'item')} ({per_name(reasons)})"


def per_name(numbers: Mapping[str, int]) -> str:
    by_name = dict(sorted(numbers.items()))
    return ", ".join(f"{name}: {number:,}" for name, number in Counter(by_name).most_common())


def next_steps(
    report: MirrorReport | StatusReport | VerifyReport, steps: Mapping[str, object]
) -> Iterator[str]:
    context = click.get_current_context(silent=True)
    params: Mapping[str, Any] = {} if context is None else context.params
    config = params.get("config")
    given = {**params, "config": config and config.name, "work": report.work}
    for_dest = () if report.work is None else READING_DEST
    for command, is_useful in steps.items():
        if is_useful:
            for_source = [
                option.name
                for option in options_of(command.partition(" ")[0])
                if option.group == "Credentials and network" and option.name != "header"  # it may be secret
            ]
            names = [*for_dest, *for_source]
            if config and (config.query or not config.options.keys().isdisjoint([*names, "header"])):
                names.insert(0, "config")
            flags = [_as_flag(name, given) for name in dict.fromkeys(names)]
            words = [report.dest, *chain.from_iterable(flags)]
            yield f"{_PURPOSES[command]} stacpull {command} {shlex.join(words)}"


def _as_flag(name: str, params: Mapping[str, Any]) -> list[str]:
    value = params.get(name.replace("-", "_"))
    if value is True or not value:
        return [f"--{name}"] if value else []
    values = value if isinstance(value, tuple) else [value]
    return [word for one in values for word in (f"--{name}", str(one))]


def failure_line(record: FailureRecord) -> str:
    item = "/".join(filter(None, [record.collection, record.item]))
    what = " ".join(filter(None, [item, record.key]))
    when = [*quantities((record.attempts, "attempt")), f"last {rfc3339_at(record.when)}"]
    return f"{what}: {record.kind}: {record.message} ({', '.join(when)})"
