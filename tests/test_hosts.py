"""Where a host lies, however it is written."""

from __future__ import annotations

import pytest

from apixo_async._hosts import is_loopback, is_public, reach, takes_callbacks

REACHES = {
    "loopback": [
        "localhost",
        "localhost.",
        "api.localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    ],
    "private": [
        "10.0.0.8",
        "172.17.0.2",
        "192.168.1.1",
        "100.64.0.1",
        "224.0.0.1",
        "[fd00::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[::ffff:10.0.0.8]",
        "[::10.0.0.8]",
        "[64:ff9b::a00:8]",
        "[64:ff9b:1::a00:8]",
        "[2002:a00:8::1]",
        "[2001:0:4136:e378:8000:63bf:f5ff:fff7]",
    ],
    "link-local": [
        "169.254.169.254",
        "[fe80::1]",
        "fe80::1%eth0",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ],
    "public": [
        "cdn.example",
        "localhost.example",
        "a.b.c",
        "93.184.216.34",
        "[2606:2800:220:1::1]",
        "[::ffff:93.184.216.34]",
        "[64:ff9b::5db8:d822]",
        "[2002:5db8:d822::1]",
    ],
}


@pytest.mark.parametrize(
    ("expected", "host"), [(found, host) for found, hosts in REACHES.items() for host in hosts]
)
def test_reach(expected: str, host: str) -> None:
    """An address is what it leads to: also written oddly, mapped, translated or tunnelled."""
    assert reach(host) == expected


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *[(host, True) for host in ("localhost", "x.localhost", "127.0.0.1", "127.1.2.3", "::1")],
        *[(host, False) for host in ("", "localhost.", "0.0.0.0", "::", "127.0.0.1.nip.io")],
    ],
)
def test_loopback(host: str, here: bool) -> None:
    """A loopback host is this machine by its very name or address."""
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("example.com", True),
        ("a.b.example.com.", True),
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("intranet", False),
        ("intranet.", False),
        (".intranet.", False),
        ("", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("fd00::1", False),
        ("127.1", False),
        ("0x7f.0x1", False),
        ("224.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_a_public_host(host: str, public: bool) -> None:
    """Addresses of some house's own are not public, nor are names that only it knows."""
    assert is_public(host) is public


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("https", "example.com", True),
        ("http", "example.com", False),
        ("https", "intranet", False),
        ("http", "localhost", True),
        ("https", "127.0.0.1", True),
        ("ftp", "localhost", False),
    ],
)
def test_where_callbacks_can_go(scheme: str, host: str, expected: bool) -> None:
    """The service posts to public https URLs; only a simulator on this machine posts to http."""
    assert takes_callbacks(scheme, host) is expected
