"""Progress on standard error: a few lines that are redrawn on a terminal, plain lines elsewhere.

A display listens to the events of a run. What it shows is derived from the last event and the time, and is
drawn by a thread of its own, so that something is visible while the source is silent. It also counts failures
by kind for the closing summary.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TextIO
from urllib.parse import urlsplit

from stacpull.cli import printing
from stacpull.cli.printing import duration, paint, plain, rate, size
from stacpull.cli.summary import Failed
from stacpull.config.options import Output
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
from stacpull.plurals import count
from stacpull.speed import Speed

_LINE_EVERY = 5.0
"""Seconds between two lines where standard error is not a terminal."""
_FIRST_LINE = 1.0
"""Seconds of silence after which the first of these lines is printed."""
_DRAW_EVERY = 0.2
"""Seconds between two drawings on a terminal."""
_SILENT_FROM = 5.0
"""Seconds without any data after which the display shows that."""
_DEBUG_FROM = 1
"""How often -v is given to see notices for developers and each failure."""
_WIDEST_BAR, _NARROWEST_BAR = 30, 5
_MOST_HOSTS = 3
"""Hosts that are waited for and shown each on a line."""
STOPPING = "Stopping... (Ctrl-C again to quit now)"


class Display:
    """Prints notices, and no progress. `quiet` silences it altogether.

    Args:
        output: How much to print.
        stream: Where to print it.
        noun: What assets are called.
        source: SOURCE as given; its host is shown until it has answered.
    """

    def __init__(
        self, output: Output, stream: TextIO, noun: str = "files", source: str | None = None
    ) -> None:
        self.noun = noun
        self.failed = Failed()
        self._output = output
        self._stream = stream
        self._last: Progress | None = None
        self._host = _host_of(source)
        self.begin()

    def begin(self) -> None:
        """Start the display."""

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        match event:
            case Progress() | Checked() | Stage():
                if isinstance(event, Progress):
                    self._last = event
                self.progress(event)
            case Notice(level=level, text=text) if level != "debug" or self._output.verbose >= _DEBUG_FROM:
                self.say(f"warning: {text}" if level == "warning" else text)
            case AssetFailed(item=item, key=key, kind=kind, message=message):
                self.failed.note(kind, key, message)
                if self._output.verbose >= _DEBUG_FROM:
                    self.say(f"failed: {item.collection}/{item.item} {key}: {message}")
            case ItemGone(item=item, assets=assets, bytes=held, removed=removed):
                self.say(
                    f"{'removed' if removed else 'gone'}: {item.collection}/{item.item} "
                    f"({count(assets, 'file')}, {size(held)})"
                )
            case RunStarted(resumed=True):
                self.say("resuming the unfinished run")
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
        clean = plain(line)
        if clean.startswith("stacpull: warning: "):
            clean = clean.replace("warning:", paint("warning:", "yellow", self._stream), 1)
        self.put(clean)

    def put(self, line: str) -> None:
        """Put a clean line on the stream."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def progress(self, now: Progress | Checked | Stage) -> None:
        """Handle new progress."""

    def ended(self) -> None:
        """Handle the end of the run."""

    def aside(self, line: str) -> None:
        """Print a line on standard output without disturbing the display."""
        printing.lines([line])

    def stopping(self) -> bool:
        """Show that a stop was requested; return False if there is no display to show it."""
        return False

    def abandon(self) -> None:
        """Clean up the terminal at once, because the process ends now."""

    def done_text(self) -> str:
        """Return what the run has done, as the end of a sentence; "" if it has done nothing yet."""
        now = self._last
        if now is None or not now.assets_planned:
            return ""
        planned = f"{now.assets_planned:,}{'' if now.walk_ended else '+'}"
        return f": {now.assets_done:,} of {planned} {self.noun} are done"

    def close(self) -> None:
        """Remove the display; calling it again does nothing."""


