"""What a transport takes from the environment: proxies, hosts without one, certificates."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from apixo_async._hosts import is_loopback
from apixo_async.errors import ConfigurationError

T = TypeVar("T")

_SCHEMES: Final = ("http://", "https://", "socks5://", "socks5h://")
_PORTS: Final = {"http": 80, "https": 443}


def environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment has for a URL, or None for none.

    HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name it, in capitals or not; NO_PROXY has the hosts
    without one. Where none of them is set, Windows and macOS have settings of the system.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    # Requests to this machine go through no other one: plain http has the key in the clear.
    if not found or is_loopback(host) or is_bypassed(host, parts.port or _PORTS[parts.scheme]):
        return None
    return found if "://" in found else f"http://{found}"


def is_bypassed(host: str, port: int) -> bool:
    """Return True if NO_PROXY has a host.

    An entry is a domain, which stands for itself and all below it, with or without a dot before
    it or a port behind it; an address, or a network such as 10.0.0.0/8; or `*` for every host.
    """
    if proxy_bypass(f"{host}:{port}"):
        return True
    # What the standard library leaves out, and httpx takes.
    entries = (entry.strip().lower() for entry in getproxies().get("no", "").split(","))
    return any(_has(entry, host) for entry in entries)


def _has(entry: str, host: str) -> bool:
    if entry == "*" or (entry.startswith("*.") and host.endswith(entry[1:])):
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return ipaddress.ip_address(host) in network
    except ValueError:  # One of the two is a name.
        return False


def certificates(verify: ssl.SSLContext | bool) -> ssl.SSLContext:
    """Return the context that checks certificates.

    SSL_CERT_FILE or SSL_CERT_DIR has the authorities that are trusted, in place of the system's.

    Raises:
        ConfigurationError: The file cannot be read as one.
    """
    try:
        return httpx2.create_ssl_context(verify=verify)
    except (OSError, TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"verify: {exc}; SSL_CERT_FILE names a file of certificates in PEM, and verify is "
            "True, False or an ssl.SSLContext"
        ) from exc


def with_proxy(make: Callable[[str | None], T], proxy: str | None) -> T:
    """Make a transport with a proxy, or with none.

    Raises:
        ConfigurationError: The proxy cannot be used. Its URL is not shown: a password may be in it.
    """
    if proxy:
        _host_of(proxy)
    try:
        return make(proxy or None)
    except ConfigurationError:
        raise
    except ImportError as exc:
        wrong = str(exc)
        if proxy and proxy.lower().startswith("socks"):
            wrong = (
                "for socks5:// install httpx2[socks]: python -m pip install 'apixo-async[socks]'"
            )
    except (ValueError, TypeError, httpx2.InvalidURL) as exc:
        wrong = type(exc).__name__ if proxy else str(exc)
    # Outside of the handlers: the frames of httpx2 hold a half-built proxy whose repr raises.
    raise ConfigurationError(f"proxy or verify: {wrong}")


def check_proxy(proxy: object, base_url: str) -> None:
    """Refuse a proxy that is none, or that would get the key in the clear.

    Raises:
        ConfigurationError: It is one of these.
    """
    host = _host_of(proxy)
    if urlsplit(base_url).scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            "proxy: it would get the key in the clear, as the base URL is plain http; give "
            'proxy="", or an https base URL'
        )


def _host_of(proxy: object) -> str:
    text = proxy.lower() if isinstance(proxy, str) else ""
    try:
        found = urlsplit(text)
        host, _ = found.hostname, found.port
    except ValueError:
        host = None
    if not host or not text.startswith(_SCHEMES):
        raise ConfigurationError(
            f"proxy: it begins with one of {', '.join(_SCHEMES)}, and names a host; in a "
            "password, every character but letters and digits is written as %XX"
        )
    return host
