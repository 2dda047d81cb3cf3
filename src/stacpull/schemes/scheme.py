"""The base class of URL schemes.

A scheme is one subclass in one module of this package, plus one line in `stacpull.schemes`. The class
attributes and the rules (`join`, `filename`, `is_prefix`) are pure and cheap, and used by the whole program.
The other methods import their modules when they are called, so that a run without `s3://` URLs imports
nothing for S3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, uses_relative

import msgspec

if TYPE_CHECKING:
    from stacpull.clock import Clock
    from stacpull.config.options import Options
    from stacpull.net.client import Client
    from stacpull.net.transport import Transport
    from stacpull.planning.prefixes import ListedObject
    from stacpull.redact import Secrets


class TransportSetup(msgspec.Struct, frozen=True):
    """The objects that a scheme may use for its transport."""

    http: Transport
    """Sends requests over http and https. It is shared, and closed by its owner."""
    source: str
    """The URL of SOURCE."""
    options: Options
    clock: Clock
    variables: Mapping[str, str]
    """The environment. A scheme that needs a key reads it from here and adds it to `secrets`."""
    secrets: Secrets
    """The secrets that are removed from all output."""
    input_file: Path | None = None
    """The file with the lines of standard input, if that is SOURCE."""


class Scheme:
    """The rules of one URL scheme. The defaults are those of a plain `name://host/path`.

    Attributes:
        name: The scheme in lower case.
        default_port: The port of a URL without one; None if the scheme has no ports.
        is_web: True for HTTP to the host in the URL. Only these URLs have a query and a fragment, get the
            credentials of SOURCE or of a login, and can be a STAC API.
        is_encrypted: True if transfers are encrypted. A redirect from an encrypted URL to an unencrypted one
            is refused unless SOURCE itself is not encrypted.
        is_remote: True if any document or redirect may use such a URL. False for local data: only SOURCE, and
            documents read from the same scheme, may use it.
        is_object_store: True if the URL is a bucket and a key, and `list_prefix` lists keys.
        has_md5_etags: True if an ETag of 32 hexadecimal digits is the MD5 of the content.
        key_variables: Names of environment variables with keys. They are sent to Dask workers, over private
            connections only.
    """

    name: str
    default_port: int | None = None
    is_web: bool = False
    is_encrypted: bool = False
    is_remote: bool = True
    is_object_store: bool = False
    has_md5_etags: bool = False
    key_variables: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Scheme {self.name}>"

    def join(self, base: str, href: str) -> str:
        """Return a relative href as an absolute URL (RFC 3986, 5.2).

        Args:
            base: The URL that `href` is relative to, of this scheme.
            href: An href without a scheme.

        Raises:
            ValueError: The result is not a valid URL.
        """
        if self.name in uses_relative:
            return urljoin(base, href)
        rest = base[len(self.name) :]  # `urljoin` supports only schemes that it knows
        return self.name + urljoin(f"http{rest}", href)[len("http") :]

    def filename(self, url: str) -> str:
        """Return the last segment of the path, percent-decoded once; empty if there is none."""
        path = url.partition("://")[2].partition("?")[0].partition("#")[0].partition("/")[2]
        name = path.rpartition("/")[2]
        return unquote(name) if "%" in name else name

    def is_prefix(self, url: str) -> bool:
        """Return whether `url` is a bucket, or a key that ends with a slash."""
        return self.is_object_store and (url.endswith("/") or "/" not in url.partition("://")[2])

    def has_credentials(self, options: Options) -> bool:  # noqa: ARG002 - most schemes have none
        """Return whether the options contain credentials for this scheme, not for a host."""
        return False

    def transport(self, setup: TransportSetup) -> Transport | None:
        """Return the transport for URLs of this scheme, or None if this run does not need one."""
        raise NotImplementedError

    async def list_prefix(self, client: Client, prefix: str) -> tuple[ListedObject, ...]:
        """Return the objects whose URLs begin with `prefix`. Their names are the rest of the URL, and unique.

        Args:
            client: Sends the requests.
            prefix: A URL of this scheme that ends with a slash.

        Raises:
            TransferError: The prefix cannot be listed; PREFIX if it is empty or has too many objects.
            CredentialsError: Credentials are configured but cannot be obtained.
        """
        raise NotImplementedError
