"""Items from standard input or a Python program as SOURCE: stored before the walk, so that runs can resume.

The file's name is the SHA-256 of its content without signatures, so the same input resumes the same run, even
if it is signed again. Others may have made DEST, so no link is followed, and this digest is checked.
"""

import asyncio
import gzip
import hashlib
import os
import re
import select
import sys
import zlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from stacpull.errors import InterruptedRunError, SourceError, UsageError, destination_errors, tempfile_errors
from stacpull.models import OWN_DIRECTORY
from stacpull.net.bodies import GZIP_START
from stacpull.redact import public_url
from stacpull.sources.documents import next_links
from stacpull.sources.source_url import STANDARD_INPUT
from stacpull.store.inspection import CREATE, MAX_DOCUMENT_SIZE, IsStopped, open_regular
from stacpull.store.staging import open_or_make
from stacpull.threads import StoppableExecutor, enter_in_thread

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

SourceLike = str | os.PathLike[str] | Mapping[str, Any] | Iterable[Any]

_SCHEME = "stdin:"
_STOPPED = "Stopped before all items were read. Nothing was stored: run the same command again."
_CHUNK = 1 << 20
_PART = "input.ndjson"  # while it is written, among the parts; after a kill, `Recovery` removes it
_HREF = re.compile(rb'"[A-Za-z][A-Za-z0-9+.-]{0,20}:[^"\s]*[?@][^"\s]*')  # that may have credentials
_INPUT_NAME = re.compile(r"stdin:[0-9a-f]{32}")


def source_text(source: Any) -> str | None:
    if isinstance(source, os.PathLike):
        return str(os.path.expanduser(os.fspath(source)))  # noqa: PTH111 - text, not a Path: it may be a URL
    if hasattr(source, "get_queryables"):  # pystac-client's Client and CollectionClient, of any size
        url = source.get_self_href()
        if url is None:
            raise UsageError("source is a client without a `self` link: give the URL of its API.")
        return str(url)
    if isinstance(source, str) and source != STANDARD_INPUT:
        return source
    return None


@asynccontextmanager
async def temporary_input(
    source: SourceLike, stop: asyncio.Event | None = None
) -> AsyncIterator[tuple[str, Path | None]]:
    """Keep standard input or items in a temporary file for the block; yield any other source and None."""
    text = source_text(source)
    if text is not None:
        yield text, None
        return
    thread = StoppableExecutor(stop)
    async with enter_in_thread(await asyncio.to_thread(temporary_directory)) as directory:
        path = await asyncio.to_thread(Path(directory).resolve)
        chunks = await thread.run(lambda: read_input(source, thread.is_stopped))
        name = await thread.run(lambda: store_input(path, chunks))
        yield name, path / OWN_DIRECTORY / "input" / _file_name(name)


def temporary_directory() -> "TemporaryDirectory[str]":
    from tempfile import TemporaryDirectory  # noqa: PLC0415 - few sources need it

    with tempfile_errors():
        return TemporaryDirectory(prefix="stacpull-")


def input_path(dest: Path, source: str) -> Path | None:
    """Return the path of stored input after checking it, None for any other source. Blocks."""
    if not source.startswith(_SCHEME):
        return None
    name = None
    if _INPUT_NAME.fullmatch(source) is not None:  # a ledger of someone else may name any path
        with suppress(OSError), ExitStack() as stack:
            _, inputs = _directories(stack, dest)
            fd = open_regular(_file_name(source), os.O_RDONLY, dir_fd=inputs)
            name = _name_of(stack.enter_context(os.fdopen(fd, "rb")))
    if name != source:
        text = f"The stored items of {dest} are missing or were changed"
        raise UsageError(f"{text}: give the same items again (stacpull mirror - {dest}).")
    return dest.resolve() / OWN_DIRECTORY / "input" / _file_name(source)


def remove_inputs(dest: Path, kept: Collection[str]) -> None:
    """Remove stored input, except some, in a locked mirror."""
    with destination_errors(dest), ExitStack() as stack:
        _, inputs = _directories(stack, dest)
        for name in set(os.listdir(inputs)).difference(map(_file_name, kept)):  # noqa: PTH208 - a descriptor
            os.unlink(name, dir_fd=inputs)


def _file_name(source: str) -> str:
    return f"{source.removeprefix(_SCHEME)}.ndjson"


