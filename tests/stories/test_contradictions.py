"""The service as its documents contradict each other: every odd answer, through the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from apixo_async import (
    APIStatusError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    FluxKontext,
    GptImage1,
    InsufficientBalanceError,
    Limits,
    NotFoundError,
    PermissionDeniedError,
    SubmitUncertainError,
    TaskFailedError,
    TaskNotFoundError,
)
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]

CAFE = GptImage1(prompt="a cozy cyberpunk cafe", aspect_ratio="3:2", num_images=2)

ODD_POLLS = {
    "unknown state": Fault.odd_state("processing_r2"),
    "null data": Fault.data_null(),
    "missing data": Fault.data(),
    "data is a number": Fault.data(7),
    "HTML with 200": Fault.html(200),
    "HTML with 502": Fault.html(502),
    "broken JSON": Fault.raw(200, b'{"code": 200, "data": {"sta'),
    "empty body": Fault.raw(200, b""),
    "500": Fault.status(500),
    "502": Fault.status(502),
    "503": Fault.status(503),
    "504": Fault.status(504),
    "200 with 500 in the body": Fault.status(200, code_in_body=500),
    "429": Fault.status(429),
    "429 with Retry-After": Fault.status(429, retry_after=2.0),
    "one 404": Fault.status(404),
    "lost answer": Fault.lost_answer(),
    "reset": Fault.reset_after(),
    "refused connection": Fault.refused(),
    "truncated": Fault.truncated(),
    "no answer": Fault.hang(),
}


@pytest.mark.parametrize("fault", ODD_POLLS.values(), ids=ODD_POLLS.keys())
async def test_one_odd_poll(simulator: Simulator, client_of: ClientOf, fault: Fault) -> None:
    """A poll that told nothing is repeated by the agenda, and the task is not lost."""
    simulator.faults.poll(fault)
    result = await client_of(simulator).generate(CAFE)
    assert len(result.urls) == 2
    assert simulator.faults.left == 0
    assert simulator.created == 1


ODD_ENDS = {
    "result as an object": Fault.result_json_as_object(),
    "no timestamps": Fault.no_timestamps(),
}


@pytest.mark.parametrize("fault", ODD_ENDS.values(), ids=ODD_ENDS.keys())
async def test_odd_success(simulator: Simulator, client_of: ClientOf, fault: Fault) -> None:
    """Every URL is read from a result in either form, with and without timestamps."""
    simulator.faults.poll(Fault.repeat(50, fault))
    result = await client_of(simulator).generate(CAFE)
    assert len(result.urls) == 2
    assert (result.created_at is None) == (fault.name == Fault.no_timestamps().name)


async def test_success_without_urls(simulator: Simulator, client_of: ClientOf) -> None:
    """A success that lists no URL is a result without URLs, not an error."""
    simulator.faults.poll(Fault.repeat(50, Fault.no_result_urls()))
    assert (await client_of(simulator).generate(CAFE)).urls == ()


REFUSALS: dict[str, tuple[Fault, type[APIStatusError]]] = {
    "400": (Fault.status(400, message="aspect_ratio is wrong"), BadRequestError),
    "400 for no credit": (
        Fault.status(400, message="Insufficient credits"),
        InsufficientBalanceError,
    ),
    "401": (Fault.status(401), AuthenticationError),
    "402": (Fault.status(402), InsufficientBalanceError),
    "403": (Fault.status(403), PermissionDeniedError),
    "404": (Fault.status(404), NotFoundError),
    "422": (Fault.status(422), BadRequestError),
    "200 with 402 in the body": (
        Fault.status(200, code_in_body=402, message="Insufficient credits"),
        InsufficientBalanceError,
    ),
    "500 with 401 in the body": (Fault.status(500, code_in_body=401), AuthenticationError),
    "400 without data": (Fault.status(400, has_data=False), BadRequestError),
    "400 with words in data": (
        Fault.status(400, message="", data={"error": "prompt is empty"}),
        BadRequestError,
    ),
    "403 as HTML": (Fault.html(403), PermissionDeniedError),
}


@pytest.mark.parametrize(("fault", "error"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_refused_submit(
    simulator: Simulator, client_of: ClientOf, fault: Fault, error: type[APIStatusError]
) -> None:
    """A refusal is raised as its own class, once, with nothing bought and the slot free."""
    simulator.faults.submit(fault)
    client = client_of(simulator)
    with pytest.raises(error, match="gpt-image-1") as caught:
        await client.submit(CAFE)
    assert type(caught.value) is error
    assert caught.value.bought is False
    assert simulator.count("submit") == 1
    assert client.statistics().slots_used == 0


REPEATED = {
    "429": Fault.status(429),
    "429 with Retry-After": Fault.status(429, retry_after=5.0),
    "503 in an envelope": Fault.status(503),
    "refused connection": Fault.refused(),
    "unreachable host": Fault.unreachable(),
}


@pytest.mark.parametrize("fault", REPEATED.values(), ids=REPEATED.keys())
async def test_submit_that_is_repeated(
    simulator: Simulator, client_of: ClientOf, fault: Fault
) -> None:
    """What surely made no task is sent again by itself, and buys one."""
    simulator.faults.submit(fault, fault)
    result = await client_of(simulator).generate(CAFE)
    assert len(result.urls) == 2
    assert simulator.created == 1


UNCERTAIN = {
    "lost answer": Fault.lost_answer(),
    "reset after": Fault.reset_after(),
    "reset before": Fault.reset_before(),
    "no answer": Fault.hang(),
    "truncated": Fault.truncated(),
    "500": Fault.status(500),
    "502 as HTML": Fault.html(502),
    "503 as HTML": Fault.html(503),
    "504": Fault.status(504),
    "408": Fault.html(408),
    "409": Fault.html(409),
    "HTML with 200": Fault.html(200),
    "null data with 200": Fault.data_null(),
}


@pytest.mark.parametrize("fault", UNCERTAIN.values(), ids=UNCERTAIN.keys())
async def test_uncertain_submit(simulator: Simulator, client_of: ClientOf, fault: Fault) -> None:
    """What may have made a task is never sent again; its slot is held, then given back."""
    simulator.faults.submit(fault)
    client = client_of(simulator)
    with pytest.raises(SubmitUncertainError, match="resubmit") as caught:
        await client.submit(CAFE)
    assert caught.value.bought is None
    assert caught.value.input == CAFE
    assert simulator.count("submit") == 1
    assert client.statistics().slots_used == 1
    task = await client.resubmit(caught.value)
    await task
    assert simulator.count("submit") == 2


async def test_slot_of_an_uncertain_submit(client_of: ClientOf) -> None:
    """The slot of an uncertain submit is free again after the model's longest time, 180 s."""
    simulator = Simulator(seed=1, concurrent_tasks=1)
    simulator.faults.submit(Fault.lost_answer())
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    with pytest.raises(SubmitUncertainError):
        await client.submit(CAFE)
    uncertain_at = asyncio.get_running_loop().time()
    await client.submit(CAFE)
    assert asyncio.get_running_loop().time() - uncertain_at == pytest.approx(180, abs=0.2)


