"""The URL schemes that stacpull knows. Rules are pure and cheap; transports are imported when used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin

import msgspec

from stacpull import entry_points

if TYPE_CHECKING:
    from stacpull.clock import Clock
    from stacpull.config.options import Options
    from stacpull.net.addresses import AddressPolicy
    from stacpull.net.client import Client
    from stacpull.net.transport import Transport
    from stacpull.planning.prefixes import ListedObject
    from stacpull.redact import Secrets


class TransportSetup(msgspec.Struct, frozen=True):
    http: Transport  # for http and https; it is shared, and closed by its owner
    source: str
    options: Options
    clock: Clock
    secrets: Secrets  # to which a transport adds the keys that it reads
    ip_policy: AddressPolicy  # judges each address before a transport connects to it
    input_file: Path | None = None  # the file with the lines of standard input, if that is SOURCE


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one URL scheme. The defaults are those of a plain `name://host/path`."""

    name: str
    default_port: int | None = None  # of a URL without one; None if the scheme has no ports
    is_web: bool = False  # HTTP to the host in the URL: only these get a query and credentials, or are APIs
    is_encrypted: bool = False  # if SOURCE is, redirects to URLs that are not are refused
    is_remote: bool = True  # false for local data: only SOURCE and documents of the same scheme refer to it
    is_object_store: bool = False  # True if the URL is a bucket and a key: `%`, `?` and `#` are ordinary
    has_md5_etags: bool = False
    key_variables: tuple[str, ...] = ()
    """Environment variables with keys. They are sent to Dask workers, over private connections only."""
    factory: str = ""
    """`module:function`, a factory of its transport; the module of an object store also has `list_prefix`. If
    empty, a package registers an object with both (`stacpull.schemes`), and `key_variables`."""

    def join(self, base: str, href: str) -> str:
        """Join an `href` without scheme (RFC 3986, 5.2). Raises ValueError if the result is not valid."""
        # as http: `urljoin` supports only schemes that it knows
        return self.name + urljoin(f"http{base[len(self.name) :]}", href)[len("http") :]

    def filename(self, url: str) -> str:
        """Return the last segment of a path; percent-decoded, unless it is a key. Empty if there is none."""
        if ("?" in url or "#" in url) and not self.is_object_store:
            url = url.partition("?")[0].partition("#")[0]
        before, _, name = url.rpartition("/")
        if before.endswith(":/"):
            return ""  # it is the host
        return unquote(name) if "%" in name and not self.is_object_store else name

    def transport(self, setup: TransportSetup) -> Transport | None:
        make = getattr(self._implementation(), self.factory.partition(":")[2] or "transport", None)
        transport: Transport | None = make and make(setup)
        return transport

    async def list_prefix(self, client: Client, prefix: str) -> tuple[ListedObject, ...]:
        """Return the objects whose URLs begin with `prefix`, which ends with a slash, by the rest of the URL.

        Raises TransferError (PREFIX if it is empty or has too many objects) or CredentialsError.
        """
        objects: tuple[ListedObject, ...] = await self._implementation().list_prefix(client, prefix)
        return objects

    def _implementation(self) -> Any:
        if self.factory:
            return import_module(self.factory.partition(":")[0])
        return entry_points.load("stacpull.schemes", self.name)


UNKNOWN = Scheme(name="", is_remote=False)
SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(name="http", default_port=80, is_web=True),
        Scheme(name="https", default_port=443, is_web=True, is_encrypted=True),
        Scheme(
            name="s3",
            is_encrypted=True,
            is_object_store=True,
            has_md5_etags=True,
            key_variables=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
            factory="stacpull.transfer.s3:transport",
        ),
        Scheme(name="file", is_remote=False, factory="stacpull.transfer.local:transport"),
        Scheme(name="stdin", is_remote=False, factory="stacpull.transfer.local:input_transport"),
    )
}


def scheme_named(name: str) -> Scheme:
    """Return the rules of a scheme. The scheme of a package is that of an encrypted object store."""
    scheme = SCHEMES.get(name)
    if scheme is None and entry_points.target_of("stacpull.schemes", name):
        return Scheme(name=name, is_encrypted=True, is_object_store=True)
    return scheme or UNKNOWN


def remote_schemes() -> list[str]:
    """Return the names of the schemes that are fetched, for messages: ours, and those of our neighbours."""
    names = [*SCHEMES, *entry_points.names("stacpull.schemes")]
    return [name for name in names if scheme_named(name).is_remote]


def bucket_prefixes() -> str:
    return ", ".join(f"{name}://" for name in remote_schemes() if scheme_named(name).is_object_store)
