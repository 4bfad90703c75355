"""The APIXO service as an object, in process or on a port, for tests without a network.

In process and in virtual time this needs nothing but the package; the served simulator and result
images need the extra ``apixo-async[simulator]``.
"""

from __future__ import annotations

from apixo_async.testing.api import SimulatorStatistics
from apixo_async.testing.callbacks import Attempt, Callback, CallbackCounts
from apixo_async.testing.faults import Fault
from apixo_async.testing.lifecycles import SimulatedTask
from apixo_async.testing.log import Exchange
from apixo_async.testing.process import serve_process
from apixo_async.testing.server import serve
from apixo_async.testing.simulator import Simulator
from apixo_async.testing.transport import SimulatorTransport
from apixo_async.testing.virtual_time import StuckError, VirtualTimeLoop

__all__ = [
    "Attempt",
    "Callback",
    "CallbackCounts",
    "Exchange",
    "Fault",
    "SimulatedTask",
    "Simulator",
    "SimulatorStatistics",
    "SimulatorTransport",
    "StuckError",
    "VirtualTimeLoop",
    "serve",
    "serve_process",
]
