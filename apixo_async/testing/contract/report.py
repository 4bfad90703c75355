"""What became of a contract: each statement with what was found, and a report to send in."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

import httpx2

from apixo_async._config import resolve_base_url, resolve_key
from apixo_async._hosts import is_loopback
from apixo_async._version import __version__
from apixo_async.testing.contract.listener import Listener
from apixo_async.testing.contract.probe import Plan, Probe
from apixo_async.testing.contract.statements import STATEMENTS, Agreement, Finding, Statement

#: Of the list of statements: a number keeps its statement, and a new one takes the next number.
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ContractReport:
    """What a service did.

    Attributes:
        findings: Each statement, in the order of its number, with what was found.
        spent: USD that it cost at most.
        host: Of the service; "loopback" for one on this machine.
        day: When it was, as `2026-11-28`.
    """

    findings: tuple[tuple[Statement, Finding], ...]
    spent: Decimal
    host: str
    day: str

    @property
    def counts(self) -> Counter[Agreement]:
        """How many statements agree, differ and are unknown."""
        return Counter(finding.verdict for _, finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON: no key, no prompt, no ids, URLs and balances of the account."""
        return {
            "contract": VERSION,
            "apixo_async": __version__,
            "host": self.host,
            "day": self.day,
            "spent": str(self.spent),
            "statements": [
                {
                    "number": statement.number,
                    "text": statement.text,
                    "source": statement.source,
                    "verdict": finding.verdict,
                    "evidence": finding.evidence,
                }
                for statement, finding in self.findings
            ],
        }


async def conform(
    api_key: str | None = None,
    *,
    base_url: str | None = None,
    plan: Plan | None = None,
    listener: Listener | None = None,
    say: Callable[[str], None] = lambda _: None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
) -> ContractReport:
    """Check a service against the contract: what is free first, what costs money last.

    Args:
        api_key: The key; unless given, that of APIXO_API_KEY.
        base_url: Where the API is; unless given, APIXO_BASE_URL, else the service's own.
        plan: What may be asked; unless given, only what is free.
        listener: Receives callbacks, such as that of `listening`; without one, there are none.
        say: Takes a line on what comes next, and what it may cost.
        transport: What requests go through, such as `Simulator.transport()`.
        clock: The time in seconds since the Unix epoch.

    Raises:
        ConfigurationError: There is no key, or the base URL is wrong.
    """
    key, base = resolve_key(api_key), resolve_base_url(base_url)
    plan = plan or Plan()
    async with httpx2.AsyncClient(
        transport=transport, timeout=None
    ) as client:  # the probe has its own
        probe = Probe(client, base, key, plan, listener=listener, say=say, clock=clock)
        evidence = await probe.run()
    host = urlsplit(base).hostname or ""
    return ContractReport(
        findings=tuple(
            (STATEMENTS[number], STATEMENTS[number].examine(evidence, plan))
            for number in sorted(STATEMENTS)
        ),
        spent=probe.spent,
        host="loopback" if is_loopback(host) else host,
        day=datetime.fromtimestamp(clock(), UTC).date().isoformat(),
    )
