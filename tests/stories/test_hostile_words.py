"""What a service says reaches logs, errors and callers as text, and never with a prompt."""

from __future__ import annotations

import json
import logging

import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    Event,
    FluxKontext,
    Snapshot,
    TaskFailedError,
    TaskRef,
)
from apixo_async.testing import Fault, Simulator

PROMPT = "an unspeakable castle"
CASTLE = FluxKontext(mode="pro", prompt=PROMPT)
#: Sets the clipboard and the title, clears the screen, forges a line of a log, in both widths.
ATTACK = "x\x1b]52;c;cm0=\x07\x1b]0;t\x1b\\\x1b[2J\x9b2J\nERROR forged\r\u2028y"
LONG = 10_000


def said(status: int, **parts: object) -> Fault:
    return Fault.raw(status, json.dumps({"code": status, **parts}).encode(), "application/json")


def shown(error: BaseException) -> str:
    """Return every text of an error and of those that it came from."""
    texts = [str(error), *(value for value in vars(error).values() if isinstance(value, str))]
    return "".join(texts) + (shown(error.__cause__) if error.__cause__ else "")


async def test_odd_words_are_only_text(caplog: pytest.LogCaptureFixture) -> None:
    """State, codes, messages and ids can neither steer a terminal nor forge a line of the log."""
    caplog.set_level(logging.DEBUG, "apixo_async")
    simulator, events = Simulator(seed=1), list[Event]()
    failed = {"state": "failed", "failCode": ATTACK * 99, "failMsg": ATTACK * LONG}
    async with AsyncClient(
        "test-key", transport=simulator.transport(), on_event=events.append
    ) as client:
        simulator.faults.submit(said(400, message=ATTACK, data={"error": ATTACK * LONG}))
        with pytest.raises(ApixoError) as refused:
            await client.submit(CASTLE)
        simulator.faults.submit(said(200, data={"taskId": f"task_{ATTACK}"}))
        task = await client.submit(CASTLE)
        for state in (ATTACK, ATTACK * LONG):
            simulator.faults.poll(said(200, data={"state": state}))
            snapshot = await task.refresh()
            assert isinstance(snapshot, Snapshot)
            assert len(snapshot.state) <= 100
            assert snapshot.state.isprintable()
            assert snapshot.raw["state"] == state
        simulator.faults.poll(said(500, message=ATTACK), said(200, data=failed))
        with pytest.raises(TaskFailedError) as over:
            await task
    for error in (refused.value, over.value):
        assert error.args[0].isprintable()
        assert len(str(error)) < 2_000
    assert over.value.task_id == f"task_{ATTACK}".strip()
    assert over.value.fail_code is not None
    assert over.value.fail_msg is not None
    assert over.value.fail_code.isprintable()
    assert over.value.fail_msg.isprintable()
    assert 50 < len(over.value.fail_code) <= 100
    assert 400 < len(over.value.fail_msg) <= 500
    assert f"{task!r}{task.ref}".isprintable()
    assert [str(event) for event in events if not str(event).isprintable()] == []
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if line.startswith("ERROR")] == []
    assert len([line for line in lines if "task_" in line]) >= 4


async def test_a_prompt_that_the_service_repeats_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Refusals, failed polls and failed tasks are logged without the service's own words."""
    caplog.set_level(logging.DEBUG, "apixo_async")
    simulator, events = Simulator(seed=1), list[Event]()
    words = f"no good: {PROMPT}"
    async with AsyncClient(
        "test-key", transport=simulator.transport(), on_event=events.append
    ) as client:
        simulator.faults.submit(said(429, message=words), said(503, message=words))
        task = await client.submit(CASTLE)
        faulty = [said(code, message=words, data={"error": words}) for code in (500, 404, 429)]
        simulator.faults.poll(*faulty, *[said(500, message=words)] * 6)
        simulator.faults.poll(said(200, data={"state": "failed", "failMsg": words}))
        with pytest.raises(TaskFailedError, match=words):
            await task
        simulator.faults.submit(said(400, message=words))
        with pytest.raises(ApixoError, match=words):
            await client.submit(CASTLE)
        simulator.faults.poll(said(401, message=words))
        with pytest.raises(ApixoError, match=words):
            await client.attach(TaskRef("flux-kontext", "task_1"))
    assert not [record for record in caplog.records if PROMPT in record.getMessage()]
    assert not [event for event in events if PROMPT in f"{event!r} {event}"]
    reasons = "\n".join(str(event) for event in events)
    assert "HTTP 400 (BadRequestError)" in reasons
    assert "HTTP 500 (InternalServerError)" in reasons
