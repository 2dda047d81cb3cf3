"""Sealed download tokens and signed blob URLs: hrefs that tell nothing, differ each time, and expire.

A token has the outer form of Fernet (version byte 0x80, 8-byte time, 16-byte nonce, 192 bytes of ciphertext,
32 bytes of HMAC-SHA-256; 332 characters of base64, first `gAAAAAB`), as the recorded hrefs have. The cipher
is an XOR with SHAKE-256: enough to be opaque and to notice every changed bit, not meant to protect anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from urllib.parse import parse_qsl, quote, urlencode

_TEXT = 192
_FORM = struct.Struct(">d16sQ")
_LENGTH = 1 + 8 + 16 + _TEXT + 32


class TokenRefused(Exception):  # noqa: N818 - says what happened to it
    """The token was altered, is none, or has expired."""


@dataclass(frozen=True)
class Sealer:
    """Seals (asset, index) into tokens that live `ttl` seconds, and signs blob URLs."""

    key: bytes
    ttl: float = 6 * 3600
    blob_ttl: float = 3600
    now: Callable[[], float] = time.time

    def _keystream(self, nonce: bytes) -> int:
        return int.from_bytes(hashlib.shake_256(self.key + nonce).digest(_TEXT), "big")

    def seal(self, asset: str, index: int) -> str:
        """A token for an asset of an item; no two are equal."""
        now, nonce = self.now(), os.urandom(16)
        text = _FORM.pack(now + self.ttl, asset.encode(), index).ljust(_TEXT, b"\0")
        cipher = (int.from_bytes(text, "big") ^ self._keystream(nonce)).to_bytes(_TEXT, "big")
        sealed = b"\x80" + int(now).to_bytes(8, "big") + nonce + cipher
        return base64.urlsafe_b64encode(sealed + hmac.digest(self.key, sealed, "sha256")).decode()

    def open(self, token: str) -> tuple[str, int]:
        """The asset and index in a token. Raises TokenRefused."""
        try:
            sealed = base64.b64decode(token.encode(), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise TokenRefused("not a token") from error
        body, tag = sealed[:-32], sealed[-32:]
        if len(sealed) != _LENGTH or not hmac.compare_digest(tag, hmac.digest(self.key, body, "sha256")):
            raise TokenRefused("altered")
        text = (int.from_bytes(body[25:], "big") ^ self._keystream(body[9:25])).to_bytes(_TEXT, "big")
        expiry, asset, index = _FORM.unpack(text[: _FORM.size])
        if expiry < self.now():
            raise TokenRefused("expired")
        return asset.rstrip(b"\0").decode(), index

    def _signature(self, path: str, version: str, start: str, expiry: str) -> str:
        text = f"r\n{start}\n{expiry}\n{path}\n{version}\nb"
        return base64.b64encode(hmac.digest(self.key, text.encode(), "sha256")).decode()

    def sign_query(self, path: str, version: str) -> str:
        """The query (`sv=…&st=…&se=…&sr=b&sp=r&sig=…`) that lets a blob path be read until it expires."""
        now = self.now()
        start, expiry = _iso(now - 300), _iso(ceil(now + self.blob_ttl))
        signature = self._signature(path, version, start, expiry)
        query = {"sv": version, "st": start, "se": expiry, "sr": "b", "sp": "r", "sig": signature}
        return urlencode(query, quote_via=quote)

    def check_query(self, path: str, query: str) -> None:
        """Nothing, if the query was signed for this path and is still good. Raises TokenRefused."""
        given = dict(parse_qsl(query))
        signature = self._signature(path, given.get("sv", ""), given.get("st", ""), given.get("se", ""))
        if not hmac.compare_digest(signature.encode(), given.get("sig", "").encode()):
            raise TokenRefused("Signature did not match.")
        if given["se"] < _iso(self.now()):
            raise TokenRefused("Signature not valid in the specified time frame.")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