async def test_failed_task(simulator: Simulator, client_of: ClientOf) -> None:
    """A failed task, which arrives with HTTP 200 and code 200, raises with its code and family."""
    simulator.faults.submit(Fault.task_fails("Unknown error", "something broke"))
    client = client_of(simulator)
    task = await client.submit(CAFE)
    with pytest.raises(TaskFailedError, match="something broke") as caught:
        await task
    error = caught.value
    assert (error.fail_code, error.family, error.retryable) == ("Unknown error", "upstream", True)
    assert (error.model, error.task_id, error.bought) == ("gpt-image-1", task.id, True)


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-2", "sora-2", "nano-banana"])
async def test_unknown_task(simulator: Simulator, client_of: ClientOf, model: str) -> None:
    """Five polls over ten seconds that answer 404 tell that there is no such task."""
    client = client_of(simulator)
    attached_at = asyncio.get_running_loop().time()
    task = client.attach(model, "task_none")
    with pytest.raises(TaskNotFoundError, match="check the task id"):
        await task
    polls = [exchange.at for exchange in simulator.log]
    assert len(polls) == 5
    assert polls[-1] - polls[0] >= 10
    assert asyncio.get_running_loop().time() - attached_at < 15
    assert client.statistics().slots_used == 0


async def test_task_of_another_model(simulator: Simulator, client_of: ClientOf) -> None:
    """A task id under another model is told apart at once where the client knows better."""
    client = client_of(simulator)
    task = await client.submit(CAFE)
    with pytest.raises(ValueError, match="is one of gpt-image-1, not of flux-kontext"):
        client.attach("flux-kontext", task.id)
    stranger = client_of(simulator).attach("flux-kontext", task.id)
    with pytest.raises(TaskNotFoundError, match="a task of this model"):
        await stranger


async def test_denied_polls_pause(simulator: Simulator, client_of: ClientOf) -> None:
    """A 401 to a poll tells every waiter, polls pause, and `refresh` resumes them."""
    client = client_of(simulator)
    task = await client.submit(FluxKontext(mode="pro", prompt="x"))
    simulator.faults.poll(Fault.status(401))
    with pytest.raises(AuthenticationError):
        await task
    polls = simulator.count("poll")
    with pytest.raises(AuthenticationError):
        await task
    assert simulator.count("poll") == polls
    assert not task.done()
    await task.refresh()
    assert (await task).urls


@pytest.mark.parametrize("key", ["\ud83d", "taskId\ude00"])
async def test_half_a_character_beside_the_id(
    simulator: Simulator, client_of: ClientOf, key: str
) -> None:
    """A key that is cut in two hides neither a task's id nor its result."""
    odd = {key: key, "inner": [{key: [key]}]}
    made = {"taskId": "task_1", **odd}
    over = made | {
        "state": "success",
        "resultJson": json.dumps({"resultUrls": ["https://x.example/1.png"], **odd}),
    }
    simulator.faults.submit(Fault.raw(200, json.dumps({"code": 200, "data": made}).encode()))
    simulator.faults.poll(Fault.raw(200, json.dumps({"code": 200, "data": over}).encode()))
    task = await client_of(simulator).submit(CAFE)
    assert (await task).urls == ("https://x.example/1.png",)
    json.dumps((await task).raw, ensure_ascii=False).encode()
