"""Metrics are counted on several threads, and read on any."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
from collections.abc import Callable
from importlib.resources import files

from apixo_async import AsyncClient, CallbackReceived, FluxKontext
from apixo_async.blocking import Client
from apixo_async.otel import Instrument
from apixo_async.otel._metrics import COUNTS, DURATIONS, GAUGES
from apixo_async.testing import Fault, Simulator, VirtualTimeLoop

from ..support.telemetry import Telemetry, telemetry

__all__ = ["telemetry"]  # a fixture

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


async def test_counts_of_threads(telemetry: Telemetry) -> None:
    """Clients of several threads share a hook: no count is lost."""

    def report() -> None:
        for _ in range(5_000):
            telemetry.instrument(CallbackReceived("polled"))

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [point] = telemetry.points()["apixo.callbacks"]
    assert point.value == 20_000


def used(telemetry: Telemetry) -> list[float]:
    """Return the slots that clients use, as they are observed."""
    return [point.value for point in telemetry.points().get("apixo.slots_used", [])]


async def test_counts_are_read_from_another_thread(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """As exporters do; what a thread has read does for all gauges of one collection."""
    simulator.faults.submit(Fault.task_lasts(1e3))
    client = client_of(simulator)
    telemetry.instrument.observe(client)
    await client.submit(CASTLE)
    assert await asyncio.to_thread(used, telemetry) == used(telemetry) == [1]
    read: list[object] = []
    statistics = client.statistics
    client.statistics = lambda: read.append(None) or statistics()  # type: ignore[method-assign]  # counted
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251  # a real half second: a thread's clock
    assert await asyncio.to_thread(used, telemetry) == [1]
    assert len(read) == 1


async def test_several_hooks_share_their_metrics(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """A provider takes each metric once: what either counts, or observes, is in it."""
    other = Instrument(meter_provider=telemetry.meters)
    for hook in (telemetry.instrument, other):
        hook(CallbackReceived("polled"))
        hook.observe(client_of(simulator))
    [point] = telemetry.points()["apixo.callbacks"]
    assert point.value == 2
    assert used(telemetry) == [0, 0]
    assert Instrument()._metrics is Instrument()._metrics


async def test_a_client_that_is_gone_is_observed_no_more(
    simulator: Simulator, telemetry: Telemetry
) -> None:
    """The hook holds no client."""
    client = AsyncClient("test-key", transport=simulator.transport())
    telemetry.instrument.observe(client)
    await client.aclose()
    assert used(telemetry) == [0]
    del client
    gc.collect()
    assert used(telemetry) == []


def test_a_loop_that_is_closed(simulator: Simulator, telemetry: Telemetry) -> None:
    """Nothing is observed where nothing can be read, and the other metrics are collected."""

    async def begin() -> AsyncClient:
        client = AsyncClient("test-key", transport=simulator.transport())
        telemetry.instrument.observe(client)
        telemetry.instrument(CallbackReceived("polled"))
        return client

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        client = runner.run(begin())
    assert used(telemetry) == []
    assert "apixo.callbacks" in telemetry.points()
    del client


def test_a_blocking_client(simulator: Simulator, telemetry: Telemetry) -> None:
    """Its counts are read on its own loop, by itself."""
    with Client("test-key", transport=simulator.transport()) as client:
        telemetry.instrument.observe(client)
        assert used(telemetry) == [0]


def test_the_table_of_the_guide() -> None:
    """It has every metric there is, and no other one."""
    guide = (files("apixo_async") / "guides/observability.md").read_text("utf-8")
    table = guide.partition("### Metrics")[2].partition("The last three rows")[0]
    named = re.findall(r"`apixo\.([\w.]+)`", table)
    assert sorted(named) == sorted((*DURATIONS, *COUNTS, *GAUGES))
