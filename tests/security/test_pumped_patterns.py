"""No regular expression holds the run, whatever a source or host writes.

Every pattern of the package is found by reading its code. Each has an example that it accepts, in `EXAMPLES`:
every short piece of the example is repeated until the text has thousands of characters, with an end that fits
and with ends that do not. The pattern is applied as the code applies it. A linear one takes microseconds; one
that backtracks polynomially or exponentially runs into the limit of processor time.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.net.memory import Answer
from tests.security.sources import Source, feature

import stacpull
from stacpull import MirrorReport, Options, mirror
from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.cql2 import compile_expression, parse_filter
from stacpull.selection import Selection

SOURCE = Path(stacpull.__file__).parents[1]
PACKAGES = ("stacpull", "stacpull_logins", "stacpull_raster", "stacpull_trace", "stacpull_replicas")

OWN_WORDS = {
    "arguments.py": "the arguments of the command and the library",
    "cli": "the words of the command line",
    "config": "options, config files and profiles of the user",
    "filters/cql2.py": "the user's filter and the parser's own messages",
    "ledger/schema.py": "the statements of this module",
    "stacpull_replicas": "servers for trials, which answer clients on this machine",
    "stacpull_trace/indices.py": "the user's evalscript",
    "store/file_sync.py": "the kernel's release",
}
"""Rooms and files whose patterns never meet the text of a server, and what they meet."""

BUILT_AT_RUN_TIME = {
    "filters/asset_filter.py:_any_glob": "test_a_glob_is_matched_in_linear_time",
}
"""Functions that compile what a user wrote or a server sent, and the test that pumps what they make."""

EXAMPLES: dict[str, str] = {
    "proxies.py:_WITH_PORT": "[::1]:8801",
    "store/part_files.py:_WORKER": "0123456789abcdef",
    "store/part_files.py:_PAIR": "12.0.about",
    "catalog/collection.py:_CURRENT": "1.0.0",
    "catalog/collection.py:_UNTYPED": "1.0.0-beta",
    "catalog/collection.py:_VERSION": "1.0.0-beta.2",
    "catalog/item.py:_DATED": "2017",
    "catalog/collection.py:_LICENSE": "CDLA-Permissive-1.0",
    "stacpull_raster/clip.py:_DETAIL": "b'II'",
    "engine/item_input.py:_HREF": '"https://host.example/x?sig=a',
    "engine/item_input.py:_INPUT_NAME": "stdin:0123456789abcdef0123456789abcdef",
    "http1/host.py:_ORIGIN": "https://a0.b-c.example:8080",
    "filters/asset_filter.py:_WILD": "B*",
    "filters/interval.py:_DATE": "2017-06-13",
    "filters/interval.py:_INSTANT": "2017-06-13T10:00:00.000+00:00",
    "clock.py:_LEAP_SECOND": "T10:59:60",
    "hosts.py:[/?#]": "host/path?a#b",
    "hosts.py:_AUTHORITY": "[fe80::1]:8080",
    "hosts.py:_SCHEME": "ab+c.1-d:",
    "ledger/known_assets.py:_MD5": '"0123456789abcdef0123456789abcdef-12"',
    "net/json.py:_CHARSETS": "iso-8859-1",
    "net/json.py:_NOT_UTF_8": "a\udc80b",
    "net/json.py:_SURROGATE": "a\ud800b",
    "net/json_reader.py:_CHARSET": 'text/plain; charset = "utf-8',
    "stacpull_logins/cookies.py:_DOMAIN": "; domain= .host.example",
    "stacpull_logins/cookies.py:_SEPARATE": "a=b, c=d,  e=f",
    "net/logins/profile.py:_NAME": "a-b.c0.example",
    "stacpull_logins/profiles.py:_NAME": "a-b.c_0",
    "stacpull_logins/profiles.py:_VARIABLES": "${ONE}:${TWO}",
    "stacpull_logins/profiles.py:_LABELLED": "Token token=${ONE}",
    "net/status.py:_ARCHIVED_BODY": "InvalidObjectState BlobArchived BlobBeingRehydrated",
    "net/status.py:_HTML_START": "\ufeff \n<!----> <!-- a --><!doctype html>",
    "net/status.py:_THROTTLED_BODY": "Rate limit exceeded. Throttling: SlowDown",
    "net/status.py:_WAIT_IN_BODY": "Try again in 42 seconds",
    "net/status.py:_XML_REASONS[0]": "<Message>a b</Message>",
    "net/status.py:_XML_REASONS[1]": "<Code>ab</Code>",
    "planning/kinds.py:_RENDERERS": "/x/preview.png",
    "planning/kinds.py:_SUFFIX": "a.b.tar.7z",
    "planning/kinds.py:_TILE": "/{z}/{-y}/",
    "planning/layout.py:_DATE": "2017-06-13",
    "planning/layout.py:_NAME": "eo:cloud_cover",
    "planning/layout.py:_TOKEN": "{{a}}b{key|removeprefix:x}/}",
    "planning/names.py:_CUT_ESCAPE": "a~2",
    "planning/names.py:_DEVICE": "com1  .tar.gz",
    "planning/names.py:_HASHED": "ab~0123456789ab.tar.gz",
    "planning/names.py:_NOT_IN_ID": "a//b:c",
    "planning/names.py:_SUFFIX": "a.b.tar.gz",
    "planning/names.py:_UNSAFE": "a:b",
    "planning/statements.py:_ARCHIVED": "Deep_Archive glacier",
    "redact.py:_FERNET": "/gAAAAA" + "aZ0_-" * 20 + "%3D?",
    "sources/items_file.py:_NAMES": "/a.b.ndjson.gz",
    "sources/page_requests.py:_ITEMS_OF": "/collections/ab/items/",
    "sources/source_url.py:^(?i:file):(//(localhost)?(?=/))?": "file://localhost/a",
    "sources/source_url.py:_HOST": "a-b.c0.example/",
    "sources/source_url.py:_PRIVATE": "[fe80::1]",
    "sources/source_url.py:_SCHEME": "ab+c.1-d:",
    "stacpull_trace/hub/statistics_request.py:_UUID": "01234567-89ab-cdef-0123-456789abcdef",
    "stacpull_trace/scene_map.py:_ID": "PSScene/20240601_183012_07_24b1_3B_a",
    "stacpull_trace/scene_map.py:_LINE": "PSScene/a[0] b[-12]",
    "store/complete_parts.py:_PLAIN": '"a.~-0";b.tif',
    "stacpull_raster/clipped_file.py:_NOTE": "STACPULL_CLIP=0123456789abcdef,12345\n",
    "stacpull_raster/tiff/gdal_metadata.py:[0-9]{1,5}": "12",
    "stacpull_raster/tiff/gdal_metadata.py:_ENTITY": "a&lt;&#x41;&#65;b",
    "sigv4.py:_PLAIN_KEY": "a/b_c.0-1~tif",
    "transfer/local.py:[?#]": "file:///a?b#c",
    "transfer/local.py:_RANGE": "bytes=0-12",
    "transfer/checks.py:_MARKUP": " \t\n<html>",
    "transfer/s3_transport.py:_HOST_LIKE": "a-bucket-0",
    "transfer/s3_transport.py:_REGION": "eu-central-1",
    "urls.py:_UNSAFE": "a b",
}

SCREENED, CONFIRMED = 10_000, 100_000
"""Characters of the pumped texts: all have the first number, and those that take long for it the second."""
SUSPICIOUS, LIMIT = 0.001, 0.25
"""Seconds of processor time for those, which Linux counts in ticks of a few milliseconds. A quadratic pattern
takes many seconds for the second."""
LONGEST_PIECE = 16


class Use(NamedTuple):
    """A pattern, and how the code applies it."""

    name: str
    pattern: re.Pattern[str] | re.Pattern[bytes]
    method: str


class _TooLongError(Exception):
    pass


def _calls(node: ast.AST) -> list[ast.Call]:
    """Return the calls of functions of `re` that take a pattern, in their order."""
    found = [
        one
        for one in ast.walk(node)
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and isinstance(one.func.value, ast.Name)
        and one.func.value.id == "re"
        and one.func.attr != "escape"
    ]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def _uses() -> Iterator[Use | str]:
    """Yield every use of `re`; for a pattern that is built at run time the name of its function."""
    for path in sorted(path for name in PACKAGES for path in (SOURCE / name).rglob("*.py")):
        where = path.relative_to(SOURCE).as_posix().removeprefix("stacpull/")
        if any(where == one or where.startswith(f"{one}/") for one in OWN_WORDS):
            continue
        source = path.read_text()
        named = [number for number, line in enumerate(source.splitlines(), 1) if re.search(r"\bre\.", line)]
        for statement in ast.parse(source).body if named else ():
            is_named = any(statement.lineno <= number <= (statement.end_lineno or 0) for number in named)
            calls = _calls(statement) if is_named else []  # to walk all trees takes seconds
            if not calls:
                continue
            module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
            names = [
                target.id
                for one in (statement.targets if isinstance(statement, ast.Assign) else [statement])
                for target in [one.target if isinstance(one, ast.AnnAssign) else one]
                if isinstance(target, ast.Name)
            ]
            for number, call in enumerate(calls):
                pattern = _pattern(call, module)
                if pattern is None:
                    yield f"{where}:{getattr(statement, 'name', names)}"
                elif names:
                    name = names[0] if len(calls) == 1 else f"{names[0]}[{number}]"
                    yield Use(f"{where}:{name}", pattern, _method(names[0], source))
                else:
                    yield Use(f"{where}:{_text(pattern)}", pattern, call.func.attr)


def _pattern(call: ast.Call, module: object) -> re.Pattern[str] | re.Pattern[bytes] | None:
    """Return the pattern of a call of `re.…`; None if it is not a constant."""
    flags = [one for one in call.keywords if one.arg == "flags"]
    args = call.args[:2] if call.func.attr == "compile" else call.args[:1]
    if call.func.attr in {"match", "search", "fullmatch", "finditer", "findall"}:
        args += call.args[2:3]
    compiling = ast.Call(ast.parse("re.compile", mode="eval").body, args, flags)
    try:
        return eval(ast.unparse(compiling), {**vars(module), "re": re})  # noqa: S307 - our own code
    except NameError:
        return None


def _method(name: str, source: str) -> str:
    """Return how the module applies its pattern `name`; of several ways the one that tries the most."""
    found = set(re.findall(rf"\b{name}\.(\w+)\(", source)) & {"match", "fullmatch", "split", "sub", "search"}
    return next((one for one in ("search", "sub", "split", "match", "fullmatch") if one in found), "search")


def _text(pattern: re.Pattern[str] | re.Pattern[bytes]) -> str:
    return pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")


@cache
def _found() -> list[Use | str]:
    return list(_uses())


@cache
def _named() -> dict[str, Use]:
    return {one.name: one for one in _found() if isinstance(one, Use)}


@contextmanager
def _processor_time(seconds: float) -> Iterator[None]:
    """Raise `_TooLongError` after so many seconds of processor time, in the middle of a match."""

    def stop(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _is_quick(act: Callable[[str], object], text: str, seconds: float) -> bool:
    try:
        with _processor_time(seconds):
            act(text)
    except _TooLongError:
        return False
    return True


def _pumped(example: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is before, repeated and behind."""
    for start in range(len(example)):
        for end in range(start + 1, min(start + LONGEST_PIECE, len(example)) + 1):
            for tail in ("", "\0", example[end:]):
                yield example[:start], example[start:end], tail


