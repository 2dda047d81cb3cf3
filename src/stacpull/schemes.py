"""The URL schemes that stacpull knows.

A scheme is one subclass of `Scheme`, plus one line in `SCHEMES`. The class attributes and the rules (`join`,
`filename`, `is_prefix`) are pure and cheap, and used by the whole program. The other methods use an object
that is named by text (`maker`, or an entry point), so that a run without `s3://` URLs imports nothing for S3.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
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
        maker: `module:function` of the function that makes its transport; its module also has `list_prefix`
            for an object store.
    """

    name: str
    default_port: int | None = None
    is_web: bool = False
    is_encrypted: bool = False
    is_remote: bool = True
    is_object_store: bool = False
    has_md5_etags: bool = False
    key_variables: tuple[str, ...] = ()
    maker: str = ""

    def __repr__(self) -> str:
        return f"<Scheme {self.name}>"

    def join(self, base: str, href: str) -> str:
        """Return `href`, which has no scheme and is relative to `base`, as an absolute URL (RFC 3986, 5.2).

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
        module, _, function = self.maker.partition(":")
        made: Transport | None = getattr(import_module(module), function)(setup)
        return made

    async def list_prefix(self, client: Client, prefix: str) -> tuple[ListedObject, ...]:
        """Return the objects whose URLs begin with `prefix`, which ends with a slash, by the rest of the URL.

        Raises:
            TransferError: The prefix cannot be listed; PREFIX if it is empty or has too many objects.
            CredentialsError: Credentials are configured but cannot be obtained.
        """
        module: Any = import_module(self.maker.partition(":")[0])
        found: tuple[ListedObject, ...] = await module.list_prefix(client, prefix)
        return found


class Http(Scheme):
    """Plain HTTP."""

    name = "http"
    default_port = 80
    is_web = True

    def transport(self, setup: TransportSetup) -> Transport:
        return setup.http


class Https(Http):
    name = "https"
    default_port = 443
    is_encrypted = True


class File(Scheme):
    """A file below the directory of SOURCE (RFC 8089)."""

    name = "file"
    is_remote = False
    maker = "stacpull.transfer.local:transport"


class Stdin(Scheme):
    """The lines of standard input, which are saved to a file."""

    name = "stdin"
    is_remote = False
    maker = "stacpull.transfer.local:input_transport"

    def join(self, base: str, href: str) -> str:
        """Raise ValueError: lines have no URL that an href could be relative to."""
        raise ValueError(base, href)


class S3(Scheme):
    """`s3://bucket/key`: objects of Amazon S3 and compatible services, signed or anonymous.

    A key is not the path of a URL: `%`, `?` and `#` are ordinary characters of a key.
    """

    name = "s3"
    is_encrypted = True
    is_object_store = True
    has_md5_etags = True
    key_variables = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    maker = "stacpull.transfer.s3:transport"

    def filename(self, url: str) -> str:
        """Return the last segment of the key, without decoding."""
        return url.rpartition("/")[2]

    def has_credentials(self, options: Options) -> bool:
        s3 = options.s3
        return bool(s3.keys or s3.endpoint_url or s3.request_payer or s3.buckets)


class Cloud(Scheme):
    """Objects of another cloud, which a package reads that registers the scheme (`stacpull.schemes`)."""

    is_encrypted = True
    is_object_store = True

    def __init__(self, name: str, key_variables: tuple[str, ...]) -> None:
        self.name = name
        self.key_variables = key_variables

    def filename(self, url: str) -> str:
        """Return the last segment of the key, without decoding."""
        return url.rpartition("/")[2]

    def transport(self, setup: TransportSetup) -> Transport | None:
        """Return a transport for objects; None if no package has one."""
        from stacpull.entry_points import load  # noqa: PLC0415 - only where such URLs are used

        kind = load("stacpull.schemes", self.name)
        made: Transport | None = None if kind is None else kind.transport(setup)
        return made

    async def list_prefix(self, client: Client, prefix: str) -> tuple[ListedObject, ...]:
        from stacpull.entry_points import require  # noqa: PLC0415 - see above

        found: tuple[ListedObject, ...] = await require(
            "stacpull.schemes", self.name, f"{self.name}://"
        ).list_prefix(client, prefix)
        return found


_AZURE_KEYS = (
    "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
)  # fmt: skip
_CLOUDS = (Cloud("gs", ()), *(Cloud(name, _AZURE_KEYS) for name in ("az", "abfs", "abfss")))
SCHEMES: dict[str, Scheme] = {one.name: one for one in (Http(), Https(), S3(), *_CLOUDS, File(), Stdin())}
"""The schemes by name in lower case."""


def remote_schemes() -> list[str]:
    return [name for name, scheme in SCHEMES.items() if scheme.is_remote]
