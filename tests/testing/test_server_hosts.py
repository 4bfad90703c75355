"""A served simulator is asked under its own names only."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apixo_async.testing.server import OwnHosts, is_own_host


@pytest.mark.parametrize(
    "header",
    [
        "",
        "127.0.0.1",
        "127.0.0.1:8000",
        "[::1]:8000",
        "10.1.2.3",
        "localhost:1",
        "LOCALHOST",
        "a.localhost:8000",
        "simulator:8000",
        "host.docker.internal:8000",
        "sim.example.org:80",
        "Sim.Example.org.",
    ],
)
def test_own_names(header: str) -> None:
    """Addresses, names of this network and the given host are its own."""
    assert is_own_host(header, "sim.example.org")


@pytest.mark.parametrize(
    "header",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example.",
        "127.0.0.1@evil.example",
        "[::1",
        "1.2.3.4.5",
    ],
)
def test_names_of_others(header: str) -> None:
    """A page's own name, which may lead here, is not one of them."""
    assert not is_own_host(header, "127.0.0.1")


async def test_a_strange_host_is_answered_421() -> None:
    """The app behind it is not asked."""
    sent: list[dict[str, Any]] = []

    async def send(message: object) -> None:
        sent.append(message)  # type: ignore[arg-type]

    async def receive() -> object:
        raise AssertionError

    scope = {"type": "http", "headers": [(b"host", b"evil.example")]}
    await OwnHosts(None, "127.0.0.1")(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 421
    told = json.loads(sent[1]["body"])
    assert (told["code"], told["data"]) == (421, None)
