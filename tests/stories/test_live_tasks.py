"""An error that a waiter gets is not the end of its task, unless it says so."""

from __future__ import annotations

import asyncio

import pytest

from apixo_async import ApixoError, AsyncClient, FluxKontext, TaskFailedError
from apixo_async.testing import Fault, Simulator

CASTLE = FluxKontext(mode="pro", prompt="a castle")


async def told(task: asyncio.Future[object]) -> ApixoError:
    with pytest.raises(ApixoError) as caught:
        await task
    return caught.value


async def test_what_ends_a_wait_does_not_end_the_task() -> None:
    """A close, a timeout and a refused key leave paid tasks alive, and say how to go on."""
    simulator = Simulator(seed=1)
    errors: list[ApixoError] = []
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        late = await client.submit(CASTLE)
        errors.append(await told(asyncio.ensure_future(late.until(0.0))))
        refused = await client.submit(CASTLE)
        simulator.faults.poll(Fault.repeat(2, Fault.status(401)))
        errors.append(await told(refused.as_future()))
        left = await client.submit(CASTLE)
        closed = asyncio.ensure_future(told(left.as_future()))
        await asyncio.sleep(0)
    errors.append(await closed)
    assert [(error.task_over, error.bought) for error in errors] == [(False, True)] * 3
    assert {error.ref for error in errors} == {late.ref, refused.ref, left.ref}
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        for error in errors:
            assert error.ref is not None
            assert (await client.attach(error.ref)).urls


async def test_what_the_service_gave_up_is_over() -> None:
    """The error of a failed task says so."""
    simulator = Simulator(seed=1)
    simulator.faults.submit(Fault.task_fails())
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        task = await client.submit(CASTLE)
        with pytest.raises(TaskFailedError) as caught:
            await task
    assert (caught.value.task_over, caught.value.ref) == (True, task.ref)
