"""Which addresses results may be fetched from: what a service says must not lead into a network."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1
_LOCAL: Final = tuple(
    # NAT64 of one's own network (RFC 8215), and site-local addresses (RFC 3879): `is_global` says
    # yes to them on some Pythons.
    ipaddress.IPv6Network(network)
    for network in ("64:ff9b:1::/48", "fec0::/10")
)


@dataclass(frozen=True, slots=True)
class Reachable:
    """Which addresses a client's results may be on: public ones, and those like the base URL's.

    Attributes:
        own: The host of the base URL: its name may stand for any address but a link-local one.
        kinds: The kinds of address, in the words of `reach`.
    """

    own: str = ""
    kinds: frozenset[str] = frozenset({"public"})

    @classmethod
    def beside(cls, base_url: str, *, in_process: bool) -> Self:
        """Return what a service may lead to.

        Args:
            base_url: Where the service is. On loopback, it may lead to loopback.
            in_process: Whether a transport of the caller's own answers, which opens no sockets as
                far as anybody knows: then loopback is as good as any other name.
        """
        own = urlsplit(base_url).hostname or ""
        usual = {"public", reach(own), "loopback" if in_process else "public"}
        # No result is served from a link-local address, where clouds keep their credentials.
        return cls(own, frozenset(usual - {"link-local"}))

    def refusal(self, host: str, peer: str | None = None) -> str | None:
        """Return why a host is not asked, or None if it is.

        Args:
            host: The host of a URL.
            peer: The address that it was resolved to, once that is known.
        """
        kind = reach(host if peer is None else peer)
        trusted = host == self.own and kind != "link-local"
        if trusted or kind in self.kinds:
            return None
        what = "is" if peer is None else "stands for"
        return f"{what} a {kind} address, and is not asked, as the base URL is elsewhere"


PUBLIC: Final = Reachable()


def reach(host: str) -> str:
    """Say what a host is: "public", "private", "loopback" or "link-local".

    Names other than localhost are taken for public: what they stand for shows when a connection
    to them is made. An address within an address counts as the one within, unless that is public.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "loopback"
    address = _address(name)
    if address is None:
        return "public"
    inner = _inner(address)
    if inner is not None and _kind(inner) != "public":
        return _kind(inner)
    # The other ways to write an IPv4 address are no range of IPv6 of their own.
    is_translated = isinstance(address, ipaddress.IPv6Address) and (
        address in _NAT64 or address.ipv4_mapped is not None
    )
    return "public" if is_translated else _kind(address)


def _kind(address: _Address) -> str:
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    is_local = any(address in network for network in _LOCAL)
    return (
        "public" if address.is_global and not address.is_multicast and not is_local else "private"
    )


def _inner(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, or leads to through a gateway."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):  # not :: and ::1
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _address(name: str) -> _Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        # The odd spellings which resolvers take as well: 127.1, 0x7f000001, 2130706433.
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
