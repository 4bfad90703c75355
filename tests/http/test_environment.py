"""What a transport takes from the environment: proxies, hosts without one, certificates."""

from __future__ import annotations

import ssl

import pytest

from apixo_async._http.environment import (
    certificates,
    environment_proxy,
    is_bypassed,
    with_proxy,
)
from apixo_async.errors import ConfigurationError

PROXY = "http://10.0.0.1:3128"
URL = "https://api.apixo.ai/api/v1"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "proxy"),
    [
        ("HTTPS_PROXY", PROXY, PROXY),
        ("https_proxy", "10.0.0.1:3128", PROXY),
        ("ALL_PROXY", "socks5h://10.0.0.1", "socks5h://10.0.0.1"),
        ("HTTP_PROXY", PROXY, None),
        ("HTTPS_PROXY", "", None),
    ],
)
def test_the_proxy_of_a_url(
    name: str, value: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheme's own variable counts, then ALL_PROXY; a bare host is an http proxy."""
    monkeypatch.setenv(name, value)
    assert environment_proxy(URL) == proxy
    assert environment_proxy("https://localhost/a.png") is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "bypassed"),
    [
        ("apixo.ai", "api.apixo.ai", True),
        ("apixo.ai", "apixo.ai", True),
        ("apixo.ai", "notapixo.ai", False),
        (".apixo.ai", "api.apixo.ai", True),
        ("*.apixo.ai", "api.apixo.ai", True),
        ("*.apixo.ai", "apixo.ai", False),
        ("API.Apixo.AI", "api.apixo.ai", True),
        ("example.com, api.apixo.ai", "api.apixo.ai", True),
        ("api.apixo.ai:443", "api.apixo.ai", True),
        ("api.apixo.ai:8443", "api.apixo.ai", False),
        ("*", "api.apixo.ai", True),
        ("example.com,*", "api.apixo.ai", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("10.0.0.0/99, ,://", "10.1.2.3", False),
        ("", "api.apixo.ai", False),
    ],
)
def test_hosts_without_a_proxy(
    no_proxy: str, host: str, bypassed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY takes domains, ports, addresses, networks and `*`; what is none is passed over."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert is_bypassed(host, 443) is bypassed
    shown = f"[{host}]" if ":" in host else host
    assert environment_proxy(f"https://{shown}/a.png") == (None if bypassed else PROXY)


def test_a_context_is_taken_as_it_is() -> None:
    """A context of the caller's is not changed, and True or False makes one."""
    own = ssl.create_default_context()
    assert certificates(own) is own
    assert certificates(verify=True).verify_mode is ssl.CERT_REQUIRED
    assert certificates(verify=False).verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("missing", ["socks5://user:hunter22@127.0.0.1", None])
def test_what_is_not_installed(missing: str | None) -> None:
    """An extra that is missing is named, and the URL of the proxy is not shown."""

    def make(_: str | None) -> None:
        raise ImportError("no module named httpcore3")

    wanted = r"apixo-async\[socks\]" if missing else "httpcore3"
    with pytest.raises(ConfigurationError, match=wanted) as caught:
        with_proxy(make, missing)
    assert "hunter22" not in str(caught.value)