def _directories(stack: ExitStack, dest: Path) -> tuple[int, int]:
    def opened(fd: int) -> int:
        stack.callback(os.close, fd)
        return fd

    dest_fd = opened(os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    own_fd = opened(open_or_make(dest_fd, OWN_DIRECTORY))
    return opened(open_or_make(own_fd, "parts")), opened(open_or_make(own_fd, "input"))


def store_input(dest: Path, chunks: Iterable[bytes]) -> str:
    """Store items in the mirror at `dest`, which this process has locked, and return their name. Blocks."""
    with ExitStack() as stack:
        with destination_errors(dest):
            parts, inputs = _directories(stack, dest)
            with suppress(FileNotFoundError):
                os.unlink(_PART, dir_fd=parts)  # of a run that was killed
            flags = CREATE & ~os.O_WRONLY | os.O_RDWR
            fd = os.open(_PART, flags, 0o600, dir_fd=parts)
            file = stack.enter_context(os.fdopen(fd, "w+b"))
        try:
            for chunk in chunks:  # errors of the source are not those of DEST
                with destination_errors(dest):
                    file.write(chunk)
            with destination_errors(dest):
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                name = _name_of(file)
                os.rename(_PART, _file_name(name), src_dir_fd=parts, dst_dir_fd=inputs)
                os.fsync(inputs)
        finally:
            with suppress(OSError):
                os.unlink(_PART, dir_fd=parts)
    return name


def _name_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in _unsigned(file):
        digest.update(chunk)
    return _SCHEME + digest.hexdigest()[:32]


def _unsigned(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file of JSON, perhaps gzipped, with its hrefs unsigned. The walk reports damaged gzip."""

    def unsigned(match: re.Match[bytes]) -> bytes:
        try:
            href = orjson.loads(match[0] + b'"')
        except ValueError:
            return match[0]
        public_href = public_url(href)
        if public_href == href:
            return match[0]
        return orjson.dumps(public_href)[:-1]

    is_gzipped = file.read(len(GZIP_START)) == GZIP_START
    file.seek(0)
    lines = gzip.GzipFile(fileobj=file) if is_gzipped else file
    with suppress(EOFError, zlib.error, gzip.BadGzipFile):
        while line := lines.readline(MAX_DOCUMENT_SIZE):  # no line of a SOURCE is longer
            yield _HREF.sub(unsigned, line)


def read_input(source: SourceLike, is_stopped: IsStopped) -> Iterator[bytes]:
    """Return NDJSON with absolute hrefs, read lazily, and call `is_stopped` at least every 0.25 s."""
    chunks = _standard_input(is_stopped) if isinstance(source, str) else _encoded_items(source, is_stopped)
    first = next(chunks)  # before anything is stored: a wrong source changes nothing
    if not first:
        raise UsageError("Standard input is empty: give items, one per line, or name a SOURCE.")
    return chain([first], chunks)


def _standard_input(is_stopped: IsStopped) -> Iterator[bytes]:
    descriptor = sys.stdin.fileno()
    chunk = None
    while chunk != b"":
        if is_stopped():
            raise InterruptedRunError(_STOPPED)
        try:
            if not select.select([descriptor], [], [], 0.25)[0]:
                continue
            chunk = os.read(descriptor, _CHUNK)
        except OSError as error:
            raise SourceError(f"Standard input cannot be read: {error.strerror}.") from error
        yield chunk


def _encoded_items(source: Any, is_stopped: IsStopped) -> Iterator[bytes]:
    line = None
    for item in _items(source):
        try:
            line = orjson.dumps(_document(item), option=orjson.OPT_APPEND_NEWLINE)
        except (TypeError, AttributeError) as error:  # it only resembles a pystac.Item
            raise UsageError(f"source contains an item that cannot be written as JSON: {error}.") from error
        if is_stopped():
            raise InterruptedRunError(_STOPPED)
        yield line
    if isinstance(source, Mapping) and "features" in source and next_links(dict(source)):
        yield b'{"features": [], "links": [{"rel": "next", "href": "?"}]}\n'  # so that its reader warns
    elif line is None:
        yield b"[]\n"


def _items(source: Any) -> Iterable[Any]:
    items: Iterable[Any] = source
    if isinstance(source, Mapping):
        is_collection = source.get("type") == "FeatureCollection" and source.get("features") is not None
        items = source["features"] if is_collection else [source]
    elif hasattr(source, "items_as_dicts"):  # pystac_client.ItemSearch
        items = source.items_as_dicts()
    elif hasattr(source, "get_items"):  # pystac.Catalog and Collection
        items = source.get_items(recursive=True)
    elif hasattr(source, "get_assets"):  # pystac.Item
        items = [source]
    elif isinstance(source, bytes) or not isinstance(source, Iterable) or hasattr(source, "columns"):
        raise UsageError(f"source must be a URL, a path or items, not {type(source).__name__}.")
    if isinstance(source, list | tuple) and not source:
        raise UsageError("source is an empty list: give items, a URL or a path.")
    checked = map(_require_item, items)
    if isinstance(items, list | tuple):
        return list(checked)  # so that a wrong one is found before anything is stored
    return checked


def _require_item(item: Any) -> Any:
    is_feature = isinstance(item, Mapping) and item.get("type") == "Feature"
    if is_feature or hasattr(item, "get_assets"):
        return item
    raise UsageError(f"source contains an object that is not a STAC item ({type(item).__name__}).")


def _document(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    document: dict[str, Any] = item.to_dict(transform_hrefs=False)
    document["links"] = [
        {**link.to_dict(transform_href=False), "href": link.absolute_href}
        for link in item.links
        if link.get_href(transform_href=False) is not None
    ]
    for key, asset in item.assets.items():
        document["assets"][key]["href"] = asset.get_absolute_href() or asset.href
    return document
