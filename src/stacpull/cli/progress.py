"""Progress on standard error: bars on a terminal, now and then a line elsewhere, nothing where not wanted.

A display is a listener of events. It also counts failures by kind, which the closing summary tells.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Never, TextIO

from stacpull.cli import printing
from stacpull.cli.numbers import count, duration, rate, size
from stacpull.cli.printing import plain
from stacpull.config.resolve import Output
from stacpull.events import (
    AssetFailed,
    Checked,
    Event,
    ItemGone,
    Notice,
    Progress,
    RunEnded,
    RunStarted,
    Stage,
)
from stacpull.models import FailureKind

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Bars", "Display", "Lines", "display"]

_LINE_EVERY = 5.0
"""Seconds between two lines where standard error is no terminal."""
_CHECK_BARS = ("files", "bytes")
_DEBUG_FROM = 1
"""How often -v is given to see notices for developers and each failure."""


class Display:
    """Tells notices, and no progress. `quiet` silences it altogether."""

    def __init__(self, output: Output, stream: TextIO, noun: str = "files") -> None:
        self.noun = noun
        self.failed: Counter[FailureKind] = Counter()
        self._output = output
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Progress():
                self.progress(event)
            case Checked():
                self.checked(event)
            case Stage():
                self.stage(event)
            case Notice(level=level, text=text) if level != "debug" or self._output.verbose >= _DEBUG_FROM:
                self.say(f"warning: {text}" if level == "warning" else text)
            case AssetFailed(item=item, key=key, kind=kind, message=message):
                self.failed[kind] += 1
                if self._output.verbose >= _DEBUG_FROM:
                    self.say(f"failed: {item.collection}/{item.item} {key}: {message}")
            case ItemGone(item=item, assets=assets, bytes=held, removed=removed):
                self.say(
                    f"{'removed' if removed else 'gone'}: {item.collection}/{item.item} "
                    f"({count(assets, 'file')}, {size(held)})"
                )
            case RunStarted(resumed=True):
                self.say("going on with the unfinished run")
            case RunEnded():
                self.ended()
            case _:
                pass

    def say(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self._output.quiet:
            self.write(f"stacpull: {text}")

    def write(self, line: str) -> None:
        """Print a line, without the control characters that a source may have put into it."""
        self.put(plain(line))

    def put(self, line: str) -> None:
        """Put a clean line on the stream."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def stopping(self) -> bool:
        """Show that the run was asked to stop; return False if nothing is shown here."""
        return False

    def abandon(self) -> None:
        """Leave the terminal fit for the shell: the process ends now."""

    def progress(self, progress: Progress) -> None:
        """Show where the run stands."""

    def checked(self, checked: Checked) -> None:
        """Show how far a check is."""

    def stage(self, stage: Stage) -> None:
        """Show where a stage stands."""

    def ended(self) -> None:
        """Show where the run came to."""

    def aside(self, line: str) -> None:
        """Put a line of output where it belongs, standard output, without harm to what is shown here."""
        printing.lines([line])

    def close(self) -> None:
        """Leave the stream fit for other lines; calling it again does nothing."""


class Lines(Display):
    """A line of progress every few seconds, by the run's own clock, and one at the end."""

    def __init__(self, output: Output, stream: TextIO, noun: str = "files") -> None:
        super().__init__(output, stream, noun)
        self._next = _LINE_EVERY
        self._next_stage = time.monotonic() + _LINE_EVERY
        self._unsaid: Progress | None = None

    def progress(self, progress: Progress) -> None:
        """Say it if it is time."""
        self._unsaid = progress
        if progress.seconds >= self._next:
            self._next = progress.seconds + _LINE_EVERY
            self._say_last()

    def checked(self, checked: Checked) -> None:
        """Say it if it is time."""
        if checked.seconds >= self._next:
            self._next = checked.seconds + _LINE_EVERY
            self.say(_checked_line(checked))

    def stage(self, stage: Stage) -> None:
        """Say it when the stage is done, and now and then before."""
        now = time.monotonic()
        if stage.done == stage.total or now >= self._next_stage:
            self._next_stage = now + _LINE_EVERY
            self.say(f"{stage.name}: {stage.done:,}" + (f" of {stage.total:,}" if stage.total else ""))

    def ended(self) -> None:
        """Say what was not yet said."""
        self._say_last()

    def _say_last(self) -> None:
        if self._unsaid is not None:
            self.say(_line(self._unsaid, self.noun))
            self._unsaid = None


