import ipaddress
import socket
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.net.addresses import AddressPolicy, AddressRefusedError, literal_address


def refusal(policy: AddressPolicy, address: str) -> str | None:
    try:
        policy.allowed("h", [address])
    except AddressRefusedError as error:
        return error.reason
    return None


STRICT = AddressPolicy(allow_private=False)
OPEN = AddressPolicy(allow_private=True)

NEVER = [
    "169.254.0.1", "169.254.169.254", "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::", "fe80::1", "fe80::1%eth0", "febf::1", "fd00:ec2::254", "0.1.2.3", "::",
    "0.0.0.0",  # noqa: S104 - judged, not bound to
    "168.63.129.16", "192.0.0.192", "100.100.100.200", "fd20:ce::254", "fd00:ec2::23",
    "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:0:a9:fea9:fe00:0", "::ffff:0:a9fe:a9fe", "::ffff:0:100.100.100.200",
    "2001:0:a9fe:a9fe::1", "2001:0:808:808::5601:5601",
    "64:ff9b:1::808:808", "::ffff:0:8.8.8.8", "2002:a00:1::1",
    "::127.0.0.1", "::ffff:0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "not an address", "",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255",
    "192.168.0.1", "100.64.0.1", "100.127.255.255", "fc00::1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
    "fec0::1", "feff::1",
    "240.0.0.1", "192.0.2.1", "192.0.0.8", "2001:db8::1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "169.253.1.1", "2606:4700::1111",
    "::ffff:8.8.8.8", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_always_refused(address: str) -> None:
    assert refusal(STRICT, address)
    assert refusal(OPEN, address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_refused_by_default(address: str) -> None:
    assert refusal(STRICT, address)
    assert refusal(OPEN, address) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_always_allowed(address: str) -> None:
    assert refusal(STRICT, address) is None
    assert refusal(OPEN, address) is None


# Newer versions of Python call all of 64:ff9b:1::/48 private, whatever IPv4 address it holds.
@given(st.ip_addresses().filter(lambda address: not str(address).startswith("64:ff9b:1:")))
def test_the_strict_policy_allows_only_global_addresses(address):
    if refusal(STRICT, str(address)) is None:
        inner = (
            ipaddress.ip_address(int(address) & 0xFFFFFFFF)
            if str(address).startswith("64:ff9b::")
            else address
        )
        inner = getattr(inner, "sixtofour", None) or inner  # Python 3.12 calls all of them private
        assert inner.is_global


def test_all_refusals_have_the_same_text() -> None:
    """Otherwise aiohttp would merge the errors of one host into another type."""
    assert str(AddressRefusedError("10.0.0.1", "private")) == str(AddressRefusedError("::1", "loopback"))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0x7F.1", "127.0.0.1"),
        ("169.254.169.254.", "169.254.169.254"),
        ("%31%36%39.254.169.254", "169.254.169.254"),
        ("\uff11\uff16\uff19.254.169.254", "169.254.169.254"),
        ("169\u3002254\uff0e169\uff61254", "169.254.169.254"),
        ("①69.254.169.254", "169.254.169.254"),
        ("[fe80::1]", "fe80::1"),
        ("::FFFF:a9fe:a9fe", "::ffff:a9fe:a9fe"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.", "127.0.0.1"),
        ("x.localhost", "127.0.0.1"),
        ("example.org", None),
        ("localhost.example", None),
        ("1.2.3.4.example", None),
        ("bad", None),
        ("0xfg", None),
        ("1.2.3.4.5", None),
        ("256.1.1.1", None),
        ("", None),
    ],
)
def test_all_notations_of_an_address_are_recognised(host: str, address: str | None) -> None:
    """Numbers of any base: the next test."""
    assert literal_address(host) == address


@given(st.ip_addresses(v=4), st.sampled_from(["{:d}", "0x{:x}", "0{:o}"]), st.integers(1, 4))
def test_numbers_of_any_base_are_addresses(address: ipaddress.IPv4Address, form: str, groups: int) -> None:
    head, tail = address.packed[: groups - 1], address.packed[groups - 1 :]
    written = ".".join(form.format(number) for number in (*head, int.from_bytes(tail)))
    assert literal_address(written) == str(address)


@given(st.text(alphabet="0123456789abcdefx.%:[]\u3002\uff11", max_size=20))
def test_lookalikes_of_addresses_are_judged_as_addresses_or_refused(host: str) -> None:
    """No text of dots and digits counts as a name if a resolver reads it as a private address."""
    found = literal_address(host)
    try:
        taken = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        assert found is None or ":" in unquote(host) or refusal(OPEN, found) != "not an IP address"
    else:
        assert found == taken