def _slow(act: Callable[[str], object], example: str) -> str | None:
    """Return the piece of `example` that takes too long when it is repeated, None if there is none."""
    for before, piece, behind in _pumped(example):
        if not _is_quick(act, before + piece * (SCREENED // len(piece)) + behind, SUSPICIOUS):
            text = before + piece * (CONFIRMED // len(piece)) + behind
            if not _is_quick(act, text, LIMIT):
                return f"{before!r} + {piece!r} * {CONFIRMED // len(piece)} + {behind!r}"
    return None


def _acting(pattern: re.Pattern[str] | re.Pattern[bytes], method: str) -> Callable[[str], object]:
    """Return what applies a pattern; one of bytes gets UTF-8."""
    if isinstance(pattern.pattern, bytes):
        one: re.Pattern[bytes] = pattern
        return lambda text: (
            one.sub(b"", text.encode()) if method == "sub" else getattr(one, method)(text.encode())
        )
    other: re.Pattern[str] = pattern
    return lambda text: other.sub("", text) if method == "sub" else getattr(other, method)(text)


def test_every_pattern_has_an_example() -> None:
    assert set(_named()) - set(EXAMPLES) == set(), "give an example that the pattern accepts"
    assert set(EXAMPLES) - set(_named()) == set(), "the pattern is gone: remove its example"
    assert {one for one in _found() if isinstance(one, str)} == set(BUILT_AT_RUN_TIME)
    assert set(BUILT_AT_RUN_TIME.values()) <= set(globals())
    assert all((SOURCE / one).exists() or (SOURCE / "stacpull" / one).exists() for one in OWN_WORDS)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_each_example_matches_its_pattern(name: str) -> None:
    _, pattern, method = _named()[name]
    text = EXAMPLES[name]
    whole = pattern.fullmatch if method == "fullmatch" else pattern.search
    assert whole(text.encode() if isinstance(pattern.pattern, bytes) else text)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_no_pattern_backtracks_on_a_pumped_text(name: str) -> None:
    use = _named()[name]
    assert _slow(_acting(use.pattern, use.method), EXAMPLES[name]) is None


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


GLOBS = ["*a*a*a*a*a*b", "*[ab]*[ab]*[ab]*c", "a*?a*?a*?b", "*.tif"]


@pytest.mark.parametrize("glob", GLOBS)
def test_a_glob_is_matched_in_linear_time(glob: str) -> None:
    selection = AssetFilter(Selection(assets=(glob,)))
    assert _slow(lambda key: selection.keeps(key, {}), "aab.tif") is None


LIKES = ["%a%a%a%a%b", "%a%a%a%a%", "a%_a%_a%_a%b", "%a_b%ab%_b%c", "%%%%b", "a%a"]


@pytest.mark.parametrize("like", LIKES)
@pytest.mark.parametrize("insensitive", [False, True])
def test_like_is_matched_in_linear_time(like: str, insensitive: bool) -> None:
    text = f"CASEI(name) LIKE CASEI('{like}')" if insensitive else f"name LIKE '{like}'"
    judge = compile_expression(parse_filter(text), text).evaluate
    assert _slow(lambda name: judge({}, {"name": name}), "aabab") is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("comments", [60, 4_000])
def test_html_comments_without_a_page_are_scanned_in_linear_time(
    tmp_path: Path, status: int, comments: int
) -> None:
    """An error's body and an asset without a type are both looked at for the start of a web page."""
    body = b"<!---->" * comments + b"x"

    async def course() -> MirrorReport:
        source = Source([], others=lambda _: Answer(status=status, body=body, headers={"Content-Type": ""}))
        async with source:
            source.features = [feature("one", {"a": source.url("/a.tif")})]
            return await mirror(source.api, tmp_path / "m", options=Options(retries=0))

    report = asyncio.run(course())
    assert (report.assets_done, report.assets_failed) == ((1, 0) if status == 200 else (0, 1))
