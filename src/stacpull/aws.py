"""AWS credentials, region and endpoint, as the AWS CLI would find them; and signatures of requests to S3.

They are resolved at the first S3 request. botocore reads them in a thread, because it may wait for a service.
It is slow to import, so not if only the environment has keys, and slow at signing, which is done here.

Source: AWS General Reference, "Create a signed AWS API request"; S3 API Reference, "Authenticating Requests:
Using the Authorization Header" (the path is encoded once, never normalised).
"""

import asyncio
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
import msgspec

from stacpull.errors import CredentialsError
from stacpull.system import expanded_or_none

T = TypeVar("T")
Authorize = Callable[..., str]  # of a method, a path and perhaps a query, for `Authorization`

_METADATA_PROVIDERS = ("iam-role", "container-role")
_FILES = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
_PROFILES = frozenset({"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION"})

_EMPTY_BODY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9/_.~-]*")


@attrs.frozen
class Credentials:
    access_key: str
    secret_key: str = attrs.field(repr=False)
    token: str | None = attrs.field(default=None, repr=False)


class AwsSettings(msgspec.Struct, frozen=True):
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None  # named by an option or the environment; None for the default one


@attrs.define(eq=False, slots=False)
class AwsCredentials:
    """Credentials of one run, refreshed when due. What is given has precedence over what botocore finds."""

    _explicit: AwsSettings
    credentials: Credentials | None = None  # later the last ones, which may be outdated
    _no_sign_request: bool = False
    _allow_instance_metadata: bool = False
    _flag: str = "--credentials"  # the option that names a profile, for messages
    known_settings: AwsSettings | None = attrs.field(default=None, init=False)  # once they were resolved
    _session: Any = attrs.field(default=None, init=False)  # botocore's; None if `credentials` do not change
    _source: Any = attrs.field(default=None, init=False)  # botocore's credentials, once they were read
    _lock: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _is_fixed: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_fixed = self._no_sign_request or self.credentials is not None

    async def settings(self) -> AwsSettings:
        async with self._lock:
            return self.known_settings or await self._resolve()

    async def current(self) -> Credentials | None:
        if not self.are_current:
            await self.settings()
            async with self._lock:
                if not self.are_current:  # no other task has read them meanwhile
                    self.credentials = await self._in_thread(lambda: asyncio.run(self._read_credentials()))
        return self.credentials

    @property
    def are_current(self) -> bool:
        """True if `credentials` need not be read again, which may take a request to a service."""
        if self._session is None:
            return self.known_settings is not None
        is_due = getattr(self._source, "refresh_needed", bool)  # fixed credentials are never due
        return self.credentials is not None and not is_due()

    async def renew(self, expired: Credentials) -> Credentials | None:
        async with self._lock:
            if self.credentials == expired and not self._is_fixed:
                await self._resolve()
        return await self.current()

    async def _resolve(self) -> AwsSettings:
        explicit = self._explicit
        keys = None if self._is_fixed else await asyncio.to_thread(_only_in_environment, explicit)
        if keys is not None:
            region = explicit.region or os.environ.get("AWS_DEFAULT_REGION")
            settings = AwsSettings(region, explicit.endpoint_url)
            self._session = None
            self.credentials = keys
        elif self._is_fixed and explicit.profile is None:
            settings = AwsSettings(explicit.region, explicit.endpoint_url)
        else:
            session, settings = await self._in_thread(self._open_session)
            if not self._is_fixed:
                self._session = session
                self._source = None
                self.credentials = None
        self.known_settings = settings
        return settings

    def _open_session(self) -> tuple[Any, AwsSettings]:
        if expanded_or_none("~") is None:
            os.environ["HOME"] = os.devnull  # before the imports: botocore would read a directory named `~`
        import aioboto3  # noqa: PLC0415 - slow to import, and only needed for S3
        from aiobotocore.session import AioSession  # noqa: PLC0415 - see above

        explicit = self._explicit
        core = AioSession(profile=explicit.profile)
        if not self._allow_instance_metadata:
            # the providers stay in the chain, because assumed roles (`credential_source`) hold the same ones
            for provider in core.get_component("credential_provider").providers:
                if provider.METHOD in _METADATA_PROVIDERS:
                    provider.load = partial(asyncio.sleep, 0)  # no credentials
            # "auto" asks the metadata service for the region when a client is made
            core.set_config_variable("defaults_mode", "legacy")
        profile = core.get_scoped_config()
        endpoint = None
        if not core.get_config_variable("ignore_configured_endpoint_urls"):
            # AWS SDKs and Tools Reference Guide, "Service-specific endpoints"; variables are in `explicit`
            sections = core.full_config.get("services", {})
            services = sections.get(profile.get("services"), {})
            endpoint = services.get("s3", {}).get("endpoint_url") or profile.get("endpoint_url")
        region = explicit.region or core.get_config_variable("region")
        profile_name = explicit.profile or core.profile
        session = aioboto3.Session(botocore_session=core)
        return session, AwsSettings(region, explicit.endpoint_url or endpoint or None, profile_name)

    async def _read_credentials(self) -> Credentials | None:
        self._source = self._source or await self._session.get_credentials()
        if self._source is None:
            self._session = None  # there are none: do not search again
            return None
        keys = await self._source.get_frozen_credentials()
        return Credentials(keys.access_key, keys.secret_key, keys.token)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do botocore's `work` in a thread, and translate its errors, which name profiles and files only."""
        try:
            return await asyncio.to_thread(work)
        except Exception as error:
            hint = "" if "dest" in self._flag else " A public SOURCE needs none: --no-sign-request."
            advice, why = f"check {self._flag} and AWS_PROFILE.{hint}", str(error).rstrip(".")
            raise CredentialsError(f"AWS credentials cannot be obtained ({why}); {advice}") from error


