"""The demo's table of prompts, and what it asks of the run beneath it."""

from __future__ import annotations

import asyncio

from apixo_async import events
from apixo_async._cli.console import Screen
from apixo_async._cli.demo import PROMPTS, DemoNotices
from apixo_async.inputs import DOCUMENTED


def test_the_demo_asks_every_documented_model() -> None:
    """The demo's table holds each documented model, in valid inputs, and some failures."""
    assert len(PROMPTS) == 24
    assert {prompt.input.model for prompt in PROMPTS} == set(DOCUMENTED)
    assert all(prompt.input.price for prompt in PROMPTS)
    failing = [prompt for prompt in PROMPTS if prompt.fails]
    assert 2 <= len(failing) <= 4
    assert "CONTENT_VIOLATION" in {prompt.fails[0] for prompt in failing if prompt.fails}


async def test_rows_are_bought_one_after_the_other() -> None:
    """The simulator fails tasks by turn: a row is read once the one before it is bought."""
    notices = DemoNotices(Screen())
    rows = notices.inputs(PROMPTS[:2])
    assert (await anext(rows))[0] == "0"
    second = asyncio.ensure_future(anext(rows))
    await asyncio.sleep(1)
    assert not second.done()
    notices.event(events.TaskSubmitted("m", "t", 0.1))
    assert (await second)[1] == PROMPTS[1].input
