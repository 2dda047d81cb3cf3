"""Progress on standard error: a few lines that are redrawn on a terminal, plain lines elsewhere.

A display listens to the events of a run. A thread shows what follows from the last event and the time, so
that something is visible while the source is silent.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TextIO
from urllib.parse import urlsplit

from stacpull.cli import printing
from stacpull.cli.printing import duration, paint, plain, rate, size
from stacpull.cli.signals import STOPPING
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

_LINE_EVERY, _FIRST_LINE = 5.0, 1.0
"""Seconds between two plain lines, and until the first one if there is no event."""
_TICK, _DRAW_EVERY = 0.5, 0.2
_SILENT_FROM = 5.0
"""Seconds without any data after which that is shown."""
_WIDEST_BAR, _NARROWEST_BAR = 30, 5
_MOST_HOSTS = 3


class _Shown(NamedTuple):
    title: str
    share: float | None
    """The finished part, from 0 to 1, if it is known."""
    figures: list[str]
    """The most important first."""
    troubles: Sequence[str] = ()
    waits: Sequence[str] = ()


class Display:
    """Shows the events of a run, and counts the failures by kind for the closing summary.

    The cursor rests at the first character of the block on a terminal. So whatever the terminal does to the
    block when it is resized, erasing from the cursor to the end of the screen removes all of it.

    Args:
        output: How much to print.
        stream: Where to print it; standard error if None.
        noun: What assets are called.
        source: SOURCE as given; its host is shown until it has answered.
    """

    def __init__(
        self, output: Output, stream: TextIO | None = None, *, noun: str = "files", source: str | None = None
    ) -> None:
        self.noun = noun
        self.failed = Failed()
        self._output = output
        self._stream = stream or sys.stderr
        self._host = _host_of(source)
        self._now: Progress | Checked | Stage | None = None
        self._unprinted = False
        self._speed = Speed()
        self._started = time.monotonic()
        self._next_line = _FIRST_LINE
        self._frame = 0
        self._is_drawn = self._is_stopping = False
        self._lock = threading.RLock()  # reentrant: a signal handler may take it at any point
        self._closed = threading.Event()
        self._is_silent = output.quiet or output.no_progress
        is_terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._is_live = is_terminal and not self._is_silent
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._is_unicode = encoding.lower().replace("-", "") == "utf8"
        if not self._is_silent:
            threading.Thread(target=self._run, name="stacpull-display", daemon=True).start()

    def __call__(self, event: Event) -> None:
        is_verbose = self._output.verbose > 0
        match event:
            case Progress() | Checked() | Stage():
                self._update(event)
            case Notice(level=level, text=text) if level != "debug" or is_verbose:
                self.say(f"warning: {text}" if level == "warning" else text)
            case AssetFailed(item=item, key=key, kind=kind, message=message):
                self.failed.note(kind, key, message)
                if is_verbose:
                    self.say(f"failed: {item.collection}/{item.item} {key}: {message}")
            case ItemGone(item=item, assets=assets, bytes=held, removed=removed):
                what = "removed" if removed else "gone"
                self.say(f"{what}: {item.collection}/{item.item} ({count(assets, 'file')}, {size(held)})")
            case RunStarted(resumed=True):
                self.say("resuming the unfinished run")
            case RunEnded() if self._unprinted:
                self._print_line()
            case _:
                pass

    def say(self, text: str) -> None:
        """Print one line, unless quiet."""
        if not self._output.quiet:
            self.write(f"stacpull: {text}")

    def write(self, line: str) -> None:
        """Print a line above the block, without the control characters that a source may have put into it."""
        clean = plain(line)
        if clean.startswith("stacpull: warning: "):
            clean = clean.replace("warning:", paint("warning:", "yellow", self._stream), 1)
        with self._lock:
            self._erase()
            self._stream.write(f"{clean}\n")
            self._stream.flush()
            if self._is_live and not self._closed.is_set():
                self._draw()

    def aside(self, line: str) -> None:
        """Print a line on standard output without disturbing the display."""
        with self._lock:
            self._erase()
            printing.lines([line])

    def stopping(self) -> bool:
        """Show from the next drawing on that a stop was requested; return False if nothing is drawn."""
        self._is_stopping = True
        return self._is_live

    def abandon(self) -> str:
        """Clean up the terminal, because the process ends now; return what is done, for its last words.

        A signal handler calls this at any point. It waits at most a second for the thread to finish drawing.
        """
        if self._lock.acquire(timeout=1.0):
            self._erase()
        now = self._now
        if not isinstance(now, Progress) or not now.assets_planned:
            return ""
        return f": {now.assets_done:,} of {_planned(now)} {self.noun} are done"

    def close(self) -> None:
        """Remove the display: the summary has its contents. Calling it again does nothing."""
        with self._lock:
            self._closed.set()
            self._erase()

    # --- plain lines ---

    def _update(self, now: Progress | Checked | Stage) -> None:
        with self._lock:
            before, self._now = self._now, now
            if isinstance(now, Progress):
                self._speed.update(now)
            if self._is_live or self._is_silent or now == before:
                return
            self._unprinted = isinstance(now, Progress)
            begins_or_ends = isinstance(now, Stage) and (before is None or now.done == now.total)
            if begins_or_ends or self._seconds(now) >= max(self._next_line, _LINE_EVERY):
                self._print_line()

    def _seconds(self, now: Progress | Checked | Stage | None) -> float:
        """Return the seconds since the start, by the clock of the run if it has one."""
        return now.seconds if isinstance(now, Progress | Checked) else time.monotonic() - self._started

    def _print_line(self) -> None:
        with self._lock:
            self._next_line = self._seconds(self._now) + _LINE_EVERY
            self._unprinted = False
            shown = self._shown()
            title = [] if isinstance(self._now, Progress | Checked) else [shown.title]
            texts = [
                ": ".join([*title, *shown.figures[:1]]),
                *shown.figures[1:],
                *shown.troubles,
                *shown.waits,
            ]
            self.say("; ".join(filter(None, texts)))

    # --- the block on a terminal ---

    def _run(self) -> None:
        with suppress(OSError, ValueError):  # the stream is closed
            while not self._closed.wait(_DRAW_EVERY if self._is_live else _TICK):
                with self._lock:
                    if self._closed.is_set():
                        return
                    if self._is_live:
                        self._draw()
                    elif self._now is None and self._seconds(None) >= self._next_line:
                        self._print_line()

    def _draw(self) -> None:
        from tqdm.utils import disp_trim

        self._frame += 1
        try:
            width, height = os.get_terminal_size(self._stream.fileno())
        except (OSError, AttributeError):
            width, height = 80, 24
        width, height = width or 80, height or 24
        # one column stays free, because terminals wrap at the last one
        lines = [str(disp_trim(line, width - 1)) for line in self._lines(width)][: max(1, height - 1)]
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        # Without wrapping, since a terminal may already be narrower than it reports. Each row is erased
        # before it is drawn: until then the terminal remembers that it wrapped the row, and joins it with the
        # next one when the window grows.
        rows = "\n".join(f"\x1b[2K{line}" for line in lines)
        self._is_drawn = True
        self._emit(f"\r\x1b[?7l{rows}\x1b[J\x1b[?7h\r{up}")

    def _erase(self) -> None:
        if self._is_drawn:
            self._is_drawn = False
            self._emit("\r\x1b[J")

    def _emit(self, text: str) -> None:
        """Write `text` in one go, past the stream's buffer: a signal handler may call this at any point."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, AttributeError):
            self._stream.write(text)
            return
        with suppress(OSError):
            os.write(descriptor, text.encode(self._stream.encoding, "replace"))

    def _lines(self, width: int) -> Iterator[str]:
        from tqdm import tqdm

        shown = self._shown()
        dot = " · " if self._is_unicode else ", "
        spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._is_unicode else "|/-\\"
        is_run = isinstance(self._now, Progress)
        title, figures = [shown.title, *shown.figures[:is_run]], shown.figures[is_run:]
        yield f"{spinner[self._frame % len(spinner)]} {dot.join(filter(None, title))}"
        if figures:
            while len(figures) > 1 and len(dot.join(figures)) + 4 > width:
                figures.pop()
            bar, room = "", min(_WIDEST_BAR, width - len(dot.join(figures)) - 6)
            if shown.share is not None and room >= _NARROWEST_BAR:
                bar = tqdm.format_meter(
                    min(shown.share, 1.0),
                    1.0,
                    0,
                    ncols=room,
                    ascii=not self._is_unicode,
                    bar_format="{bar}  ",
                )
            yield f"  {paint(bar, 'green', self._stream)}{dot.join(figures)}"
        if shown.troubles:
            red = [paint(text, "red", self._stream) for text in shown.troubles[:1]]
            yield f"  {dot.join([*red, *shown.troubles[1:]])}"
        for text in [*shown.waits, *([STOPPING] if self._is_stopping else [])]:
            yield f"  {paint(plain(text), 'yellow', self._stream)}"

    # --- the text of both ---

    def _shown(self) -> _Shown:
        """Return what to show now."""
        now = self._now
        if now is None:
            waited = duration(self._seconds(None))
            return _Shown(
                f"connecting to {self._host} ({waited})" if self._host else f"starting ({waited})", None, []
            )
        if isinstance(now, Progress):
            return self._shown_of_run(now)
        if isinstance(now, Stage):
            return _Shown(now.name, _share(now.done, now.total), [_of(now.done, now.total)])
        figures = [f"{_of(now.files, now.files_expected)} files checked"]
        if now.bytes_expected and now.bytes and now.seconds:
            figures.append(f"{duration((now.bytes_expected - now.bytes) * now.seconds / now.bytes)} left")
        figures += [rate(now.bytes, now.seconds), size(now.bytes)]
        damaged = [f"{now.damaged:,} damaged"] if now.damaged else []
        return _Shown("checking", _share(now.files, now.files_expected), figures, damaged)

    def _shown_of_run(self, now: Progress) -> _Shown:
        finished, expected = now.assets_done + now.assets_failed, now.assets_expected
        figures = [_items(now)]
        if now.assets_planned:
            figures.append(f"{finished:,} of {_planned(now)} {self.noun}")
            left = self._speed.left(finished, expected)
            if left is not None and finished < (expected or 0):
                waited = max((seconds for _, seconds in now.hosts_waiting), default=0.0)
                about = "" if now.walk_ended and not waited else "about "
                figures.append(f"{about}{duration(left + waited)} left")
            figures += [f"{size(self._speed.bytes())}/s", size(now.bytes_fetched)]
        troubles = []
        if failed := max(now.assets_failed, self.failed.total()):  # each failure is an event, counters follow
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.failed.most_common())
            troubles.append(f"{failed:,} failed" + (f" ({kinds})" if kinds else ""))
        if now.retries:
            troubles.append(count(now.retries, "retry", "retries"))
        waits = [
            f"waiting {max(1, round(seconds))} s for {host}, which throttles or does not answer"
            for host, seconds in now.hosts_waiting[:_MOST_HOSTS]
        ]
        silent = self._speed.silent()
        if silent >= _SILENT_FROM and not waits and (now.assets_pending or not now.walk_ended):
            waits = [f"no data received for {duration(silent)}"]
        phase = "fetching" if now.assets_pending else "finishing"
        if not now.walk_ended:
            phase = "listing and fetching" if now.assets_planned else "listing"
        return _Shown(phase, _share(finished, expected), figures, troubles, waits)


def _planned(now: Progress) -> str:
    return f"{now.assets_planned:,}{'' if now.walk_ended else '+'}"


def _items(now: Progress) -> str:
    """Return how many items match and how many were read; "" for a `retry`, which lists none."""
    if not now.items_seen and (now.assets_planned or now.walk_ended):
        return ""
    matched = f"{now.items_matched:,} of " if now.items_wanted else ""
    items = count(now.items_wanted or now.items_matched, "item")
    return f"{matched}{items} matched ({_of(now.items_seen, now.items_announced)} read)"


def _of(number: int, total: int | None) -> str:
    return f"{number:,} of {total:,}" if total else f"{number:,}"


def _share(done: int, total: int | None) -> float | None:
    return done / total if total else None


def _host_of(source: str | None) -> str | None:
    """Return the host of a URL, without any credentials; None for a path or standard input."""
    try:
        parts = urlsplit(source or "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.hostname}{port}" if parts.hostname else None