class _Timed(Display):
    """A display with a thread that calls `tick` regularly until it is closed."""

    _every = _DRAW_EVERY
    _now: Progress | Checked | Stage | None = None

    def begin(self) -> None:
        """Start the thread."""
        self._started = time.monotonic()
        self._speed = Speed()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="stacpull-display", daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError, ValueError):  # the stream is closed
            while not self._closed.wait(self._every):
                with self._lock:
                    if not self._closed.is_set():
                        self.tick()

    def tick(self) -> None:
        """Update the display."""

    def waiting_text(self) -> str:
        """Return what the command waits for before the first event."""
        for_ = duration(time.monotonic() - self._started)
        return f"connecting to {self._host} ({for_})" if self._host else f"starting ({for_})"

    def close(self) -> None:
        """Stop the thread."""
        with self._lock:
            self._closed.set()


class Lines(_Timed):
    """A line every few seconds, by the run's own clock, and one at the end."""

    _every = 0.5
    _next = _LINE_EVERY
    _next_tick = 0.0
    _unprinted: Progress | None = None

    def progress(self, now: Progress | Checked | Stage) -> None:
        """Print a line if one is due."""
        with self._lock:
            before, self._now = self._now, now
            if isinstance(now, Stage):
                first = before is None
                if now == before:
                    return
                if now.done == now.total or time.monotonic() >= self._next_tick or first:
                    self._next_tick = time.monotonic() + _LINE_EVERY
                    self.say(_stage_line(now))
                return
            self._unprinted = now if isinstance(now, Progress) else None
            if now.seconds >= self._next:
                self._next = now.seconds + _LINE_EVERY
                self._unprinted = None
                self.say(_line(now, self.noun) if isinstance(now, Progress) else _checked_line(now))

    def tick(self) -> None:
        """Print what the command waits for, until the first event."""
        if self._now is None and time.monotonic() >= max(self._next_tick, self._started + _FIRST_LINE):
            self._next_tick = time.monotonic() + _LINE_EVERY
            self.say(self.waiting_text())

    def ended(self) -> None:
        """Print the last progress, unless it was printed already."""
        with self._lock:
            if self._unprinted is not None:
                self.say(_line(self._unprinted, self.noun))
                self._unprinted = None


def _checked_line(now: Checked) -> str:
    damaged = f", {now.damaged:,} damaged" if now.damaged else ""
    files, speed = _of(now.files, now.files_expected), rate(now.bytes, now.seconds)
    return f"{files} files checked{damaged}; {size(now.bytes)} in {duration(now.seconds)} ({speed})"


def _stage_line(now: Stage) -> str:
    return f"{now.name}: {_of(now.done, now.total)}"


def _line(now: Progress, noun: str) -> str:
    failed = f", {now.assets_failed:,} failed" if now.assets_failed else ""
    retried = f", {count(now.retries, 'retry', 'retries')}" if now.retries else ""
    waits = "".join(f"; {_waits(host, seconds)}" for host, seconds in now.hosts_waiting[:_MOST_HOSTS])
    items = f"{text}; " if (text := _items(now)) else ""
    return (
        f"{items}{now.assets_done:,} of {now.assets_planned:,}{'' if now.walk_ended else '+'} "
        f"{noun}{failed}{retried}; {size(now.bytes_fetched)} in {duration(now.seconds)} "
        f"({rate(now.bytes_fetched, now.seconds)}){waits}"
    )


def _items(now: Progress) -> str:
    """Return the number of items that match, of those wanted, and the number that were read.

    It is "" if the run lists none: `retry` has files without them.
    """
    if not now.items_seen and (now.assets_planned or now.walk_ended):
        return ""
    matched = f"{now.items_matched:,} of " if now.items_wanted else ""
    items = count(now.items_wanted or now.items_matched, "item")
    return f"{matched}{items} matched ({_of(now.items_seen, now.items_announced)} read)"


def _of(number: int, total: int | None) -> str:
    return f"{number:,} of {total:,}" if total else f"{number:,}"


def _waits(host: str, seconds: float) -> str:
    return f"waiting {max(1, round(seconds))} s for {host}, which throttles or does not answer"


