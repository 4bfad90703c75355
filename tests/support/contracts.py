"""A contract that is checked in virtual time, against a simulator that is its service."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from apixo_async import Limits
from apixo_async.testing import Simulator, VirtualTimeLoop
from apixo_async.testing.contract import ContractReport, Listener, Plan, conform

KEY = "canary/key+7f"
#: The account of these tests: its limits are small, so that more than they allow is soon sent.
LIMITS = Limits(concurrent_tasks=3, requests_per_minute=60)
#: Everything may be asked.
EVERYTHING: dict[str, Any] = {
    "max_cost": Decimal(1),
    "limits": LIMITS,
    "floods": True,
    "crowds": True,
    "waits": True,
}


def service(**options: Any) -> Simulator:
    """Return a simulator with that account."""
    limits = {
        "concurrent_tasks": LIMITS.concurrent_tasks,
        "requests_per_minute": LIMITS.requests_per_minute,
    }
    return Simulator(**{"seed": 4, "epoch": 1_700_000_000.0, "key": KEY} | limits | options)


def checked(simulator: Simulator, transport: Any = None, **plan: Any) -> ContractReport:
    """Check a service against the contract, in virtual time."""

    async def check() -> ContractReport:
        listener = Listener("https://app.example.com", simulator.wall_clock)
        simulator.deliver_to(listener)
        return await conform(
            simulator.options.key,
            plan=Plan(**EVERYTHING | plan),
            listener=listener,
            transport=transport or simulator.transport(),
            clock=simulator.wall_clock,
        )

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(check())


def differing(report: ContractReport) -> set[int]:
    """Return the numbers of the statements that differ."""
    return {one.number for one, finding in report.findings if finding.verdict == "differ"}


def unknown(report: ContractReport) -> set[int]:
    """Return the numbers of the statements of which nothing is known."""
    return {one.number for one, finding in report.findings if finding.verdict == "unknown"}
