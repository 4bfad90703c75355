"""The public URL must be one that the service can post to."""

from __future__ import annotations

import pytest

from apixo_async import ConfigurationError
from apixo_async.webhooks._receiver import checked_public_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://app.example.com", "https://app.example.com"),
        (" https://app.example.com/apixo/ ", "https://app.example.com/apixo"),
        ("https://app.example.com:8443/a/b", "https://app.example.com:8443/a/b"),
        ("https://1.1.1.1/x", "https://1.1.1.1/x"),
        ("https://[2606:4700::1111]/x", "https://[2606:4700::1111]/x"),
        ("http://127.0.0.1:8000/hooks", "http://127.0.0.1:8000/hooks"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://localhost/x", "https://localhost/x"),
    ],
)
def test_a_url_that_can_be_called(given: str, expected: str) -> None:
    """Public https is taken, and loopback for the simulator; a slash at the end is not kept."""
    assert checked_public_url(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "app.example.com",
        "http://app.example.com",
        "ftp://app.example.com",
        "https://",
        "https:///path",
        "https://intranet/x",
        "https://.intranet./x",
        "https://10.0.0.1/x",
        "https://192.168.1.4/x",
        "https://169.254.1.1/x",
        "https://[fd00::1]/x",
        "https://[::1/x",
        "https://a.example.com:port/",
        "https://a.example.com:99999/",
        "https://user@app.example.com/",
        "https://user:word@app.example.com/",
        "https://app.example.com/?a=1",
        "https://app.example.com/#a",
        "https://app.example.com/a b",
        "https://app.example.com/a\nb",
        "https://app.example.com\\x",
        "https://app.example.com/{x}",
        "https://b\u00fccher.example.com",
        None,
        b"https://app.example.com",
    ],
)
def test_a_url_that_cannot(given: object) -> None:
    """What the service could not reach, or what is no bare URL, is refused."""
    with pytest.raises(ConfigurationError, match="public_url"):
        checked_public_url(given)
