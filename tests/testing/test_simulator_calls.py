"""Service: who may ask, how often, for what, in which order the refusals come."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from apixo_async.testing.exchanges import Call, Reply
from apixo_async.testing.simulator import Simulator

HEADERS = {"authorization": "Bearer test-key", "content-type": "application/json"}
FIELDS = {"mode": "gpt-image-1", "prompt": "p", "aspect_ratio": "3:2", "num_images": 1}


def ask(simulator: Simulator, call: Call, now: float = 0.0) -> Reply:
    """Carry out one call at ``now``."""
    return simulator.arrive(call, simulator.begin(call, now), now).reply


def submit(
    simulator: Simulator, now: float = 0.0, model: str = "gpt-image-1", **changes: Any
) -> Reply:
    """Submit a task of $0.35."""
    body = json.dumps({"request_type": "async", "input": FIELDS | changes}).encode()
    path = f"/api/v1/generateTask/{model}"
    return ask(simulator, Call("POST", path, headers=HEADERS, body=body), now)


def poll(
    simulator: Simulator, task_id: str | None, now: float, model: str = "gpt-image-1"
) -> Reply:
    """Poll a task."""
    query = {} if task_id is None else {"taskId": task_id}
    return ask(simulator, Call("GET", f"/api/v1/statusTask/{model}", query, HEADERS), now)


def balance(simulator: Simulator, now: float = 0.0, **headers: str) -> Reply:
    """Ask for the balance."""
    call = Call("GET", "/api/v1/apikeys/current-balance", headers=HEADERS | headers)
    return ask(simulator, call, now)


def data(reply: Reply) -> Any:
    """Return the data of a success."""
    assert (reply.status, reply.code) == (200, 200), reply.body
    return json.loads(reply.body)["data"]


def message(reply: Reply, code: int) -> str:
    """Return the message of an error with this code, whose data is null."""
    body = json.loads(reply.body)
    assert (reply.status, body["code"], body["data"]) == (code, code, None)
    return str(body["message"])


def test_a_task_lives_from_submit_to_result() -> None:
    """A task is submitted, seen pending, processing and successful; its result can be got."""
    simulator = Simulator(epoch=0.0)
    task_id = data(submit(simulator, 1000.0))["taskId"]
    task = simulator.tasks[task_id]
    assert 20.0 <= task.ends - task.created <= 40.0
    moments = (1000.0, task.started, task.ends)
    states = [data(poll(simulator, task_id, now))["state"] for now in moments]
    assert states == ["pending", "processing", "success"]
    seen = data(poll(simulator, task_id, task.ends))
    assert (seen["createTime"], seen["completeTime"]) == (1_000_000, round(task.ends * 1000))
    assert 0 < seen["completeTime"] - seen["createTime"] - seen["costTime"] < 1300
    (url,) = json.loads(seen["resultJson"])["resultUrls"]
    assert url == f"https://r2.apixo.ai/results/{task_id}/0.png"
    file = ask(simulator, Call("GET", f"/results/{task_id}/0.png"), task.ends)
    assert (file.status, file.headers["content-type"]) == (200, "image/png")


@pytest.mark.parametrize(
    "headers", [{"authorization": ""}, {"authorization": "Bearer wrong"}, {"authorization": "x"}]
)
def test_an_unknown_key_is_401(headers: dict[str, str]) -> None:
    """Without a known key every call of the API is refused."""
    simulator = Simulator()
    said = message(balance(simulator, 0.0, **headers), 401)
    assert said.startswith("Invalid or missing API Key: ")
    assert simulator.created == 0


def test_keys_have_balances_and_limits_of_their_own() -> None:
    """Each key sees its own balance, and fills its own window."""
    simulator = Simulator(keys={"a": Decimal(1), "b": Decimal("74.87")}, requests_per_minute=1)
    assert data(balance(simulator, authorization="Bearer a")) == 1.0
    assert data(balance(simulator, authorization="Bearer b")) == 74.87
    message(balance(simulator, authorization="Bearer a"), 429)
    message(balance(simulator), 401)


def test_a_submit_is_charged_by_its_price() -> None:
    """The balance is a bare number, less by what the submit cost."""
    simulator = Simulator(balance=Decimal(2))
    data(submit(simulator, num_images=4))
    assert data(balance(simulator)) == 0.6
    assert simulator.charged == Decimal("1.40")


@pytest.mark.parametrize(
    ("form", "code", "said"),
    [("402", 402, "Insufficient balance or quota"), ("400", 400, "Insufficient credits")],
)
def test_no_credit_takes_either_documented_form(form: Any, code: int, said: str) -> None:
    """A submit beyond the balance is refused in the chosen form, and costs nothing."""
    simulator = Simulator(balance=Decimal("0.35"), no_credit=form)
    data(submit(simulator))
    assert message(submit(simulator), code) == said
    assert (simulator.created, data(balance(simulator))) == (1, 0.0)


def test_a_wrong_input_is_400_and_costs_nothing() -> None:
    """Validation comes before credit, limit of tasks, and charge."""
    simulator = Simulator(balance=Decimal(0))
    assert "input.num_images" in message(submit(simulator, num_images=3), 400)


def test_the_limit_of_requests_is_exact() -> None:
    """Any 60 s hold the limit and not one more; requests answered 429 do not count."""
    simulator = Simulator(requests_per_minute=3)
    for now in (0.0, 10.0, 20.0):
        data(balance(simulator, now))
    assert message(balance(simulator, 59.9), 429) == "Rate limit exceeded"
    data(balance(simulator, 60.0))
    message(balance(simulator, 60.0), 429)
    data(balance(simulator, 70.0))
    assert simulator.most_in_window() == 3
    assert simulator.statistics().refused == 2


def test_polls_submits_and_balance_share_the_limit_of_requests() -> None:
    """Every call of the API counts, wrong ones too; downloads and unknown keys do not."""
    simulator = Simulator(requests_per_minute=4)
    task_id = data(submit(simulator))["taskId"]
    poll(simulator, task_id, 0.0)
    message(submit(simulator, prompt=""), 400)
    ask(simulator, Call("GET", f"/results/{task_id}/0.png", headers=HEADERS), 0.0)
    balance(simulator, authorization="Bearer no")
    data(balance(simulator))
    message(balance(simulator), 429)
    assert simulator.most_in_window() == 4


def test_the_limit_of_tasks_is_exact() -> None:
    """A submit beyond the tasks at once is 429 until one of them has ended."""
    simulator = Simulator(concurrent_tasks=2, durations=10.0)
    data(submit(simulator, 0.0))
    data(submit(simulator, 5.0))
    assert message(submit(simulator, 9.9), 429) == "Concurrent task limit reached"
    data(submit(simulator, 10.0))
    assert simulator.most_concurrent == 2


def test_a_429_may_tell_when_to_retry() -> None:
    """Retry-After is sent only when asked for."""
    quiet, loud = (
        Simulator(requests_per_minute=1),
        Simulator(requests_per_minute=1, retry_after=2.5),
    )
    replies = [[balance(simulator) for _ in range(2)][1] for simulator in (quiet, loud)]
    assert "retry-after" not in replies[0].headers
    assert replies[1].headers["retry-after"] == "2.5"


def test_a_poll_needs_a_known_task_of_the_model() -> None:
    """No taskId is 400; an unknown one, and one of another model, are 404."""
    simulator = Simulator()
    task_id = data(submit(simulator))["taskId"]
    assert message(poll(simulator, None, 0.0), 400).startswith("taskId is required")
    assert message(poll(simulator, "task_0", 0.0), 404).startswith("Task not found: ")
    said = message(poll(simulator, task_id, 0.0, "flux-kontext"), 404)
    assert said.startswith("Task not found: it is a task of gpt-image-1")


def test_the_documents_sample_task_can_be_polled_at() -> None:
    """task_12345678 answers as in the documents, under each documented model."""
    simulator = Simulator()
    for model, images in (("gpt-image-1", 2), ("gpt-image-2", 1), ("flux-kontext", 1)):
        seen = data(poll(simulator, "task_12345678", 50.0, model))
        assert (seen["state"], seen["costTime"]) == ("success", 41_388)
        urls = json.loads(seen["resultJson"])["resultUrls"]
        assert len(urls) == images
        for url in urls:
            path = url.removeprefix("https://r2.apixo.ai")
            assert ask(simulator, Call("GET", path), 50.0).status == 200


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/generateTask/sora-2", 405),
        ("POST", "/api/v1/generateTask/-", 404),
        ("GET", "/api/v2/anything", 404),
        *(
            (method, f"/api/v1/{path}", 405)
            for method in ("HEAD", "OPTIONS", "DELETE")
            for path in ("generateTask/sora-2", "statusTask/sora-2", "apikeys/current-balance")
        ),
    ],
)
def test_there_are_no_other_calls(method: str, path: str, code: int) -> None:
    """Anything else is an envelope with 404 or 405."""
    message(ask(Simulator(), Call(method, path, headers=HEADERS)), code)


def test_any_other_model_is_accepted() -> None:
    """A model that no document at hand describes takes any input."""
    simulator = Simulator()
    data(submit(simulator, model="happyHorse", anything={"at": ["all"]}))
    (task,) = simulator.tasks.values()
    assert (task.model, task.price, task.file_type) == ("happyHorse", Decimal("0.05"), "mp4")


def test_an_unknown_model_is_404_where_the_models_are_named() -> None:
    """With models given, any other is answered 404, costs nothing and counts as a request."""
    simulator = Simulator(models=("gpt-image-1", "sora-2"), requests_per_minute=5)
    task_id = data(submit(simulator))["taskId"]
    data(poll(simulator, task_id, 0.0))
    assert message(submit(simulator, model="gpt-image-9"), 404).startswith("Model not found: ")
    said = message(poll(simulator, "task_12345678", 0.0, "flux-kontext"), 404)
    assert said == "Model not found: flux-kontext; there are gpt-image-1, sora-2"
    assert simulator.created == 1
    assert [(record.kind, record.model, record.status) for record in simulator.log[2:]] == [
        ("submit", "gpt-image-9", 404),
        ("poll", "flux-kontext", 404),
    ]
    data(balance(simulator))
    message(submit(simulator, model="gpt-image-9"), 429)


def test_an_unknown_key_learns_no_model() -> None:
    """The key is polled before the model."""
    simulator = Simulator(models=())
    message(submit(simulator), 404)
    path = "/api/v1/generateTask/gpt-image-1"
    message(ask(simulator, Call("POST", path)), 401)


def test_images_and_charge_agree() -> None:
    """As many results come as are charged, for every documented number."""
    for asked, price in ((1, "0.35"), (2, "0.70"), (4, "1.40")):
        simulator = Simulator(durations=1.0)
        task_id = data(submit(simulator, num_images=asked))["taskId"]
        seen = data(poll(simulator, task_id, 1.0))
        assert len(json.loads(seen["resultJson"])["resultUrls"]) == asked
        assert simulator.charged == Decimal(price)


def test_a_number_of_images_that_is_no_integer_costs_nothing() -> None:
    """4.0, true and "4" are no documented numbers of images."""
    simulator = Simulator()
    for wrong in (4.0, True, "4"):
        assert "input.num_images" in message(submit(simulator, num_images=wrong), 400)
    assert (simulator.created, simulator.charged) == (0, Decimal(0))