class Live(_Timed):
    """A block of lines at the bottom of a terminal.

    The cursor rests at the block's first character. So whatever the terminal does to the block when it is
    resized, erasing from the cursor to the end of the screen removes all of it.
    """

    _shown = False
    _stopping = False
    _frame = 0

    def progress(self, now: Progress | Checked | Stage) -> None:
        """Keep it for the next drawing."""
        self._now = now

    def stopping(self) -> bool:
        """Show the message from the next drawing on."""
        self._stopping = True
        return True

    def tick(self) -> None:
        """Draw the block."""
        self._frame += 1
        width, height = self._size()
        lines = list(self._lines(width))[: max(1, height - 1)]
        self._emit(self._block([_cut(line, width) for line in lines]))

    def put(self, line: str) -> None:
        """Put a line above the block."""
        with self._lock:
            self._erase()
            super().put(line)
            if not self._closed.is_set():
                self.tick()

    def aside(self, line: str) -> None:
        """Remove the block, and print a line on standard output."""
        with self._lock:
            self._erase()
            super().aside(line)

    def abandon(self) -> None:
        """Remove the block; wait at most one second for its thread to finish drawing.

        A signal handler calls this at any point, also inside `close`: it may only take a reentrant lock.
        """
        if self._lock.acquire(timeout=1.0):
            self._erase()

    def close(self) -> None:
        """Remove the block; the summary has its contents."""
        with self._lock:
            self._closed.set()
            self._erase()

    def _erase(self) -> None:
        if self._shown:
            self._shown = False
            self._emit("\r\x1b[J")

    def _block(self, lines: Sequence[str]) -> str:
        self._shown = True
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        # Without wrapping, since a terminal may already be narrower than it reports. Each row is erased
        # before it is drawn: until then the terminal remembers that it wrapped the row, and joins it with the
        # next one when the window grows.
        rows = "\n".join(f"\x1b[2K{line}" for line in lines)
        return f"\r\x1b[?7l{rows}\x1b[J\x1b[?7h\r{up}"

    def _emit(self, text: str) -> None:
        """Write `text` in one go, past the stream's buffer: a signal handler may call this at any point."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, AttributeError):
            self._stream.write(text)
            return
        with suppress(OSError):
            os.write(descriptor, text.encode(self._stream.encoding, "replace"))

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, AttributeError):
            import shutil

            size = shutil.get_terminal_size()
        return size.columns or 80, size.lines or 24

    # --- the lines of the block ---

    def _lines(self, width: int) -> Iterator[str]:
        now, spinner = self._now, self._spinner()
        if now is None:
            yield f"{spinner} {self.waiting_text()}"
        elif isinstance(now, Progress):
            yield from self._progress_lines(now, spinner, width)
        elif isinstance(now, Checked):
            yield f"{spinner} checking"
            yield self._meter(_share(now.files, now.files_expected), _checked_parts(now), width)
            if now.damaged:
                yield self._alarm(f"{now.damaged:,} damaged", "red")
        else:
            yield f"{spinner} {now.name}"
            yield self._meter(_share(now.done, now.total), [_of(now.done, now.total)], width)
        if self._stopping:
            yield self._alarm(STOPPING, "yellow")

    def _progress_lines(self, now: Progress, spinner: str, width: int) -> Iterator[str]:
        self._speed.update(now)
        yield f"{spinner} {self._dot.join(filter(None, (_phase(now), _items(now))))}"
        if now.assets_planned:
            finished = now.assets_done + now.assets_failed
            expected = now.assets_expected
            yield self._meter(_share(finished, expected), self._parts(now, expected), width)
        if now.assets_failed or self.failed or now.retries:
            yield from self._troubles(now)
        for host, seconds in now.hosts_waiting[:_MOST_HOSTS]:
            yield self._alarm(plain(_waits(host, seconds)), "yellow")
        if (more := len(now.hosts_waiting) - _MOST_HOSTS) > 0:
            yield self._alarm(f"and for {count(more, 'more host')}", "yellow")
        silent = self._speed.silent()
        if silent >= _SILENT_FROM and not now.hosts_waiting and (now.assets_pending or not now.walk_ended):
            yield self._alarm(f"no data received for {duration(silent)}", "yellow")

    def _parts(self, now: Progress, expected: int | None) -> list[str]:
        """Return the figures about files, the most important first."""
        finished = now.assets_done + now.assets_failed
        parts = [f"{finished:,} of {now.assets_planned:,}{'' if now.walk_ended else '+'} {self.noun}"]
        left = self._speed.left(finished, expected)
        if left is not None and finished < (expected or 0):
            waits = max((seconds for _, seconds in now.hosts_waiting), default=0.0)
            known = now.walk_ended and not waits
            parts.append(f"{'' if known else 'about '}{duration(left + waits)} left")
        return [*parts, f"{size(self._speed.bytes())}/s", size(now.bytes_fetched)]

    def _troubles(self, now: Progress) -> Iterator[str]:
        parts = []
        total = max(now.assets_failed, self.failed.total())  # each failure is an event, the counters follow
        if total:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.failed.most_common())
            failed = f"{total:,} failed" + (f" ({kinds})" if kinds else "")
            parts.append(paint(failed, "red", self._stream))
        if now.retries:
            parts.append(count(now.retries, "retry", "retries"))
        if parts:
            yield f"  {self._dot.join(parts)}"

    def _meter(self, share: float | None, parts: Sequence[str], width: int) -> str:
        """Return a bar and as many of `parts` as the width has room for."""
        kept = list(parts)
        while len(kept) > 1 and len(self._dot.join(kept)) + 4 > width:
            kept.pop()
        text = self._dot.join(kept)
        room = min(_WIDEST_BAR, width - len(text) - 6)
        if share is None or room < _NARROWEST_BAR:
            return f"  {text}"
        from tqdm import tqdm

        bar = tqdm.format_meter(
            min(share, 1.0), 1.0, 0, ncols=room, ascii=not self._unicode, bar_format="{bar}"
        )
        return f"  {paint(bar, 'green', self._stream)}  {text}"

    def _alarm(self, text: str, colour: str) -> str:
        return f"  {paint(text, colour, self._stream)}"

    def _spinner(self) -> str:
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._unicode else "|/-\\"
        return frames[self._frame % len(frames)]

    @property
    def _unicode(self) -> bool:
        return (getattr(self._stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"

    @property
    def _dot(self) -> str:
        return " · " if self._unicode else ", "


def _phase(now: Progress) -> str:
    if not now.walk_ended:
        return "listing and fetching" if now.assets_planned else "listing"
    return "fetching" if now.assets_pending else "finishing"


def _share(done: int, total: int | None) -> float | None:
    return done / total if total else None


def _checked_parts(now: Checked) -> list[str]:
    parts = [f"{_of(now.files, now.files_expected)} files"]
    if now.bytes_expected and now.bytes and now.seconds:
        parts.append(f"{duration((now.bytes_expected - now.bytes) * now.seconds / now.bytes)} left")
    return [*parts, rate(now.bytes, now.seconds), size(now.bytes)]


def _cut(line: str, width: int) -> str:
    """Cut a line that may hold colours to the width, the last column left free: terminals wrap there."""
    from tqdm.utils import disp_trim

    return str(disp_trim(line, width - 1))


def _host_of(source: str | None) -> str | None:
    """Return the host of a URL, without any credentials; None for a path or standard input."""
    try:
        parts = urlsplit(source or "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.hostname}{port}" if parts.hostname else None


def display(
    output: Output, stream: TextIO | None = None, *, noun: str = "files", source: str | None = None
) -> Display:
    """Return the display for these options: live on a terminal, lines elsewhere, none if it is turned off.

    Args:
        output: How much to print.
        stream: Where to print it; standard error if None.
        noun: What assets are called.
        source: SOURCE; its host is shown until it has answered.
    """
    stream = stream or sys.stderr
    if output.quiet or output.no_progress:
        return Display(output, stream, noun, source)
    live = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Live(output, stream, noun, source) if live else Lines(output, stream, noun, source)
