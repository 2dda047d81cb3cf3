"""Progress on standard error: bars on a terminal, now and then a line elsewhere, nothing where not wanted.

A display is a listener of events. It also counts failures by kind, which the closing summary tells.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Never, TextIO

from stacpull.cli.numbers import duration, rate, size
from stacpull.cli.printing import plain
from stacpull.config.resolve import Output
from stacpull.events import AssetFailed, Event, Notice, Progress, RunEnded, RunStarted
from stacpull.models import FailureKind

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Bars", "Display", "Lines", "display"]

_LINE_EVERY = 5.0
"""Seconds between two lines where standard error is no terminal."""
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
            case Notice(level=level, text=text) if level != "debug" or self._output.verbose >= _DEBUG_FROM:
                self.say(f"warning: {text}" if level == "warning" else text)
            case AssetFailed(item=item, key=key, kind=kind, message=message):
                self.failed[kind] += 1
                if self._output.verbose >= _DEBUG_FROM:
                    self.say(f"failed: {item.collection}/{item.item} {key}: {message}")
            case RunStarted(resumed=True):
                self.say("going on with the unfinished run")
            case RunEnded():
                self.ended()
            case _:
                pass

    def say(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self._output.quiet:
            self.write(plain(f"stacpull: {text}"))

    def write(self, line: str) -> None:
        """Put a line on the stream."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def progress(self, progress: Progress) -> None:
        """Show where the run stands."""

    def ended(self) -> None:
        """Show where the run came to."""

    def close(self) -> None:
        """Leave the stream fit for other lines; calling it again does nothing."""


class Lines(Display):
    """A line of progress every few seconds, by the run's own clock, and one at the end."""

    def __init__(self, output: Output, stream: TextIO, noun: str = "files") -> None:
        super().__init__(output, stream, noun)
        self._next = _LINE_EVERY
        self._unsaid: Progress | None = None

    def progress(self, progress: Progress) -> None:
        """Say it if it is time."""
        self._unsaid = progress
        if progress.seconds >= self._next:
            self._next = progress.seconds + _LINE_EVERY
            self._say_last()

    def ended(self) -> None:
        """Say what was not yet said."""
        self._say_last()

    def _say_last(self) -> None:
        if self._unsaid is not None:
            self.say(_line(self._unsaid, self.noun))
            self._unsaid = None


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

    def progress(self, progress: Progress) -> None:
        """Move the bars; the first time, start them from what was there already, which is no speed."""
        finished = progress.assets_done + progress.assets_failed
        known = progress.bytes_planned
        figures = (
            (progress.items_seen, progress.items_announced),
            (finished, progress.assets_planned),
            (progress.bytes_done, known if known and known >= progress.bytes_done else None),
        )
        if not self._bars:
            self._start(figures)
        for bar, (value, total) in zip(self._bars, figures, strict=True):
            bar.n, bar.total = value, total
            bar.refresh()

    def _start(self, figures: Iterable[tuple[int, int | None]]) -> None:
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # its thread would redraw bars that are redrawn by events
        for position, (name, (start, total)) in enumerate(
            zip(("items", self.noun, "bytes"), figures, strict=True)
        ):
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

    def write(self, line: str) -> None:
        """Put a line above the bars."""
        if self._bars:
            self._bars[0].write(line, file=self._stream)
        else:
            super().write(line)

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
