"""AWS credentials, region and endpoint, as the AWS CLI would find them; resolved at the first S3 request.

SOURCE and a bucket as DEST use them. What `static_setup` does not understand is left to botocore.

The instance metadata services (169.254.*) are used only with `allow_instance_metadata`. Outside of a cloud
the request would time out, and on a shared machine the credentials are not the user's own.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from stacpull.aws_settings import AwsSettings, static_setup, without_unknown_home
from stacpull.errors import CredentialsError, DestinationError, StacpullError
from stacpull.sigv4 import Credentials

P = ParamSpec("P")
T = TypeVar("T")

_METADATA_PROVIDERS = ("iam-role", "container-role")
"""Providers of credentials that use the metadata services of cloud machines (169.254.…)."""
_UNREAD = object()
_STATIC = object()
"""The source of credentials that never expire."""


class AwsCredentials:
    """Credentials and settings of one run, resolved at the first use. Credentials are refreshed when due.

    Files are read in a thread. All of botocore's work is done in a thread with its own loop.
    """

    def __init__(
        self,
        given: AwsSettings,
        *,
        keys: Credentials | None = None,
        no_sign_request: bool = False,
        allow_instance_metadata: bool = False,
    ) -> None:
        """Create the credentials; nothing is read or imported yet.

        Args:
            given: The user's settings; they take precedence over what botocore finds.
            keys: The credentials, if they are known.
            no_sign_request: True if no credentials are wanted.
            allow_instance_metadata: True if botocore may use the metadata services of cloud machines.
        """
        self._given = given
        self._no_sign_request = no_sign_request
        self._allow_instance_metadata = allow_instance_metadata
        self._keys = None if no_sign_request else keys
        self._lock = asyncio.Lock()
        self._settings: AwsSettings | None = None
        self._core: Any = None
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

    def variable(self, name: str) -> Any:
        """Return a setting of botocore by its name; None if it is not set, or botocore was not needed."""
        return None if self._core is None else self._core.get_config_variable(name)

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
        given = self._given
        if (self._no_sign_request or self._keys is not None) and given.profile is None:
            self._settings = AwsSettings(given.region, given.endpoint_url)
            return self._settings
        static = await _in_thread(
            static_setup,
            given.profile,
            given.region,
            given.endpoint_url,
            no_sign_request=self._no_sign_request,
            allow_instance_metadata=self._allow_instance_metadata,
        )
        if static is not None:
            self._settings, self._last = static
            self._source = _STATIC
            return static.settings
        self._core, self._session, settings = await _in_thread(self._read)
        self._settings, self._source, self._last = settings, _UNREAD, None
        return settings

    async def _sourced(self) -> Any:
        """Read the credentials. Only needed to sign, because it may fail."""
        async with self._lock:
            if self._source is _UNREAD:
                unsigned = self._no_sign_request
                self._source = None if unsigned else await _apart(self._session.get_credentials())
            return self._source

    def _read(self) -> tuple[Any, Any, AwsSettings]:
        """Return sessions of aiobotocore and aioboto3, and the settings. Slow: runs in a thread."""
        import aioboto3  # noqa: PLC0415 - 0.3 s and 40 MB, only if S3 is used
        from aiobotocore.session import AioSession  # noqa: PLC0415 - see above

        core = AioSession(profile=self._given.profile)
        without_unknown_home(core)
        session = aioboto3.Session(botocore_session=core)
        if not self._allow_instance_metadata:
            _silence_metadata(core)
        return core, session, _settings(core, self._given)


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


def _silence_metadata(session: Any) -> None:
    """Prevent a session of aiobotocore from using the metadata services of cloud machines.

    Their providers stay in the chain, because assumed roles (`credential_source`) hold the same objects.

    Raises:
        ProfileNotFound: The profile of the session does not exist (from botocore).
    """
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD in _METADATA_PROVIDERS:
            provider.load = _nothing
    # "auto" asks the metadata service for the region when a client is made
    session.set_config_variable("defaults_mode", "legacy")


async def _nothing() -> None:
    """Return None: no credentials."""


def _settings(core: Any, given: AwsSettings) -> AwsSettings:
    """Return the user's settings, completed by those of the session."""
    return AwsSettings(
        region=given.region or core.get_config_variable("region"),
        endpoint_url=given.endpoint_url or _endpoint_of_profile(core),
        profile=given.profile or core.profile,
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
