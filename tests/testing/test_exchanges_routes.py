"""Routes: which call a path and method are."""

from __future__ import annotations

import pytest

from apixo_async.testing.exchanges import Call, Route, route


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/v1/generateTask/gpt-image-1", Route("submit", "gpt-image-1")),
        ("POST", "/api/v1/generateTask/happyHorse", Route("submit", "happyHorse")),
        ("GET", "/api/v1/statusTask/sora-2", Route("poll", "sora-2", "t1")),
        ("GET", "/api/v1/apikeys/current-balance", Route("balance")),
        ("GET", "/results/t2/0.png", Route("download", None, "t2", 0)),
        ("HEAD", "/results/t2/13.jpg", Route("download", None, "t2", 13)),
        ("GET", "/api/v1/generateTask/a", Route("other", "a", problem=405)),
        ("POST", "/api/v1/statusTask/a", Route("other", "a", "t1", problem=405)),
        ("DELETE", "/results/t2/0.png", Route("other", None, "t2", 0, problem=405)),
        ("POST", "/api/v1/generateTask/a b", Route("submit", "a b", problem=404)),
        ("GET", "/api/v1/statusTask/-x", Route("poll", "-x", "t1", problem=404)),
        ("GET", "/generateTask/a", Route("other", problem=404)),
        ("POST", "/api/v1/generateTask/a/b", Route("other", problem=404)),
        ("GET", "/results/t2/0.gif", Route("other", problem=404)),
    ],
)
def test_a_path_is_one_call(method: str, path: str, expected: Route) -> None:
    """Every path is one kind of request, or a problem with a documented code."""
    query = {"taskId": "t1"} if "statusTask" in path else {"other": "1"}
    found = route(Call(method, path, query))
    assert found.problem == expected.problem
    assert (found.kind, found.model, found.index) == (expected.kind, expected.model, expected.index)
    assert (method in found.allowed) == (found.problem is None or found.kind != "other")
    if found.kind != "other":
        assert found.task_id == expected.task_id
