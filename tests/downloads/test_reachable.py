"""Addresses: which a service may lead to, however they are written."""

from __future__ import annotations

import pytest

from apixo_async._downloads.reachable import Reachable, reach

PUBLIC = "https://api.apixo.ai/api/v1"
KINDS = {
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
    ("kind", "host"), [(kind, host) for kind, hosts in KINDS.items() for host in hosts]
)
def test_kinds(kind: str, host: str) -> None:
    """An address is what it leads to: also written oddly, mapped, translated or tunnelled."""
    assert reach(host) == kind
    refused = Reachable.beside(PUBLIC, in_process=False).refusal(host)
    assert (refused is None) is (kind == "public")


@pytest.mark.parametrize(
    ("base", "kinds"),
    [
        (PUBLIC, {"public"}),
        ("http://127.0.0.1:8000", {"public", "loopback"}),
        ("http://localhost:8000", {"public", "loopback"}),
        ("https://10.0.0.1", {"public", "private"}),
        ("https://169.254.169.254", {"public"}),
    ],
)
def test_a_service_may_lead_to_its_like(base: str, kinds: set[str]) -> None:
    """Results are on public addresses, or on such as the base URL has; never on link-local ones."""
    reachable = Reachable.beside(base, in_process=False)
    samples = {kind: hosts[0] for kind, hosts in KINDS.items()}
    allowed = {kind for kind, host in samples.items() if reachable.refusal(host) is None}
    assert allowed == kinds


def test_what_a_name_stands_for_decides() -> None:
    """The address that a connection is made to counts, and not the name."""
    reachable = Reachable.beside(PUBLIC, in_process=False)
    assert reachable.refusal("cdn.example", "93.184.216.34") is None
    assert "stands for a private address" in str(reachable.refusal("cdn.example", "10.0.0.8"))
    assert "stands for a loopback" in str(reachable.refusal("cdn.example", "::127.0.0.1"))


def test_the_name_of_the_base_url_may_stand_for_a_private_address() -> None:
    """Who gives a base URL trusts its host, but not with the credentials of a cloud."""
    reachable = Reachable.beside("https://apixo.corp.example", in_process=False)
    assert reachable.refusal("apixo.corp.example", "10.0.0.8") is None
    assert reachable.refusal("apixo.corp.example", "169.254.169.254") is not None
    assert reachable.refusal("other.corp.example", "10.0.0.8") is not None


def test_in_process_loopback_is_as_good_as_any_name() -> None:
    """A transport of the caller's own, such as the simulator's, may name loopback."""
    reachable = Reachable.beside(PUBLIC, in_process=True)
    assert reachable.refusal("127.0.0.1") is None
    assert reachable.refusal("10.0.0.8") is not None
