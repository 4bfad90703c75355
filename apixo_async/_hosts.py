"""Where a host lies: on this machine, in a private network, or on the internet.

`reach` is for suspicion: any spelling that could lead inside counts as inside. The predicates are
for trust: they take only spellings that leave no doubt. Names are never looked up.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, Literal, TypeAlias

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Reach: TypeAlias = Literal["public", "private", "loopback", "link-local"]

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, 2.1
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # RFC 4291, 2.5.5.1
#: NAT64 of a local network (RFC 8215) and site-local addresses (RFC 3879): `is_global` is True for
#: them on some versions of Python.
_LOCAL: Final = (ipaddress.IPv6Network("64:ff9b:1::/48"), ipaddress.IPv6Network("fec0::/10"))


def is_loopback(host: str) -> bool:
    """Return True if a host is certainly this machine, so that plain http to it is safe."""
    address = _address(host)
    # RFC 6761, 6.3: these names stand for loopback addresses only.
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def is_public(host: str) -> bool:
    """Return True if a host may be anywhere on the internet."""
    if _address(host) is not None:
        return reach(host) == "public"
    # A name without a dot belongs to a local network; 127.1 and 0x7f.1 are addresses after all.
    name, _, last = host.rstrip(".").rpartition(".")
    return bool(name) and not last[:1].isdigit()


def takes_callbacks(scheme: str, host: str) -> bool:
    """Return True if the service may post to a URL; plain http is for the simulator only."""
    if is_loopback(host):
        return scheme in ("http", "https")
    return scheme == "https" and is_public(host)


def reach(host: str) -> Reach:
    """Return where a host may lead.

    Names other than localhost count as public: the address that one stands for is known when a
    connection to it is made. An address that embeds another one leads there, and so counts as the
    embedded one unless that is public.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "loopback"
    address = _address(name) or _odd_address(name)
    if address is None:
        return "public"
    embedded = _embedded(address)
    if embedded is not None and _reach_of(embedded) != "public":
        return _reach_of(embedded)
    # A mapped or translated address is IPv4 in another spelling: its own range says nothing.
    is_spelling = isinstance(address, ipaddress.IPv6Address) and (
        address in _NAT64 or address.ipv4_mapped is not None
    )
    return "public" if is_spelling else _reach_of(address)


def _reach_of(address: _Address) -> Reach:
    # A connection to 0.0.0.0 or :: reaches this machine on Linux and macOS.
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    is_local = address.is_multicast or any(address in network for network in _LOCAL)
    return "public" if address.is_global and not is_local else "private"


def _embedded(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, or leads to through a gateway."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):  # not :: and ::1
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _odd_address(text: str) -> ipaddress.IPv4Address | None:
    """Read the spellings that resolvers take as well: 127.1, 0x7f000001, 2130706433."""
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None
