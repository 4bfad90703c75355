"""What the service of a simulated life does wrong: every fault there is, drawn at random."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from apixo_async.testing import Fault, Simulator
from apixo_async.testing.virtual_time import START

from .oddities import always_odd_text, odd_text, odd_times

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

#: What the answers of a service hold that is well otherwise, by the name of the fault.
ODDITIES: Final[dict[str, Callable[[random.Random], Fault]]] = {
    "odd text": odd_text,
    "odd times": odd_times,
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
_UNHEARD: Final = (
    Fault.lost_answer(),
    Fault.reset_after(),
    Fault.hang(),
    Fault.html(502, carried_out=True),
    Fault.status(500, carried_out=True),
    Fault.delay(5.0, Fault.lost_answer()),
)
_PAGES: Final = (400, 401, 403, 404, 410, 422, 500, 502, 503, 504)


def page(rng: random.Random) -> Fault:
    """Have a gateway answer in the service's place: HTML, plain text, or JSON of its own."""
    code = rng.choice(_PAGES)
    made = rng.choice(
        (
            Fault.html(code),
            Fault.raw(code, b"upstream not available", "text/plain"),
            Fault.status(code, envelope=False),
            Fault.raw(code),
        )
    )
    return replace(made, name="page")


def script_trouble(simulator: Simulator, rng: random.Random, within: float = 200) -> None:
    """Script faults for a share of the first requests, then outages, and habits of the service.

    Args:
        simulator: The service.
        rng: Decides it.
        within: Seconds in which all outages begin.
    """
    share, faults = rng.choice((0.0, 0.1, 0.4)), simulator.faults
    makers = [*FAULTS.values(), *ODDITIES.values()]
    scripts = ((faults.submit, 30), (faults.poll, 80), (faults.balance, 5))
    for script, most in scripts if share else ():
        turns = range(rng.randint(1, most))
        script(*(rng.choice(makers)(rng) if rng.random() < share else None for _ in turns))
    for _ in range(rng.choice((0, 0, 1, 3))):
        kind = rng.choice((None, "submit", "poll"))
        faults.during(*_stretch(rng, within, 60), rng.choice((*_OUTAGES, page(rng))), kind)
    if rng.random() < 0.2:
        faults.during(*_stretch(rng, within, 900), page(rng), rng.choice((None, "poll")))
    if rng.random() < 0.1:  # It has forgotten every task for a while.
        longest = rng.choice((20, 100, 400))
        faults.during(*_stretch(rng, within, longest), Fault.status(404), "poll")
    if rng.random() < 0.3:  # Nobody hears of what is bought.
        faults.during(*_stretch(rng, within, 120), rng.choice(_UNHEARD), "submit")
    for odd in (always_odd_text, odd_times):
        if rng.random() < 0.1:  # It is always like that.
            faults.during(-math.inf, math.inf, odd(rng))


def _stretch(rng: random.Random, within: float, longest: float) -> tuple[float, float]:
    start = START + rng.uniform(0, within)
    return start, start + rng.uniform(1, longest)