def _checked_line(now: Checked) -> str:
    of = f" of {now.files_expected:,}" if now.files_expected else ""
    damaged = f", {now.damaged:,} damaged" if now.damaged else ""
    speed = rate(now.bytes, now.seconds)
    return f"{now.files:,}{of} files checked{damaged}; {size(now.bytes)} in {duration(now.seconds)} ({speed})"


def _line(now: Progress, noun: str) -> str:
    announced = f" of {now.items_announced:,}" if now.items_announced else ""
    failed = f", {now.assets_failed:,} failed" if now.assets_failed else ""
    return (
        f"{now.items_seen:,}{announced} items seen, {now.items_matched:,} matched; "
        f"{now.assets_done:,} of {now.assets_planned:,}{'' if now.walk_ended else '+'} {noun}{failed}; "
        f"{size(now.bytes_fetched)} in {duration(now.seconds)} ({rate(now.bytes_fetched, now.seconds)})"
    )


class Bars(Display):
    """Three bars: items walked, files, bytes with rate and the time that remains."""

    def __init__(self, output: Output, stream: TextIO, noun: str = "files") -> None:
        super().__init__(output, stream, noun)
        self._bars: list[tqdm[Never]] = []
        self._stage = ""

    def progress(self, progress: Progress) -> None:
        """Move the bars; the first time, start them from what was there already, which is no speed."""
        finished = progress.assets_done + progress.assets_failed
        known = progress.bytes_planned
        figures = (
            (progress.items_seen, progress.items_announced),
            (finished, progress.assets_planned),
            (progress.bytes_done, known if known and known >= progress.bytes_done else None),
        )
        self._show(("items", self.noun, "bytes"), figures)

    def checked(self, checked: Checked) -> None:
        """Move the bars of a check."""
        self._show(
            _CHECK_BARS,
            ((checked.files, checked.files_expected), (checked.bytes, checked.bytes_expected)),
        )

    def _show(self, names: Sequence[str], figures: Sequence[tuple[int, int | None]]) -> None:
        if len(self._bars) != len(names):
            self.close()
            self._start(names, figures)
        for bar, (value, total) in zip(self._bars, figures, strict=True):
            bar.n, bar.total = value, total
            bar.refresh()

    def _start(self, names: Sequence[str], figures: Sequence[tuple[int, int | None]]) -> None:
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # its thread would redraw bars that are redrawn by events
        for position, (name, (start, total)) in enumerate(zip(names, figures, strict=True)):
            unit = "B" if name == "bytes" else f" {name}"
            bar: tqdm[Never] = tqdm(
                desc=name,
                initial=start,
                total=total,
                position=position,
                file=self._stream,
                leave=True,
                dynamic_ncols=True,
                unit=unit,
                unit_scale=name == "bytes",
            )
            self._bars.append(bar)

    def aside(self, line: str) -> None:
        """Put a line of output on standard output, the bars out of its way."""
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self._stream):
            super().aside(line)

    def stage(self, stage: Stage) -> None:
        """Move the one bar of a stage; the next stage has one of its own."""
        from tqdm import tqdm

        if stage.name != self._stage:
            self.close()
            tqdm.monitor_interval = 0
            self._stage = stage.name
            self._bars = [tqdm(desc=stage.name, total=stage.total, file=self._stream, dynamic_ncols=True)]
        self._bars[0].n, self._bars[0].total = stage.done, stage.total
        self._bars[0].refresh()

    def put(self, line: str) -> None:
        """Put a line above the bars."""
        if self._bars:
            self._bars[0].write(line, file=self._stream)
        else:
            super().put(line)

    def close(self) -> None:
        """Leave the bars as they stand, the cursor below them."""
        bars, self._bars = self._bars, []
        for bar in bars:
            bar.close()


def display(output: Output, stream: TextIO | None = None, *, noun: str = "files") -> Display:
    """Choose the display that fits what was asked for and where standard error goes.

    `noun` is what assets are called.
    """
    stream = stream or sys.stderr
    if output.quiet or output.no_progress:
        return Display(output, stream)
    return Bars(output, stream, noun) if stream.isatty() else Lines(output, stream, noun)
