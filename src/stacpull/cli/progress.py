"""Progress on standard error: a thread draws a few lines on a terminal, and prints plain lines elsewhere."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from stacpull.cli import printing
from stacpull.cli.printing import duration, of_total, paint, plain, rate, size
from stacpull.cli.summary import FailureCounts, named_counts
from stacpull.config.options import Output
from stacpull.errors import quantities, quantity
from stacpull.events import AssetFailed, Checked, Event, ItemGone, Notice, Progress, Rates, RunStarted, Stage
from stacpull.models import COUNTED_APART, NOT_FAILURES, FailureKind

# in seconds
_FIRST_LINE = 1.0
_LINE_EVERY = 5.0
_DRAW_EVERY = 0.2
_SILENT_FROM = 5.0  # without data: from then on, the silence is shown, and lines become rarer
_RAREST_LINE = 60.0


class _Shown(NamedTuple):
    head: Sequence[str]
    figures: Sequence[str]
    done: float = 0
    total: int | None = None  # 0 or None if it is not known
    problems: Sequence[str] = ()
    waits: Sequence[str] = ()


class Display:
    """Shows the events of a run, and counts the failures by kind for the closing summary.

    The cursor rests at the start of the block: erasing the rest of the screen removes it, also when resized.
    """

    def __init__(self, output: Output) -> None:
        self.failures = FailureCounts()
        self.hidden = deque[str](maxlen=100)  # what --quiet hides: it is printed if the command fails
        self._output = output
        self._stream = sys.stderr
        self._now: Progress | Checked | Stage = Stage("starting")
        self._since = time.monotonic()  # when `_now` came, unless it is a `Progress`
        self._printed = ""
        self._rates = Rates()
        self._frame = 0
        self._lock = threading.RLock()  # reentrant: a signal handler may take it at any point
        self._is_closed = False  # not an event: its lock is not reentrant
        self._is_silent = output.quiet or output.no_progress
        self._is_live = not self._is_silent and printing.is_terminal(self._stream)
        self._is_unicode = printing.is_utf8(self._stream)
        self._dot = ", "
        self._spinner = "|/-\\"
        if self._is_unicode:
            self._dot = " · "
            self._spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        if not self._is_silent:
            threading.Thread(target=self._run, name="stacpull-display", daemon=True).start()

    def __call__(self, event: Event) -> None:
        is_verbose = self._output.verbose > 0
        match event:
            case Progress() | Checked() | Stage():
                with self._lock:
                    if isinstance(event, Progress):
                        self._rates.update(event)
                    elif event != self._now:
                        self._since = time.monotonic()
                    self._now = event
            case Notice(level=level, text=text) if level != "debug" or is_verbose:
                prefix = "warning: " if level == "warning" else ""
                self.say(f"{prefix}{text}")
            case AssetFailed(item=item, key=key, kind=kind, message=message):
                self.failures.record(kind, key, message)
                if is_verbose:
                    self.say(f"failed: {item.collection}/{item.item} {key}".rstrip() + f": {message}")
            case ItemGone(item=item, assets=assets, bytes=freed, removed=removed):
                what = "removing" if removed else "gone"
                self.say(f"{what}: {item.collection}/{item.item} ({quantity(assets, 'file')}, {size(freed)})")
            case RunStarted(resumed=True):
                self.say("resuming the unfinished run")

    def say(self, text: str) -> None:
        if not self._output.quiet:
            self.write(f"stacpull: {text}")
        elif text.startswith("warning: "):
            self.hidden.append(text)

    def write(self, line: str) -> None:
        """Print a line above the block, without control characters, which may come from a source."""
        clean = plain(line)
        if clean.startswith("stacpull: warning: "):
            clean = clean.replace("warning:", paint("warning:", "yellow", self._stream), 1)
        with self._lock:
            self._erase()
            self._stream.write(f"{clean}\n")
            self._stream.flush()
            if self._is_live and not self._is_closed:
                self._draw()

    def print_result(self, line: str) -> None:
        if self._output.quiet:
            self.hidden.append(line)
            return
        with self._lock:
            self._erase()
            printing.lines([line])

    def close(self) -> None:
        """Remove the display: the summary has its contents. Calling it again does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self.hide()

    def done(self) -> str:
        if not isinstance(now := self._now, Progress):
            return ""
        return f": {now.assets_done:,} of {now.assets_planned:,}{'' if now.walk_ended else '+'} files"

    def hide(self) -> None:
        """Remove the block until it is drawn again. A signal handler may call this at any point."""
        if self._lock.acquire(timeout=1.0):  # the thread has a second to finish its drawing
            self._erase()
            self._lock.release()

    def _run(self) -> None:
        next_line = time.monotonic() + _FIRST_LINE
        with suppress(OSError, ValueError):  # the stream is closed
            while True:
                time.sleep(_DRAW_EVERY)
                with self._lock:
                    if self._is_closed:
                        return
                    if self._is_live:
                        self._draw()
                    elif time.monotonic() >= next_line:
                        self._print_line()
                        next_line = time.monotonic() + max(_LINE_EVERY, min(self._silent(), _RAREST_LINE))

    def _silent(self) -> float:
        if isinstance(self._now, Progress):
            return self._rates.silence()
        return time.monotonic() - self._since

    def _print_line(self) -> None:
        shown = self._shown()
        what, *rest = shown.head
        if isinstance(self._now, Stage):
            text = ": ".join([what, *shown.figures])
        else:
            text = "; ".join([*rest, *shown.figures, *shown.problems, *shown.waits[:1]])
        if text and text != self._printed:
            self._printed = text
            self.say(text)

    def _draw(self) -> None:
        from tqdm.utils import disp_trim

        self._frame += 1
        screen = os.terminal_size((0, 0))  # not known
        with suppress(OSError):
            screen = os.get_terminal_size(self._stream.fileno())
        width = screen.columns or 80
        height = screen.lines or 24
        # one column stays free, because terminals wrap at the last one
        lines = [*self._lines(width)][: max(1, height - 1)]
        lines = [str(disp_trim(line, width - 1)) for line in lines]
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        # Without wrapping, as a terminal may already be narrower than it reports. Each row is erased first:
        # else the terminal remembers that it wrapped the row, and joins it with the next one when it grows.
        rows = "\n".join(f"\x1b[2K{line}" for line in lines)
        self._write_now(f"\r\x1b[?7l{rows}\x1b[J\x1b[?7h\r{up}")

    def _erase(self) -> None:
        if self._is_live:
            self._write_now("\r\x1b[J")

    def _write_now(self, text: str) -> None:
        """Write `text` in one go, past the stream's buffer: a signal handler may call this at any point."""
        with suppress(OSError):
            os.write(self._stream.fileno(), text.encode(self._stream.encoding, "replace"))

    def _lines(self, width: int) -> Iterator[str]:
        from tqdm import tqdm

        shown = self._shown()
        spinner = self._spinner[self._frame % len(self._spinner)]
        yield f"{spinner} {self._dot.join(shown.head)}"
        figures = self._dot.join(shown.figures)
        if shown.total:
            colour = "green" if paint("", "green", self._stream) else None
            yield tqdm.format_meter(
                min(shown.done, shown.total), shown.total, 0, ncols=width - 1, ascii=not self._is_unicode,
                colour=colour, bar_format=f"  {{bar}}  {figures}",
            )  # fmt: skip
        elif figures:
            yield f"  {figures}"
        if shown.problems:
            red = [paint(text, "red", self._stream) for text in shown.problems[:1]]
            yield f"  {self._dot.join([*red, *shown.problems[1:]])}"
        for text in shown.waits:
            yield f"  {paint(plain(text), 'yellow', self._stream)}"

    def _shown(self) -> _Shown:
        now = self._now
        if isinstance(now, Progress):
            return self._shown_of_run(now)
        if isinstance(now, Stage):
            if not (now.done or now.total):
                return _Shown([f"{now.name} ({duration(self._silent())})"], [])
            return _Shown([now.name], [of_total(now.done, now.total)], now.done, now.total)
        figures = [f"{of_total(now.files, now.files_expected)} files checked"]
        remaining = max(0, (now.bytes_expected or 0) - now.bytes)  # files may have become longer
        if remaining and now.bytes and now.seconds >= Rates.WINDOW_SECONDS:
            figures.append(f"about {duration(remaining * now.seconds / now.bytes)} left")
        figures += [rate(now.bytes, now.seconds), size(now.bytes)]
        damaged = named_counts({"damaged": now.damaged})
        return _Shown(["checking"], figures, now.files, now.files_expected, damaged)

    def _shown_of_run(self, now: Progress) -> _Shown:
        activity = "listing and fetching" if now.assets_planned else "listing"
        if now.walk_ended:
            activity = "fetching" if now.assets_pending else "finishing"
        head = [activity]
        if now.items_seen:  # `retry` lists no items
            matched = quantity(now.items_matched, "item")
            if now.items_wanted:
                matched = f"{now.items_matched:,} of {quantity(now.items_wanted, 'item')}"
            head.append(f"{matched} matched ({of_total(now.items_seen, now.items_announced)} read)")
        finished = now.assets_done + now.assets_failed + now.files_in_flight
        expected = now.assets_expected or 0
        figures = []
        if now.assets_planned:
            files = quantity(now.assets_planned, now.noun)
            planned = files if now.walk_ended else f"{now.assets_planned:,}+ {now.noun}s"
            figures.append(f"{now.assets_done:,} of {planned}")
            seconds = self._rates.remaining(finished, expected)
            if seconds is not None and finished < expected:
                pause = max((host.wait for host in now.hosts), default=0.0)
                figures.append(f"about {duration(seconds + pause)} left")
            speed = self._rates.per_second(lambda progress: progress.bytes_fetched)
            if speed:
                figures.append(f"{size(speed)}/s")
            figures.append(size(now.bytes_fetched))
        waits = []
        for host in [host for host in now.hosts if host.wait > 0][:3]:
            seconds_left = max(1, round(host.wait))
            waits.append(f"waiting {seconds_left} s for {host.host}, which throttles or does not answer")
        silent = self._silent()
        if silent >= _SILENT_FROM and not waits:
            what = "no data received"
            if now.walk_ended and not now.assets_pending:
                what = "saving documents, catalogs and the ledger"
            elif now.hosts and not any(host.active for host in now.hosts):
                what = "storing files"
            waits = [f"{what} for {duration(silent)}"]
        return _Shown(head, figures, finished, expected, self._problems(now), waits)

    def _problems(self, now: Progress) -> list[str]:
        gone = max(now.assets_missing, self.failures[FailureKind.GONE])  # --missing may accept these
        # failures are events, which come before the counters
        failed = max(now.assets_failed, self.failures.total()) - gone
        failed -= sum(self.failures[kind] for kind in NOT_FAILURES)
        kinds = {kind: number for kind, number in self.failures.most_common() if kind not in COUNTED_APART}
        what = f"failed ({', '.join(named_counts(kinds))})" if kinds else "failed"
        problems = named_counts({what: max(0, failed), FailureKind.GONE.meaning: gone})
        return problems + quantities((now.retries, "retry", "retries"))
