"""The contract: what a service does, in numbered statements that anyone can check against it.

Documents state them, or are silent and clients assume them; then they are what the simulator does
unless switched, and a finding that differs names the switch that does what was seen.
"""

from typing import Final

from apixo_async.testing.contract import callbacks, errors, limits, one_task, statements
from apixo_async.testing.contract.evidence import Evidence, ReceivedCallback
from apixo_async.testing.contract.probe import CallbackListener, Plan, Probe
from apixo_async.testing.contract.statements import Finding, Statement

#: Of the list of statements: a number keeps its statement, and a new one takes the next number.
VERSION: Final = 1

STATEMENTS: Final = tuple(statements.STATEMENTS[number] for number in sorted(statements.STATEMENTS))

__all__ = [
    "STATEMENTS",
    "VERSION",
    "CallbackListener",
    "Evidence",
    "Finding",
    "Plan",
    "Probe",
    "ReceivedCallback",
    "Statement",
]

_ = callbacks, errors, limits, one_task  # Imported for the statements that they hold.
