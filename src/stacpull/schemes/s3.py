"""`s3://bucket/key`: objects of Amazon S3 and compatible services.

A key is not the path of a URL: `%`, `?` and `#` are ordinary characters of a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stacpull.schemes.scheme import Scheme, TransportSetup

if TYPE_CHECKING:
    from stacpull.config.options import Options
    from stacpull.net.client import Client
    from stacpull.net.transport import Transport
    from stacpull.planning.prefixes import ListedObject


class S3(Scheme):
    """S3, signed or anonymous."""

    name = "s3"
    is_encrypted = True
    is_object_store = True
    has_md5_etags = True
    key_variables = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

    def filename(self, url: str) -> str:
        """Return the last segment of the key, without decoding."""
        return url.rpartition("/")[2]

    def has_credentials(self, options: Options) -> bool:
        """Return whether keys, an endpoint, buckets or the consent to pay are configured."""
        s3 = options.s3
        return bool(s3.keys or s3.endpoint_url or s3.request_payer or s3.buckets)

    def transport(self, setup: TransportSetup) -> Transport:
        """Return a transport that signs requests and sends them over HTTP."""
        from stacpull.aws_credentials import AwsCredentials  # noqa: PLC0415 - only where S3 is used
        from stacpull.aws_settings import AwsSettings  # noqa: PLC0415 - see above
        from stacpull.sigv4 import Credentials  # noqa: PLC0415 - see above
        from stacpull.transfer.s3_transport import S3Transport  # noqa: PLC0415 - see above

        options = setup.options.s3
        keys = options.keys
        credentials = AwsCredentials(
            AwsSettings(options.region, options.endpoint_url, options.profile),
            keys=None if keys is None else Credentials(keys[0].reveal(), keys[1].reveal()),
            no_sign_request=options.no_sign_request,
            allow_instance_metadata=options.aws_metadata,
        )
        return S3Transport(setup.http, credentials, options, clock=setup.clock)

    async def list_prefix(self, client: Client, prefix: str) -> tuple[ListedObject, ...]:
        """Return the objects below a prefix (ListObjectsV2)."""
        from stacpull.transfer.s3_listing import list_prefix  # noqa: PLC0415 - only where S3 is used

        return await list_prefix(client, prefix)
