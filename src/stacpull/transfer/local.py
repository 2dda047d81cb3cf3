"""A transport for local files: only those below the directory of SOURCE, and those allowed.

A local catalog may be untrusted: an href or symlink out of its directory is refused. Files have a strong ETag
(inode, time, size) and ranges, so they are resumed as from any server.
"""

import os
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from msgspec.structs import replace

from stacpull.models import Failure, FailureKind
from stacpull.net.fields import HeaderFields, requested_range
from stacpull.net.transport import Request, TransferError
from stacpull.schemes import TransportSetup
from stacpull.system import expand_user
from stacpull.threads import shielded_to_thread
from stacpull.urls import path_of

_INDEX_NAMES: Final = ("catalog.json", "collection.json")
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe must not block
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalTransport:
    """Opens files below the directory of SOURCE, and of other `allowed` directories (`--allow-local`)."""

    def __init__(self, source: str, *, allowed: Sequence[str] = ()) -> None:
        self._url = source
        self._source = path_of(source)
        self._allowed = allowed

    async def send(self, request: Request) -> "LocalResponse":
        with ExitStack() as opened:  # closes the file of a request that is cancelled
            path, stream, file_stat = await shielded_to_thread(lambda: self._open(request.url, opened))
            opened.pop_all()
        return LocalResponse(request, path, stream, file_stat)

    async def close(self) -> None: ...  # it has no connection

    def _open(self, url: str, opened: ExitStack) -> tuple[Path, BinaryIO, os.stat_result]:
        shown_path = path_of(url)
        try:
            path, descriptor = self._open_allowed(url)
            file_stat = os.fstat(descriptor)
            if not stat.S_ISREG(file_stat.st_mode):
                os.close(descriptor)
                raise _disk_error(FailureKind.HTTP, f"{shown_path} is not a file that can be read.")
            return path, opened.enter_context(os.fdopen(descriptor, "rb", buffering=0)), file_stat
        except (FileNotFoundError, NotADirectoryError):
            kind = FailureKind.GONE
            if shown_path != self._source and not os.path.exists(self._source):  # noqa: PTH110 -- never raises
                kind = FailureKind.DOWN
                shown_path = self._source  # moved, or its disk is not mounted
            raise _disk_error(kind, f"There is no file {shown_path}.") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = getattr(error, "strerror", None) or str(error)
            raise _disk_error(FailureKind.HTTP, f"{shown_path} cannot be read: {why}.") from None

    def _open_allowed(self, url: str) -> tuple[Path, int]:
        directory = self._source
        directory_url = self._url.rstrip("/")
        if not directory.is_dir():
            directory = directory.parent
            directory_url = directory_url.rpartition("/")[0]
        path = path_of(url)
        if url.startswith(f"{directory_url}/"):
            # hrefs in files are mostly plain paths, as pystac reads them: they may contain `%`, `?` and `#`
            unquoted_path = directory / url[len(directory_url) :].lstrip("/")
            if os.path.exists(unquoted_path):  # noqa: PTH110 -- never raises
                path = unquoted_path
        real_path = path.resolve(strict=True)
        if path == self._source:
            if real_path.is_dir():
                indexes = [path / name for name in _INDEX_NAMES if (path / name).is_file()]
                if not indexes:
                    what = f"The directory {path} does not contain {' or '.join(_INDEX_NAMES)}: name a file."
                    raise _disk_error(FailureKind.GONE, what)
                path = indexes[0]
            return path, os.open(path, _FLAGS)
        roots = [directory.resolve()]
        roots += [expand_user(allowed).resolve() for allowed in self._allowed]
        for root in roots:
            if real_path.is_relative_to(root):
                return path, _open_below(root, real_path)
        message = (
            f"{path} is not below the directory of SOURCE ({roots[0]}), so it is not opened. "
            "--allow-local DIR allows another directory."
        )
        raise _disk_error(FailureKind.SCHEME, message)


class InputTransport(LocalTransport):
    """Opens the stored SOURCE for every request, so that its hrefs cannot open other files."""

    async def send(self, request: Request) -> "LocalResponse":
        return await super().send(replace(request, url=self._url))

    def _open_allowed(self, _url: str) -> tuple[Path, int]:  # DEST may have been prepared by someone else
        return self._source, _open_below(self._source.parents[2], self._source)


def _open_below(root: Path, real_path: Path) -> int:
    """Open the file at a resolved path below `root`. A symlink that has replaced a part of it is refused."""
    *directories, name = real_path.relative_to(root).parts or (".",)
    directory_fd = os.open(root, _DIRECTORY)
    try:
        for directory in directories:
            inner_fd = os.open(directory, _DIRECTORY, dir_fd=directory_fd)
            os.close(directory_fd)
            directory_fd = inner_fd
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=directory_fd)
    finally:
        os.close(directory_fd)


class LocalResponse:
    def __init__(self, request: Request, path: Path, stream: BinaryIO, file_stat: os.stat_result) -> None:
        requested_fields = {name.lower(): value for name, value in request.headers.items()}
        size = file_stat.st_size
        etag = f'"{file_stat.st_ino:x}-{file_stat.st_mtime_ns:x}-{size:x}"'
        fields = {b"etag": etag.encode(), b"accept-ranges": b"bytes"}
        self.status = 200
        sent = range(size)
        requested = requested_range(requested_fields.get("range", ""))
        if requested_fields.get("if-none-match") == etag:
            self.status = 304
            sent = range(0)
        elif requested and requested_fields.get("if-range") in {None, etag}:
            sent = sent[requested]
            self.status = 206 if sent else 416
            span = f"{sent[0]}-{sent[-1]}" if sent else "*"
            fields[b"content-range"] = f"bytes {span}/{size}".encode()
        fields[b"content-length"] = str(len(sent)).encode()
        stream.seek(sent.start)
        self._stream = stream
        self._length = 0 if request.method == "HEAD" else len(sent)
        self.headers = HeaderFields(fields)
        self.url = path.as_uri()  # of a directory, the URL of the document in it, to which links are relative

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:
        remaining = self._length
        while remaining:
            try:
                chunk = await shielded_to_thread(partial(self._stream.read, min(size, remaining)))
            except OSError as error:
                message = f"{path_of(self.url)} cannot be read: {error.strerror}."
                raise _disk_error(FailureKind.HTTP, message) from error
            if not chunk:
                message = f"{path_of(self.url)} became shorter while it was read."
                raise _disk_error(FailureKind.TRUNCATED, message)
            remaining -= len(chunk)
            yield chunk

    async def close(self) -> None:
        await shielded_to_thread(self._stream.close)


def _disk_error(kind: FailureKind, message: str) -> TransferError:
    return TransferError(Failure(kind, message, host="this disk"))


def transport(setup: TransportSetup) -> LocalTransport | None:
    if not setup.source.startswith("file:///"):
        return None
    return LocalTransport(setup.source, allowed=setup.options.allow_local)


def input_transport(setup: TransportSetup) -> LocalTransport | None:
    if setup.input_file is None:
        return None
    return InputTransport(setup.input_file.as_uri())
