"""A service may lead to files on public hosts, and on hosts like its own."""

from __future__ import annotations

import pytest

from apixo_async._downloads.source import Reachable

PUBLIC = "https://api.apixo.ai/api/v1"
SAMPLES = {
    "loopback": "localhost",
    "private": "10.0.0.8",
    "link-local": "169.254.169.254",
    "public": "cdn.example",
}


@pytest.mark.parametrize(
    ("base", "reaches"),
    [
        (PUBLIC, {"public"}),
        ("http://127.0.0.1:8000", {"public", "loopback"}),
        ("http://localhost:8000", {"public", "loopback"}),
        ("https://10.0.0.1", {"public", "private"}),
        ("https://169.254.169.254", {"public"}),
    ],
)
def test_a_service_may_lead_to_its_like(base: str, reaches: set[str]) -> None:
    """Results are on public addresses, or on such as the base URL has; never on link-local ones."""
    reachable = Reachable.beside(base, in_process=False)
    allowed = {found for found, host in SAMPLES.items() if reachable.refusal(host) is None}
    assert allowed == reaches


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
