"""Script: which request meets which fault."""

from __future__ import annotations

import math

from apixo_async.testing.exchanges import Kind
from apixo_async.testing.faults import HEALTHY, Fault, Script

A, B, C = Fault.status(500), Fault.html(502), Fault.lost_answer()


def taken(script: Script, kind: Kind, count: int, task_id: str | None = None) -> list[Fault]:
    """Take ``count`` turns at time 0."""
    return [script.take(kind, task_id, 0.0) for _ in range(count)]


def test_turns_are_taken_in_order_by_their_kind() -> None:
    """Each kind of request has a queue of its own, and health after its end."""
    script = Script()
    script.submit(A, None, B)
    script.submit(C)
    script.balance(B)
    script.download(C)
    assert taken(script, "poll", 1) == [HEALTHY]
    assert taken(script, "submit", 5) == [A, HEALTHY, B, C, HEALTHY]
    assert taken(script, "balance", 2) == [B, HEALTHY]
    assert taken(script, "download", 2) == [C, HEALTHY]


def test_a_tasks_own_turns_come_first() -> None:
    """Turns of one task meet its polls only, before those of all polls."""
    script = Script()
    script.poll(A)
    script.poll(B, task_id="t")
    assert taken(script, "poll", 1, "u") == [A]
    assert taken(script, "poll", 2, "t") == [B, HEALTHY]


def test_repeats_take_one_turn_after_the_other() -> None:
    """A repeated fault takes exactly its number of turns, and ``left`` counts them."""
    script = Script()
    script.submit(Fault.repeat(3, A), B)
    assert script.left == 4
    names = [fault.name for fault in taken(script, "submit", 5)]
    assert names == ["status 500"] * 3 + ["html 502", ""]
    assert script.left == 0


def test_an_outage_meets_the_api_while_it_lasts() -> None:
    """From its start until, and not at, its end an outage meets all calls, but no download."""
    script = Script()
    script.during(10.0, 20.0, A)
    assert [script.take("poll", None, now) for now in (9.9, 10.0, 19.9, 20.0)] == [
        HEALTHY,
        A,
        A,
        HEALTHY,
    ]
    kinds: tuple[Kind, ...] = ("submit", "balance", "download", "other")
    assert [script.take(kind, None, 15.0) for kind in kinds] == [A, A, HEALTHY, HEALTHY]


def test_an_outage_may_be_of_one_kind_and_for_ever() -> None:
    """An outage of one kind spares the others; scripted turns come before it."""
    script = Script()
    script.during(-math.inf, math.inf, A, kind="download")
    script.download(B)
    assert taken(script, "download", 2) == [B, A]
    assert taken(script, "poll", 1) == [HEALTHY]


def test_a_cleared_script_is_healthy() -> None:
    """After clear() no turn and no outage is left."""
    script = Script()
    script.submit(A)
    script.during(0.0, 1.0, B)
    script.clear()
    assert taken(script, "submit", 1) == [HEALTHY]
    assert script.left == 0
