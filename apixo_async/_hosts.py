"""Which hosts are this machine, and which may be anywhere on the internet."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return True if a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_public(host: str) -> bool:
    """Return True if a host may be anywhere on the internet. Names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        # A name without a dot is one of some house; 127.1 and 0x7f.1 are numbers after all.
        name, dot, last = host.rstrip(".").rpartition(".")
        return bool(name and dot) and not last[:1].isdigit()
