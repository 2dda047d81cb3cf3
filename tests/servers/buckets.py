"""Buckets on any S3, filled and ruled by boto3, and keys for them."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from stacpull.config.options import S3Options

REGION = "us-east-1"
_ONCE = {"total_max_attempts": 1}
_S3 = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries=_ONCE)
_OTHER = Config(retries=_ONCE)


@dataclass(frozen=True)
class Keys:
    """An access key and its secret; temporary ones have a token."""

    access_key: str
    secret_key: str
    token: str | None = None

    def environment(self) -> dict[str, str]:
        reported = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return reported | ({"AWS_SESSION_TOKEN": self.token} if self.token else {})


def client(url: str, keys: Keys, service: str = "s3") -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token,
        config=_S3 if service == "s3" else _OTHER,
    )


class Bucket:
    def __init__(self, s3: Any) -> None:
        self.s3 = s3
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        s3.create_bucket(Bucket=self.name)

    def put(self, key: str, body: bytes) -> str:
        etag: str = self.s3.put_object(Bucket=self.name, Key=key, Body=body)["ETag"]
        return etag

    def href(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def presigned(self, key: str, seconds: int = 600, **parameters: str) -> str:
        parameters = {"Bucket": self.name, "Key": key, **parameters}
        url: str = self.s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        return url

    def allow(self, principal: Any, *actions: str) -> None:
        """Let `principal` ("*": anybody, signed or not) do `actions` with the objects."""
        statement = {
            "Effect": "Allow",
            "Principal": principal,
            "Action": list(actions or ("s3:GetObject",)),
            "Resource": [f"arn:aws:s3:::{self.name}/*"],
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.s3.put_bucket_policy(Bucket=self.name, Policy=json.dumps(policy))


def s3_options(url: str, **more: Any) -> S3Options:
    return S3Options(**({"endpoint_url": url, "region": REGION} | more))
