"""What black-box tests need of the inside: where it changes, this module changes alone."""

from __future__ import annotations

import asyncio

import pytest

from apixo_async import AsyncClient, Limiter
from apixo_async._cli.docs import guides
from apixo_async._cli.exits import ExitCode
from apixo_async._http.concurrency import MOST as MOST_IN_FLIGHT
from apixo_async._polling.poller import Poller
from apixo_async._polling.registry import TaskRegistry
from apixo_async.journal._entry import Entry
from apixo_async.journal._journal import Journal

__all__ = ["MOST_IN_FLIGHT", "Entry", "ExitCode", "Journal", "guides"]


def limiter_of(client: AsyncClient) -> Limiter:
    """Return the limiter of a client, its own or a shared one."""
    return client._settings.limiter


def in_flight(limiter: Limiter) -> int:
    """Return how many permits are out."""
    return limiter._permits.in_flight


def poller_of(client: AsyncClient) -> Poller:
    """Return the poller of a client that is in use."""
    return client._life.engine().poller


def runner_of(client: AsyncClient) -> asyncio.Task[None]:
    """Return the asyncio.Task that polls for a client."""
    runner = poller_of(client)._runner
    assert runner is not None
    return runner


def break_poller(patch: pytest.MonkeyPatch) -> None:
    """Have the poller of every client meet a defect at its next answer."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    patch.setattr(TaskRegistry, "apply", broken)


def haste(speed: float) -> str:
    """Return a program that has the documented times be shorter, as tasks of a fast service are."""
    return f"""
from apixo_async import _catalog
for table in (_catalog.TIMINGS, _catalog._MEDIA):
    for kind, plan in table.items():
        sooner = {{"first": plan.first / {speed}, "interval": plan.interval / {speed}}}
        table[kind] = plan._replace(**sooner)
"""
