"""Responses as bytes: sound, broken, and generated ones."""

from __future__ import annotations

from hypothesis import strategies as st
from tests.http1.fast_transport import HELLO

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SOUND = [
    HELLO,
    HELLO + b"\r\n",
    OK + b"\r\nuntil the end",
    OK + b"Content-Length: 0\r\n\r\n",
    OK + b"Content-Length: 5 \r\n\r\nhello",
    OK + b"X: \xe9\xff\r\nY: \xc3\xa9 \r\nEmpty:\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: " + b"a" * 30_000 + b"\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: a\r\n folded\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: a\x01b\r\nContent-Length: 1\r\n\r\nh",
    OK + b"ETag: a\r\nETag: a\r\nContent-Length: 1\r\n\r\nh",
    b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nh",
    b"HTTP/1.1 200 \xff\r\nContent-Length: 1\r\n\r\nh",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 999 Odd\r\nContent-Length: 1\r\n\r\nh",
    b"\r\n\r\n" + HELLO,
    b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
    b"HTTP/1.1 103 Early\r\nLink: x\r\nETag: early\r\n\r\n" + HELLO,
    b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + HELLO,
    b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b'5;extension="a"\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: a\r\n\r\n',
    CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip\r\n\r\nuntil the end",
    OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nuntil the end",
    OK + b"Content-Length: 2000000\r\n\r\n" + b"long" * 500_000,
    OK + b"x-goog-hash: crc32c=AAAA\r\nX-Goog-Hash: md5=BBBB\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: " + b"a" * 60_000 + b"\r\nContent-Length: 1\r\n\r\nh",
    OK + b"".join(b"X-%d: a\r\n" % number for number in range(500)) + b"Content-Length: 1\r\n\r\nh",
]  # fmt: skip
COOKIES = b"".join(b"Set-Cookie: c%d=%s; Path=/\r\n" % (number, b"v" * 200) for number in range(200))
BROKEN = [
    b"",
    b"HTT",
    b"HTTP/1.1 200 OK\r\nConte",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"<html>not http at all</html>\r\n\r\n",
    b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    HELLO + b" and more",
    OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello!",
    OK + b"Content-Length: 50\r\n\r\nhello",
    OK + b"Content-Length: 5000000\r\n\r\nhello",
    OK + b"Content-Length: 2000000\r\n\r\n" + b"long" * 300_000,
    OK + b"Content-Length: 2000000\r\n\r\n" + b"long" * 500_001,
    OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
    OK + b"Content-Length: -5\r\n\r\nhello",
    OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK + b"X : a\r\n\r\n",
    OK + b"Content-Length : 5\r\n\r\nhello",
    OK + b"Transfer-Encoding  : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK + b": a\r\n\r\n",
    OK + b"no value\r\n\r\n",
    OK + b"X: a\x00b\r\n\r\n",
    OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    OK + b"".join(b"X-%d: a\r\n" % number for number in range(20_000)) + b"Content-Length: 1\r\n\r\nh",
    OK + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 60_000) for number in range(5)) + b"\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Content-Length: 5, 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK" + b"k" * 700_000,
    CHUNKED + b"5\r\nhello\r\n",
    CHUNKED + b"zz\r\nhello\r\n",
    CHUNKED + b"5\r\nhelloXX\r\n0\r\n\r\n",
    CHUNKED + b"ffffffffffffffffff\r\nhello",
    CHUNKED + b"5\r\nhello\r\n0\r\n" + b"T: a\r\n" * 200_000 + b"\r\n",
]  # fmt: skip
FRAGMENTS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 304 N\r\n", b"X: a\r\n", b"\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Content-Length: 5\r\n", b"hello",
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"\0", b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
]  # fmt: skip
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=10).map(b"".join),
)
