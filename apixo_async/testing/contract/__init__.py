"""The contract: what a service does, in numbered statements that anyone can check against it.

    report = await conform(base_url=url, plan=Plan(max_cost=Decimal("0.10")))

Documents state them, or are silent and clients assume them; then they are what the simulator does
unless switched, and a finding that differs names the switch that does what was seen.
"""

from apixo_async.testing.contract import callbacks, errors, limits, one_task
from apixo_async.testing.contract.evidence import ReceivedCallback
from apixo_async.testing.contract.listener import Listener, listening
from apixo_async.testing.contract.probe import Plan
from apixo_async.testing.contract.report import VERSION, ContractReport, conform
from apixo_async.testing.contract.statements import STATEMENTS, Agreement, Finding, Statement

# The way of a statement: probe asks, evidence keeps what was seen, statements decide by it (those
# of errors, one_task, callbacks and limits, which are imported for them), report has all.

__all__ = [
    "STATEMENTS",
    "VERSION",
    "Agreement",
    "ContractReport",
    "Finding",
    "Listener",
    "Plan",
    "ReceivedCallback",
    "Statement",
    "conform",
    "listening",
]

_ = callbacks, errors, limits, one_task
