"""What the service of a simulated life does wrong: every fault there is, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from apixo_async.testing import Fault, Simulator
from apixo_async.testing.virtual_time import START

#: Answers to a submit that leave open whether a task was made.
_UNCLEAR: Final = (408, 409, 500, 502, 504)


def _status(rng: random.Random) -> Fault:
    code = rng.choice((400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504))
    return Fault.status(
        code,
        envelope=rng.random() < 0.7 or code == 503,
        retry_after=rng.choice((None, None, 0.0, 2.0, 15.0)),
        carried_out=code in _UNCLEAR and rng.random() < 0.5,
    )


#: Every kind of fault that the simulator knows, by the name of its maker.
FAULTS: Final[dict[str, Callable[[random.Random], Fault]]] = {
    "none": lambda _: Fault.none(),
    "repeat": lambda rng: Fault.repeat(rng.randint(1, 3), Fault.status(rng.choice((429, 503)))),
    "status": _status,
    "html": lambda rng: Fault.html(rng.choice((200, 502)), carried_out=rng.random() < 0.5),
    "raw": lambda rng: Fault.raw(200, rng.choice((b"", b"{", b"[1]")), carried_out=True),
    "lost_answer": lambda _: Fault.lost_answer(),
    "reset_after": lambda _: Fault.reset_after(),
    "reset_before": lambda _: Fault.reset_before(),
    "refused": lambda _: Fault.refused(),
    "unreachable": lambda _: Fault.unreachable(),
    "hang": lambda rng: Fault.hang(carried_out=rng.random() < 0.5),
    "delay": lambda rng: Fault.delay(rng.uniform(0, 9), rng.choice((None, Fault.lost_answer()))),
    "truncated": lambda rng: Fault.truncated(rng.random(), content_length=rng.random() < 0.5),
    "odd_state": lambda _: Fault.odd_state(),
    "result_json_as_object": lambda _: Fault.result_json_as_object(),
    "result_json": lambda rng: Fault.result_json(rng.choice((None, "", "{", 7))),
    "no_result_urls": lambda _: Fault.no_result_urls(),
    "no_timestamps": lambda _: Fault.no_timestamps(),
    "data": lambda rng: Fault.data(rng.choice(({}, [], "x", 5, {"taskId": None}))),
    "data_null": lambda _: Fault.data_null(),
    "task_fails": lambda _: Fault.task_fails(),
    "task_lasts": lambda rng: Fault.task_lasts(rng.uniform(0, 100)),
}

_OUTAGES: Final = (
    Fault.status(503),
    Fault.html(502),
    Fault.refused(),
    Fault.unreachable(),
    Fault.reset_before(),
    Fault.hang(carried_out=False),
    Fault.delay(1.0),
    Fault.status(429, retry_after=3.0),
)


def script_trouble(simulator: Simulator, rng: random.Random) -> None:
    """Script faults for a share of the requests, and up to two outages."""
    share, makers, faults = rng.choice((0.0, 0.1, 0.4)), list(FAULTS.values()), simulator.faults
    for script, count in ((faults.submit, 30), (faults.look, 80), (faults.balance, 5)):
        turns = range(count)
        script(*(rng.choice(makers)(rng) if rng.random() < share else None for _ in turns))
    for _ in range(rng.choice((0, 0, 1, 2))):
        start = START + rng.uniform(0, 200)
        kind = rng.choice((None, "submit", "look"))
        faults.during(start, start + rng.uniform(1, 60), rng.choice(_OUTAGES), kind)
