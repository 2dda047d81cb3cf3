"""Sealed download tokens and signed blob URLs: opaque hrefs that differ in every response and expire.

A token has the format of Fernet (version byte 0x80, 8-byte time, 16-byte nonce, 192 bytes of ciphertext, 32
bytes of tag; 332 characters of base64, first `gAAAAAB`), as the recorded hrefs have. The cipher is an XOR
with SHAKE-128. It makes tokens opaque and detects every changed bit, but it is not meant to protect anything.

All assets of an item are sealed at once, because a page of 10,000 source items has 130,000 assets. One hash
stream covers them all, and the last byte of a nonce selects the part of an asset. The plaintext contains the
sealed values six times, and the plaintext of the tag is zeros, so any change is detected.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil
from urllib.parse import parse_qsl, quote, urlencode

_HEAD = struct.Struct(">BQ15sB")  # version, time, nonce, number of the asset
_FORM = struct.Struct(">d16sQ")  # expiry, asset, index
_COPIES = 6
_BLOB_SECONDS = 3600
_TAG = bytes(32)
_FRAME = _HEAD.size + _COPIES * _FORM.size + len(_TAG)
TOKEN_LENGTH = _FRAME // 3 * 4
_VERSION = 0x80
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class TokenRefused(Exception):  # noqa: N818 - reads better than TokenRefusedError
    """The token is invalid, altered or expired."""


@lru_cache(maxsize=64)
def _layout(assets: tuple[str, ...]) -> tuple[int, int]:
    mask = b"".join(bytes(_HEAD.size) + b"\xff" * (_FRAME - _HEAD.size) for _ in assets)
    names = b"".join(
        _HEAD.pack(0, 0, b"", number) + _FORM.pack(0.0, asset.encode(), 0) * _COPIES + _TAG
        for number, asset in enumerate(assets)
    )
    return int.from_bytes(mask, "big"), int.from_bytes(names, "big")


@dataclass(frozen=True)
class Sealer:
    """Seals (asset, index) into tokens that expire after `ttl` seconds, and signs blob URLs for an hour."""

    key: bytes
    ttl: float = 6 * 3600

    def _stream(self, head: bytes, frames: int) -> bytes:
        """Return the hash stream for the first `frames` assets of an item; it depends on the whole head."""
        return hashlib.shake_128(self.key + head).digest(frames * _FRAME)

    def seal(self, assets: tuple[str, ...], index: int) -> list[bytes]:
        now, count = time.time(), len(assets)
        head = _HEAD.pack(_VERSION, int(now), os.urandom(15), 0)
        frame = head + _FORM.pack(now + self.ttl, b"", index) * _COPIES + _TAG
        mask, names = _layout(assets)
        stream = int.from_bytes(self._stream(head[:-1], count), "big") & mask
        sealed = (int.from_bytes(frame * count, "big") | names) ^ stream
        text = binascii.b2a_base64(sealed.to_bytes(count * _FRAME, "big"), newline=False)
        text = text.translate(_URL_SAFE)
        return [text[at : at + TOKEN_LENGTH] for at in range(0, count * TOKEN_LENGTH, TOKEN_LENGTH)]

    def open(self, token: str) -> tuple[str, int]:
        try:
            sealed = base64.b64decode(token.encode(), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise TokenRefused("not a token") from error
        if len(sealed) != _FRAME:
            raise TokenRefused("altered")
        number = sealed[_HEAD.size - 1]
        stream = self._stream(sealed[: _HEAD.size - 1], number + 1)[number * _FRAME + _HEAD.size :]
        opened = int.from_bytes(sealed[_HEAD.size :], "big") ^ int.from_bytes(stream, "big")
        text = opened.to_bytes(_FRAME - _HEAD.size, "big")
        form = text[: _FORM.size]
        if text != form * _COPIES + _TAG:
            raise TokenRefused("altered")
        expiry, asset, index = _FORM.unpack(form)
        if expiry < time.time():
            raise TokenRefused("expired")
        return asset.rstrip(b"\0").decode(), index

    def _signature(self, path: str, version: str, start: str, expiry: str) -> str:
        text = f"r\n{start}\n{expiry}\n{path}\n{version}\nb"
        return base64.b64encode(hmac.digest(self.key, text.encode(), "sha256")).decode()

    def sign_query(self, path: str, version: str) -> str:
        """Return the query (`sv=…&st=…&se=…&sr=b&sp=r&sig=…`) that allows reading a blob until it expires."""
        now = time.time()
        start, expiry = _iso(now - 300), _iso(ceil(now + _BLOB_SECONDS))
        signature = self._signature(path, version, start, expiry)
        query = {"sv": version, "st": start, "se": expiry, "sr": "b", "sp": "r", "sig": signature}
        return urlencode(query, quote_via=quote)

    def check_query(self, path: str, query: str) -> None:
        """Check that the query was signed for this path and has not expired."""
        given = dict(parse_qsl(query))
        signature = self._signature(path, given.get("sv", ""), given.get("st", ""), given.get("se", ""))
        if not hmac.compare_digest(signature.encode(), given.get("sig", "").encode()):
            raise TokenRefused("Signature did not match.")
        if given["se"] < _iso(time.time()):
            raise TokenRefused("Signature not valid in the specified time frame.")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