def _only_in_environment(explicit: AwsSettings) -> Credentials | None:
    """Return the keys in the environment, if there is no profile and no AWS file. None: ask botocore."""
    environ = os.environ
    if explicit.profile or _PROFILES & environ.keys():
        return None
    for variable, usual in _FILES.items():
        file = expanded_or_none(environ.get(variable, usual))
        if file is not None and file.exists():
            return None
    key = environ.get("AWS_ACCESS_KEY_ID")
    secret = environ.get("AWS_SECRET_ACCESS_KEY")
    token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or None
    return Credentials(key, secret, token) if key and secret else None


def encode_key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else quote(key, safe="/-_.~")  # `quote` is slow


def signed_fields(
    headers: Mapping[str, str], credentials: Credentials, region: str, date: str
) -> tuple[dict[str, str], Authorize]:
    """Return the header fields of requests without a body, and a function that signs them.

    Names are in lower case, `date` is `YYYYMMDDTHHMMSSZ`. Methods and URLs of the requests may differ.
    """
    signed = {**headers, "x-amz-content-sha256": _EMPTY_BODY, "x-amz-date": date}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    lines = "\n".join([f"{name}:{' '.join(signed[name].split())}" for name in names])
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    key = _signing_key(date[:8], region, credentials.secret_key)
    listed = ";".join(names)
    prefix = f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={listed}, Signature="
    # the end of the canonical request
    after_query = f"\n{lines}\n\n{listed}\n{_EMPTY_BODY}".encode("utf-8", "surrogateescape")
    begun = hmac.new(key, f"{_ALGORITHM}\n{date}\n{scope}\n".encode(), "sha256")

    def authorize(method: str, path: str, query: str = "") -> str:
        ordered = ""
        if query:  # by name, then value; a parameter without a value is signed with an empty one
            pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
            ordered = "&".join([f"{name}={value}" for name, value in pairs])
        mac = begun.copy()  # faster than `hmac.digest`
        canonical = f"{method}\n{path}\n{ordered}".encode() + after_query
        mac.update(hashlib.sha256(canonical).hexdigest().encode())
        return prefix + mac.hexdigest()

    return signed, authorize


@lru_cache(64)
def _signing_key(day: str, region: str, secret: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for step in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key
