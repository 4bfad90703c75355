"""Mistakes: what an answer says is wrong with a request that the documentation does not have."""

from __future__ import annotations

import pytest

from apixo_async.testing.exchanges import Call, route
from apixo_async.testing.mistakes import (
    no_such_call,
    no_such_key,
    no_such_model,
    no_such_task,
    no_task_id,
)

SUBMIT = "/api/v1/generateTask/{model}"
POLL = "/api/v1/statusTask/{model}?taskId={taskId}"
BALANCE = "/api/v1/apikeys/current-balance"


@pytest.mark.parametrize(
    ("path", "documented", "wrong"),
    [
        ("/generateTask/a", SUBMIT, "does not begin with /api/v1/"),
        ("/v1/generateTask/a", SUBMIT, "does not begin with /api/v1/"),
        ("/current-balance", BALANCE, "does not begin with /api/v1/apikeys/"),
        ("/api/v1/current-balance", BALANCE, "does not begin with /api/v1/apikeys/"),
        ("/api/v1/api/v1/generateTask/a", SUBMIT, "has /api/v1 twice"),
        ("/api/v1//statusTask/a", POLL, "has an empty part ('//')"),
        ("//api/v1/generateTask/a", SUBMIT, "has an empty part ('//')"),
        ("/api/v1/generateTask/a/", SUBMIT, "ends with '/'"),
        ("//generateTask/a", SUBMIT, "has an empty part ('//') and does not begin with /api/v1/"),
        ("/api/v1/apikeys/current-balance/", BALANCE, "ends with '/'"),
        ("/api/v1/statustask/a", POLL, "does not spell statusTask so"),
        ("/api/v1/statusTask", POLL, "names no model"),
        ("/api/v1/generateTask/", SUBMIT, "ends with '/' and names no model"),
        ("/api/v1/statusTask/a/t1", POLL, "has more than one part where the model stands"),
        ("/api/v1/statusTask/a?taskId=t1", POLL, "has its '?' percent-encoded"),
        ("/api/v1/generateTask/a b", SUBMIT, "names a model with other characters"),
        ("api/v1/generateTask/a", SUBMIT, "does not begin with /api/v1/"),
        ("generateTask/a", SUBMIT, "does not begin with /api/v1/"),
        ("/api/v1/apikeys/current-balance/a", BALANCE, "has more behind it"),
    ],
)
def test_a_wrong_path_is_compared_with_the_documented_one(
    path: str, documented: str, wrong: str
) -> None:
    """A 404 has the documented path, and where the other one differs."""
    call = Call("POST" if documented == SUBMIT else "GET", path)
    refusal = no_such_call(call, route(call))
    start = f"Not found: the documented path is {documented}; this one {wrong}"
    assert refusal.code == 404
    assert refusal.message.startswith(start)


@pytest.mark.parametrize("path", ["/", "*", "/v1/images", "/results/t/0.gif"])
def test_a_path_of_no_call_gets_all_of_them(path: str) -> None:
    """A 404 for anything else has every documented path."""
    refusal = no_such_call(Call("GET", path), route(Call("GET", path)))
    assert (refusal.code, refusal.message) == (
        404,
        f"Not found: the documented paths are {SUBMIT}, {POLL}, {BALANCE}",
    )


@pytest.mark.parametrize(
    ("method", "path", "allowed", "told"),
    [
        ("GET", "/api/v1/generateTask/a", "POST", "after a redirect many clients"),
        ("POST", "/api/v1/statusTask/a", "GET", f"not POST, as {POLL}"),
        ("OPTIONS", BALANCE, "GET", "not OPTIONS"),
        ("PUT", "/results/t/0.png", "GET, HEAD", "takes GET, HEAD, not PUT"),
        ("Q" * 100, BALANCE, "GET", "not QQQQQQQQQQQQQQQQQQQQ"),
    ],
)
def test_a_wrong_method_gets_the_right_one(method: str, path: str, allowed: str, told: str) -> None:
    """A 405 has the methods of its path, in Allow as well."""
    refusal = no_such_call(Call(method, path), route(Call(method, path)))
    assert (refusal.code, refusal.headers) == (405, {"allow": allowed})
    assert told in refusal.message


