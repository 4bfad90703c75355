"""The APIXO service as an object, in process or on a port, for tests without a network.

In process and in virtual time this needs nothing but the package; the served simulator and result
images need the extra ``apixo-async[simulator]``.
"""

from __future__ import annotations

from apixo_async.testing.callbacks import Attempt, Callback, CallbackCounts
from apixo_async.testing.exchanges import Exchange
from apixo_async.testing.faults import Fault
from apixo_async.testing.memory_store import MemoryStore
from apixo_async.testing.open_points import OpenPoints
from apixo_async.testing.process import serve_process
from apixo_async.testing.server import serve, serve_forever, serve_thread
from apixo_async.testing.simulator import Simulator, SimulatorStatistics
from apixo_async.testing.tasks import SimulatedTask
from apixo_async.testing.transport import SimulatorTransport
from apixo_async.testing.virtual_time import RealTimeWarning, StuckError, VirtualTimeLoop

# The way of a request:
#   transport       in process: latency, timeouts and cut connections as a socket has them
#   server          on a port, with the page; uvicorn_server under it, process and __main__ above it
#   simulator       begin, arrive, answered: key, limits, the call itself, the log
#   submissions     what a submit may ask for
#   tasks           the task that it creates: duration, end, status object; results: its files
#   exchanges       requests, routes, envelopes, the log; accounts: balance and limits of a key
#   mistakes        what a 4xx says is wrong with a request
#   faults          the script of what goes wrong
#   callbacks       what becomes of a task's callbacks; deliveries posts them
#   options         the keywords of Simulator, checked; open_points: what no document settles
# Beside it: virtual_time, the loop of tests; plugin, the fixtures for pytest; memory_store, what
# processes share, without a database; store_contract, what every store must do.

__all__ = [
    "Attempt",
    "Callback",
    "CallbackCounts",
    "Exchange",
    "Fault",
    "MemoryStore",
    "OpenPoints",
    "RealTimeWarning",
    "SimulatedTask",
    "Simulator",
    "SimulatorStatistics",
    "SimulatorTransport",
    "StuckError",
    "VirtualTimeLoop",
    "serve",
    "serve_forever",
    "serve_process",
    "serve_thread",
]
