"""AWS credentials, region and endpoint, as the AWS CLI would find them; resolved at the first S3 request.

Keys in the environment or the shared files, the usual cases, are read here (`static_setup`). Everything else
that the AWS CLI supports (SSO, assumed roles, processes, service-specific endpoints) is left to botocore,
whose import takes 0.3 s and 25 MB.

The instance metadata services (169.254.*) are used only with `allow_instance_metadata`. Outside of a cloud
the request would time out, and on a shared machine the credentials are not the user's own.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import msgspec

from stacpull.config.environment import all_variables
from stacpull.config.options import S3Options
from stacpull.errors import CredentialsError, DestinationError, StacpullError
from stacpull.sigv4 import Credentials, silence_metadata

P = ParamSpec("P")
T = TypeVar("T")

_UNREAD = object()
_STATIC = object()
"""The source of credentials that never expire."""

_UNDERSTOOD_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN",
        "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
        "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED",
        "AWS_CA_BUNDLE", "AWS_DEFAULT_OUTPUT", "AWS_EXECUTION_ENV", "AWS_MAX_ATTEMPTS", "AWS_PAGER",
        "AWS_RETRY_MODE", "AWS_SDK_LOAD_CONFIG", "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_HTTPS", "AWS_NO_SIGN_REQUEST", "AWS_REQUEST_PAYER", "AWS_S3_ENDPOINT", "AWS_VIRTUAL_HOSTING",
    }
)  # fmt: skip
"""Variables that are read here, and variables (also of GDAL) that do not affect settings and keys."""
_PROFILE_VARIABLES = frozenset({"AWS_PROFILE", "AWS_DEFAULT_PROFILE"})
_ACCESS_KEY, _SECRET_KEY = "aws_access_key_id", "aws_secret_access_key"
_TOKEN_KEYS = ("aws_security_token", "aws_session_token")
_UNDERSTOOD_KEYS = frozenset({"region", "output", "endpoint_url", _ACCESS_KEY, _SECRET_KEY, *_TOKEN_KEYS})
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.@+-]+")
_PLAIN_SECTION = re.compile(r"[ !#-&(-\[\]-~]*")
"""A section name without quotes and backslashes."""
_BOTO_FILES = ("/etc/boto.cfg", "~/.boto")


class AwsSettings(msgspec.Struct, frozen=True):
    """The S3 settings, from the options or the profile; None if not configured."""

    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    """The profile named by an option or the environment; None for the default profile."""


class StaticSetup(NamedTuple):
    """Settings and fixed credentials; without credentials, requests are anonymous."""

    settings: AwsSettings
    credentials: Credentials | None


class _UnclearError(Exception):
    """The configuration is left to botocore."""


def static_setup(
    options: S3Options, environ: Mapping[str, str], *, allow_instance_metadata: bool = False
) -> StaticSetup | None:
    """Return what botocore would find if that is certain; None if botocore must read the configuration.

    It is certain if nothing is configured, or only keys, a region and an endpoint, in variables and profiles
    that this module understands. Mistakes in them are left to botocore, which describes them. Blocks.

    Args:
        options: The user's options.
        environ: The environment.
        allow_instance_metadata: True if the metadata services may have credentials.
    """
    try:
        profiles = _profiles(options, environ)
        merged = {key: value for profile in profiles for key, value in profile.items()}
        settings = AwsSettings(
            options.region or environ.get("AWS_DEFAULT_REGION", merged.get("region")),
            options.endpoint_url or merged.get("endpoint_url") or None,
            options.profile,
        )
        keys = None if options.no_sign_request else _static_keys(options, environ, profiles)
    except _UnclearError:
        return None
    may_be_elsewhere = allow_instance_metadata or any(map(_file, _BOTO_FILES))
    if keys is None and may_be_elsewhere and not options.no_sign_request:
        return None
    return StaticSetup(settings, keys)


def _profiles(options: S3Options, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the active sections of the shared files; later ones take precedence.

    Raises:
        _UnclearError: They, or the environment, have settings that this module does not understand.
    """
    understood = _UNDERSTOOD_VARIABLES | (_PROFILE_VARIABLES if options.profile else frozenset())
    name = options.profile or "default"
    config = _sections(environ.get("AWS_CONFIG_FILE", "~/.aws/config"))
    shared = _sections(environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    profiles = [values for section, values in config.items() if _is_profile(section, name)]
    is_clear = (
        all(variable in understood for variable in environ if variable.startswith(("AWS_", "BOTO")))
        and options.profile != ""
        and _PLAIN_NAME.fullmatch(name)
        and all(map(_PLAIN_SECTION.fullmatch, config))
        and len(profiles) <= 1
        and (options.profile is None or profiles or name in shared)
    )
    profiles += [shared[name]] if name in shared else []
    entries = [entry for profile in profiles for entry in profile.items()]
    if not is_clear or any(key not in _UNDERSTOOD_KEYS or value.startswith("\n") for key, value in entries):
        raise _UnclearError
    return profiles


def _sections(name: str) -> dict[str, dict[str, str]]:
    """Return the sections of a shared file, or nothing if the file does not exist."""
    path = _file(name)
    if path is None:
        return {}
    from configparser import Error, RawConfigParser  # noqa: PLC0415 -- few machines have these files

    parser = RawConfigParser()
    try:
        parser.read([path])
    except (Error, UnicodeDecodeError):
        raise _UnclearError from None
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _file(name: str) -> str | None:
    """Return the path of a file as botocore finds it, None if there is none. Never raises."""
    path = os.path.expanduser(os.path.expandvars(name))  # noqa: PTH111 -- see above
    return path if os.path.isfile(path) else None  # noqa: PTH113 -- see above


def _is_profile(section: str, name: str) -> bool:
    """Return True if a section of the config file is the profile `name`, as botocore reads it."""
    return section == name == "default" or (section.startswith("profile") and section.split()[1:] == [name])


def _static_keys(
    options: S3Options, environ: Mapping[str, str], profiles: Sequence[Mapping[str, str]]
) -> Credentials | None:
    """Return the keys that are in the environment or the profiles; None if there are none.

    Raises:
        _UnclearError: Only one of the two keys is present.
    """
    if options.profile is None and environ.get("AWS_ACCESS_KEY_ID"):
        token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or None
        keys = environ["AWS_ACCESS_KEY_ID"], environ.get("AWS_SECRET_ACCESS_KEY")
    else:
        profile = next((one for one in reversed(profiles) if _ACCESS_KEY in one), None)
        if profile is None:
            return None
        token = next((profile[key] for key in _TOKEN_KEYS if key in profile), None)
        keys = profile[_ACCESS_KEY], profile.get(_SECRET_KEY)
    if not keys[1]:
        raise _UnclearError
    return Credentials(keys[0], keys[1], token)


class AwsCredentials:
    """Credentials and settings of one run, resolved at the first use. Credentials are refreshed when due.

    Files are read in a thread. All of botocore's work is done in a thread with its own loop.
    """

    def __init__(self, options: S3Options, *, allow_instance_metadata: bool = False) -> None:
        """Create the credentials; nothing is read or imported yet.

        Args:
            options: the user's options; they take precedence over what botocore finds.
            allow_instance_metadata: True if botocore may use the metadata services of cloud machines.
        """
        self._options = options
        self._allow_instance_metadata = allow_instance_metadata
        keys = None if options.no_sign_request else options.keys
        self._keys = None if keys is None else Credentials(keys[0].reveal(), keys[1].reveal(), None)
        self._lock = asyncio.Lock()
        self._settings: AwsSettings | None = None
        self._session: Any = None
        self._source: Any = _UNREAD
        self._last: Credentials | None = None

    async def settings(self) -> AwsSettings:
        """Return the active region, endpoint and profile.

        Raises:
            CredentialsError: the profile does not exist, or the shared files cannot be read.
        """
        if self._settings is None:
            async with self._lock:
                if self._settings is None:  # another task may have read it
                    self._settings = await self._resolve()
        return self._settings

    async def frozen(self) -> Credentials | None:
        """Return the current credentials, or None if there are none (or the user wants none).

        Raises:
            CredentialsError: they are configured but cannot be loaded (expired SSO session, denied role).
        """
        if self._keys is not None:
            return self._keys
        await self.settings()
        source = self._source
        if source is _UNREAD:
            source = await self._sourced()
        if source is None or source is _STATIC:
            return self._last
        if _is_due(source):
            async with self._lock:
                if _is_due(source):
                    return self._noted(await _apart(source.get_frozen_credentials()))
        return self._noted(await source.get_frozen_credentials())

    def known(self, *, signing: bool) -> tuple[AwsSettings, Credentials | None] | None:
        """Return settings and credentials like `settings` and `frozen`; None if those would have to wait.

        Args:
            signing: False if no credentials are wanted.
        """
        settings, source = self._settings, self._source
        if settings is None or not signing:
            return None if settings is None else (settings, None)
        if self._keys is not None:
            return settings, self._keys
        if source is None or source is _STATIC:
            return settings, self._last
        if source is _UNREAD or self._last is None or _is_due(source):
            return None
        return settings, self._last

    async def renew(self, expired: Credentials) -> Credentials | None:
        """Return new credentials after S3 rejected `expired` ones, read again unless that was already done.

        Raises:
            CredentialsError: They cannot be loaded.
        """
        async with self._lock:
            if self._last is expired:
                await self._resolve()
        return await self.frozen()

    def _noted(self, now: Any) -> Credentials:
        """Convert botocore's frozen credentials. Equal credentials give the same object."""
        last = self._last
        if last is None or last.secret_key != now.secret_key or last.token != now.token:
            self._last = last = Credentials(now.access_key, now.secret_key, now.token)
        return last

    async def _resolve(self) -> AwsSettings:
        """Read everything again. The lock must be held."""
        options = self._options
        if (options.no_sign_request or self._keys is not None) and options.profile is None:
            self._settings = AwsSettings(options.region, options.endpoint_url)
            return self._settings
        metadata = self._allow_instance_metadata
        static = await _in_thread(static_setup, options, all_variables(), allow_instance_metadata=metadata)
        if static is not None:
            self._settings, self._last = static
            self._source = _STATIC
            return static.settings
        self._session, settings = await _in_thread(self._read)
        self._settings, self._source, self._last = settings, _UNREAD, None
        return settings

    async def _sourced(self) -> Any:
        """Read the credentials. Only needed to sign, because it may fail."""
        async with self._lock:
            if self._source is _UNREAD:
                unsigned = self._options.no_sign_request
                self._source = None if unsigned else await _apart(self._session.get_credentials())
            return self._source

    def _read(self) -> tuple[Any, AwsSettings]:
        """Return a session of aioboto3 and the settings. Slow: runs in a thread."""
        import aioboto3  # noqa: PLC0415 - 0.3 s and 40 MB, only if S3 is used
        from aiobotocore.session import get_session  # noqa: PLC0415 - see above

        core = get_session()
        session = aioboto3.Session(botocore_session=core, profile_name=self._options.profile)
        if not self._allow_instance_metadata:
            silence_metadata(core, _nothing)
        return session, _settings(core, self._options)


async def _in_thread(work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Do botocore's `work` in a thread, and translate its errors."""
    try:
        return await asyncio.to_thread(work, *values, **named)
    except Exception as error:
        raise _translated(error) from error


async def _apart(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine of botocore to its end in a thread with its own loop."""
    try:
        return await _in_thread(asyncio.run, work)
    finally:
        if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:  # the run ended before it started
            work.close()


def _is_due(source: Any) -> bool:
    """Return True if credentials must be refreshed before they are used; fixed ones never must."""
    needed = getattr(source, "refresh_needed", None)
    return needed is not None and bool(needed())


async def _nothing() -> None:
    """Return None: no credentials."""


def _settings(core: Any, options: S3Options) -> AwsSettings:
    """Return the user's options, completed by the settings of the session."""
    return AwsSettings(
        region=options.region or core.get_config_variable("region"),
        endpoint_url=options.endpoint_url or _endpoint_of_profile(core),
        profile=options.profile or core.profile,
    )


def _endpoint_of_profile(core: Any) -> str | None:
    """Return the endpoint in the shared config file for S3, or for all services.

    Source: AWS SDKs and Tools Reference Guide, "Service-specific endpoints". `config` reads the environment.
    """
    if core.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    profile = core.get_scoped_config()
    services = core.full_config.get("services", {}).get(profile.get("services"), {})
    found = services.get("s3", {}).get("endpoint_url") or profile.get("endpoint_url")
    return str(found) if found else None


def _translated(error: Exception) -> StacpullError:
    """Translate an error of botocore. Its messages name profiles and files, never secrets."""
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return DestinationError("Too many open files: raise `ulimit -n` or lower --concurrency.")
    return CredentialsError(
        f"AWS credentials cannot be obtained ({str(error).rstrip('.')}); "
        "check the profile, sign in again, or use --no-sign-request."
    )