@pytest.mark.parametrize(
    ("headers", "query", "told"),
    [
        ({}, {}, "no Authorization header came"),
        ({}, {"api_key": "s3cret"}, "a key in the query is not read"),
        ({"x-api-key": "s3cret"}, {}, "the header x-api-key is not read"),
        ({"authorization": "s3cret"}, {}, "does not begin with 'Bearer '"),
        ({"authorization": "Bearer:s3cret"}, {}, "does not begin with 'Bearer '"),
        ({"authorization": "Basic s3cret"}, {}, "the scheme of the Authorization header is Basic"),
        ({"authorization": "Bearer"}, {}, "no key follows Bearer"),
        ({"authorization": "Bearer Bearer s3cret"}, {}, "Bearer came twice"),
        ({"authorization": "Bearer s3cret, Bearer s3cret"}, {}, "Bearer came twice"),
        ({"authorization": "Bearer None"}, {}, "a placeholder came"),
        ({"authorization": "Bearer undefined"}, {}, "a placeholder came"),
        ({"authorization": "Bearer YOUR_API_KEY"}, {}, "a placeholder came"),
        ({"authorization": "Bearer $APIXO_API_KEY"}, {}, "a placeholder came"),
        ({"authorization": 'Bearer "s3cret"'}, {}, "there are quotes around the key"),
        ({"authorization": "Bearer s3cret"}, {}, "no account has this key"),
    ],
)
def test_a_wrong_key_is_told_from_none(
    headers: dict[str, str], query: dict[str, str], told: str
) -> None:
    """A 401 says what is wrong with the header, and holds nothing of a key."""
    refusal = no_such_key(Call("GET", BALANCE, query, headers))
    assert refusal.code == 401
    assert refusal.message.startswith("Invalid or missing API Key: ")
    assert told in refusal.message
    assert "s3cret" not in refusal.message


def test_an_unknown_model_gets_those_that_exist() -> None:
    """A 404 for a model has the names that there are, as far as a line holds them."""
    assert no_such_model("x", []).message == "Model not found: x; there are none"
    assert no_such_model("x", ["b", "a"]).message == "Model not found: x; there are a, b"
    many = [f"m{number}" for number in range(10)]
    assert no_such_model("x", many).message.endswith("m6, m7 and 2 more")


@pytest.mark.parametrize(
    ("query", "body", "told"),
    [
        ({}, b"", POLL),
        ({"task_id": "t"}, b"", "task_id is another name"),
        ({"taskid": "t"}, b"", "taskid is another name"),
        ({"taskId": ""}, b"", "it came empty"),
        ({}, b"{}", "the body of a poll is not read"),
    ],
)
def test_a_poll_without_task_id_says_where_it_belongs(
    query: dict[str, str], body: bytes, told: str
) -> None:
    """A 400 for a poll has what came in place of taskId."""
    refusal = no_task_id(Call("GET", "/api/v1/statusTask/a", query, body=body))
    assert refusal.code == 400
    assert refusal.message.startswith("taskId is required in the query")
    assert told in refusal.message


@pytest.mark.parametrize(
    ("task_id", "own_model", "told"),
    [
        ("t", None, "no submit was answered with this taskId"),
        ("t", "b", "it is a task of b, and the path has a"),
        ("undefined", None, "taskId is undefined"),
        ("None", None, "taskId is None"),
        ('"task_1"', None, "quotes or spaces around taskId"),
        ("task_1\n", None, "quotes or spaces around taskId"),
    ],
)
def test_an_unknown_task_says_what_may_be_wrong(
    task_id: str, own_model: str | None, told: str
) -> None:
    """A 404 for a task has the likely reason."""
    refusal = no_such_task(task_id, "a", own_model)
    assert refusal.code == 404
    assert refusal.message.startswith("Task not found: ")
    assert told in refusal.message
