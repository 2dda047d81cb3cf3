"""`file:///path` and `stdin:`: local data, only for SOURCE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stacpull.schemes.scheme import Scheme, TransportSetup

if TYPE_CHECKING:
    from stacpull.net.transport import Transport


class File(Scheme):
    """A file below the directory of SOURCE (RFC 8089)."""

    name = "file"
    is_remote = False

    def transport(self, setup: TransportSetup) -> Transport | None:
        """Return a transport that opens files, if SOURCE is a file."""
        from stacpull.transfer.local import LocalTransport  # noqa: PLC0415 - only where SOURCE is local

        if not setup.source.startswith("file:///"):
            return None
        return LocalTransport(setup.source, allowed=setup.options.allow_local)


class Stdin(Scheme):
    """The lines of standard input, which are saved to a file."""

    name = "stdin"
    is_remote = False

    def join(self, base: str, href: str) -> str:
        """Raise ValueError: lines have no URL that an href could be relative to."""
        raise ValueError(base, href)

    def transport(self, setup: TransportSetup) -> Transport | None:
        """Return a transport that reads the saved file, if SOURCE is standard input."""
        from stacpull.transfer.local import LocalTransport  # noqa: PLC0415 - only where SOURCE is local

        file = setup.input_file
        return None if file is None else LocalTransport(file.as_uri(), only_source=True)
