"""No regular expression holds the run, whatever a source or host writes.

Every compiled pattern of the packages gets texts that it accepts, of which each short piece is repeated until
the text has thousands of characters, with an end that fits and with ends that do not. The pattern is applied
as its module applies it. A linear one takes microseconds; one that backtracks polynomially or exponentially
runs into the limit of processor time.
"""

import importlib
import inspect
import pkgutil
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import stacpull
import stacpull_logins
import stacpull_raster
import stacpull_trace
from stacpull.filters.cql2 import compile_filter

PACKAGES = (stacpull, stacpull_logins, stacpull_raster, stacpull_trace)
OF_THE_USER = (
    "stacpull.cli",
    "stacpull.config",
    "stacpull.arguments",
    "stacpull.filters.cql2",
    "stacpull_trace.indices",
)
"""Modules whose patterns meet only what the user writes."""

SCREENED, CONFIRMED = 10_000, 100_000
"""Characters of the pumped texts: all have the first number, and those that take long for it the second."""
SUSPICIOUS, LIMIT = 0.001, 0.5
"""Seconds of processor time for those. A quadratic pattern takes many seconds for the second, others 0.07."""
MAX_PIECE_LENGTH, MAX_EXAMPLE_LENGTH = 12, 40

Pattern = re.Pattern[str] | re.Pattern[bytes]


def _patterns() -> Iterator[tuple[str, Pattern, str]]:
    """Yield the patterns of the packages: name, pattern, and the method that their module calls."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.startswith(OF_THE_USER) or found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                for one in value if isinstance(value, tuple) else (value,):
                    if isinstance(one, re.Pattern):
                        called = re.findall(rf"\b{name}\.(\w+)\(", inspect.getsource(module))
                        method = next(
                            (m for m in ("search", "sub", "split", "match") if m in called), "fullmatch"
                        )
                        yield f"{found.name}:{name}", one, method


@contextmanager
def _stopped_when_late() -> Iterator[None]:
    """Raise `TimeoutError` in the middle of a match when `LIMIT` has passed."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)


def _is_quick(act: Callable[[str], object], text: str, seconds: float) -> bool:
    """Measure by the thread's own clock: Linux counts for signals in ticks, and misses a few milliseconds."""
    began = time.thread_time()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
        try:
            act(text)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except TimeoutError:
        return False
    return time.thread_time() - began < seconds


def _pumped(example: str) -> Iterator[tuple[str, str, str]]:
    for start in range(len(example)):
        for end in range(start + 1, min(start + MAX_PIECE_LENGTH, len(example)) + 1):
            piece = example[start:end]
            if piece in (piece + piece)[1:-1]:
                continue  # it repeats a shorter piece
            for tail in dict.fromkeys(("", "\0", example[end:])):
                yield example[:start], piece, tail


def _slow(act: Callable[[str], object], example: str) -> str | None:
    """Return the piece of `example` that takes too long when it is repeated, None if there is none."""
    with _stopped_when_late():
        for before, piece, behind in _pumped(example):
            if not _is_quick(act, before + piece * (SCREENED // len(piece)) + behind, SUSPICIOUS):
                text = before + piece * (CONFIRMED // len(piece)) + behind
                if not _is_quick(act, text, LIMIT):
                    return f"{before!r} + {piece!r} * {CONFIRMED // len(piece)} + {behind!r}"
    return None


def _acting(pattern: Any, method: str) -> Callable[[str], object]:
    """Return what applies a pattern; one of bytes gets UTF-8."""
    is_bytes = isinstance(pattern.pattern, bytes)
    act = partial(pattern.sub, b"" if is_bytes else "") if method == "sub" else getattr(pattern, method)
    return (lambda text: act(text.encode())) if is_bytes else act


@pytest.mark.parametrize(("pattern", "method"), [pytest.param(p, m, id=n) for n, p, m in _patterns()])
@settings(max_examples=2, derandomize=True, database=None)
@given(data=st.data())
def test_no_pattern_backtracks_on_a_pumped_text(pattern: Pattern, method: str, data: st.DataObject) -> None:
    alphabet = st.characters() if isinstance(pattern.pattern, str) else None
    example = data.draw(st.from_regex(pattern, alphabet=alphabet))[:MAX_EXAMPLE_LENGTH]
    text = example if isinstance(example, str) else example.decode("latin-1")
    assert _slow(_acting(pattern, method), text) is None


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        (r"^\s*(?:<!--.*?-->\s*)*<html", "<!----><html"),
        (r"<Contents>(.*?)</Contents>", "<Contents>a</Contents>"),
        (r".*a.*b.*c", "abc"),
        (r"(\w+\s?)*!", "ab c!"),
    ],
)
def test_the_pump_detects_patterns_that_backtrack(pattern: str, example: str) -> None:
    assert _slow(_acting(re.compile(pattern, re.DOTALL), "search"), example) is not None


LIKES = ["%a%a%a%a%b", "%a%a%a%a%", "a%_a%_a%_a%b", "%a_b%ab%_b%c", "%%%%b", "a%a"]


@pytest.mark.parametrize("like", LIKES)
@pytest.mark.parametrize("insensitive", [False, True])
def test_like_is_matched_in_linear_time(like: str, insensitive: bool) -> None:
    text = f"CASEI(name) LIKE CASEI('{like}')" if insensitive else f"name LIKE '{like}'"
    judge = compile_filter(text)[1]
    assert _slow(lambda name: judge({}, {"name": name}), "aabab") is None
