"""What one poll tells: the table of over, running, faulty, throttled, missing and denied."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._http import verdicts, wire
from apixo_async._http.verdicts import (
    Denied,
    Faulty,
    Missing,
    Over,
    PollVerdict,
    Running,
    Throttled,
    judge_poll,
)
from apixo_async._http.wire import Answer, Status, read_balance, read_envelope
from apixo_async._types import Result, TaskRef
from apixo_async.errors import (
    APIConnectionError,
    APIStatusError,
    InsufficientBalanceError,
    RateLimitError,
    TaskFailedError,
)

REF = TaskRef("gpt-image-1", "task_12345678")
URL = "https://r2.apixo.ai/xxx.png"
PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
GATEWAY = b'{"code": "NO_ROUTE", "message": "No", "data": {"taskId": "task_1"}}'
RESULT_JSON = json.dumps({"resultUrls": [URL]})


def body(code: object = 200, message: str = "success", **data: object) -> bytes:
    """Return an envelope; without `data`, one without it."""
    return json.dumps({"code": code, "message": message, **data}).encode()


def poll(status_object: object, *, status: int = 200, code: object = 200) -> PollVerdict:
    """Judge an answer that holds this status object."""
    return judge_poll(Answer(status, body(code, data=status_object)), REF)


CODES: dict[int, type[PollVerdict]] = {
    400: Missing,
    401: Denied,
    402: Faulty,
    403: Denied,
    404: Missing,
    408: Faulty,
    409: Faulty,
    410: Missing,
    418: Faulty,
    422: Missing,
    429: Throttled,
    500: Faulty,
    502: Faulty,
    503: Faulty,
    504: Faulty,
}


@pytest.mark.parametrize("told", ["both", "status", "code", "page", "gateway"])
@pytest.mark.parametrize(("code", "cls"), CODES.items(), ids=[str(code) for code in CODES])
def test_an_error_in_place_of_a_status(code: int, cls: type[PollVerdict], told: str) -> None:
    """An error tells nothing, that the task is unknown, that the key may not poll, or 429.

    A page that is no envelope is a gateway's: it tells nothing but a 429. Nor does a status that
    the envelope, which knows the task, contradicts.
    """
    if told in ("page", "gateway", "status") and cls is not Throttled:
        cls = Faulty
    content = body(200 if told == "status" else code, "No", data={"state": "success"})
    content = {"page": PAGE, "gateway": GATEWAY}.get(told, content)
    answer = Answer(200 if told == "code" else code, content)
    verdict = judge_poll(answer, REF)
    assert type(verdict) is cls
    error = verdict.error  # type: ignore[union-attr]  # every class above has one
    assert isinstance(error, APIStatusError)
    assert (error.model, error.task_id) == (REF.model, REF.task_id)
    assert str(error).startswith(f"gpt-image-1 task_12345678 answered {code}")
    assert (cls is Throttled) is isinstance(error, RateLimitError)


def test_no_credit_says_nothing_of_a_task() -> None:
    """A 400 for want of credit does not make a paid task unknown."""
    verdict = judge_poll(Answer(400, body(400, "Insufficient credits", data=None)), REF)
    assert isinstance(verdict, Faulty)
    assert isinstance(verdict.error, InsufficientBalanceError)


UNREADABLE = {
    "nothing": Answer(200, b""),
    "html": Answer(200, PAGE),
    "cut": Answer(200, body(data={"state": "success"})[:-3]),
    "no-code": Answer(200, b'{"data": {"state": "success"}}'),
    "null-code": Answer(200, body(None, data={"state": "success"})),
    "code-0": Answer(200, body(0, data={"state": "success"})),
    "code-201": Answer(200, body(201, data={"state": "success"})),
    "multiple-choices": Answer(300, body(data={"state": "success"})),
    "redirect": Answer(302, body(data={"state": "success"})),
    "informational": Answer(101, body(data={"state": "success"})),
    "data-missing": Answer(200, body()),
    "data-null": Answer(200, body(data=None)),
    "data-number": Answer(200, body(data=74.87)),
    "data-text": Answer(200, body(data="success")),
    "data-list": Answer(200, body(data=[{"state": "success"}])),
    "data-error": Answer(200, body(data={"error": "x"})),
    "state-null": Answer(200, body(data={"state": None})),
    "state-list": Answer(200, body(data={"state": ["success"]})),
    "state-empty": Answer(200, body(data={"state": ""})),
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_answer_without_a_status(answer: Answer) -> None:
    """What holds no readable status tells nothing: the task is polled again."""
    verdict = judge_poll(answer, REF)
    assert isinstance(verdict, Faulty)
    assert isinstance(verdict.error, APIConnectionError)
    assert (verdict.error.model, verdict.error.task_id) == (REF.model, REF.task_id)
    assert str(verdict.error) == (
        f"{REF}: HTTP {answer.status} without a readable status; a later poll may answer"
    )


@pytest.mark.parametrize("status", [200, 201, 203, 299])
def test_any_2xx_will_do(status: int) -> None:
    """Success is any HTTP 2xx with code 200."""
    assert isinstance(poll({"state": "pending"}, status=status), Running)


STILL_RUNNING = {
    "pending": {"state": "pending"},
    "processing": {"state": "processing", "createTime": 1767965610929},
    "undocumented": {"state": "processing_r2"},
    "unheard-of": {"state": "успех"},
    "number": {"state": 3},
    "blank": {"state": " "},
    "with-a-result": {"state": "processing", "resultJson": RESULT_JSON, "completeTime": 1},
    "with-a-fail-code": {"state": "queued", "failCode": "TIMEOUT"},
    "near-miss": {"state": "succeeded"},
}


@pytest.mark.parametrize("data", STILL_RUNNING.values(), ids=STILL_RUNNING.keys())
def test_a_task_that_runs(data: dict[str, object]) -> None:
    """Every state but two means that the task still runs, whatever else is said."""
    verdict = poll(data)
    assert isinstance(verdict, Running)
    assert (verdict.snapshot.state, verdict.snapshot.raw) == (str(data["state"]), data)
    assert (verdict.snapshot.model, verdict.snapshot.task_id) == (REF.model, REF.task_id)
    assert verdict.created == (1767965610.929 if "createTime" in data else None)


@pytest.mark.parametrize("state", ["processing", "success", "failed"])
def test_the_times_of_a_task(state: str) -> None:
    """What is said of a task that runs or is over comes with its creation and the answer's date."""
    header = "Fri, 09 Jan 2026 13:33:50 GMT"
    content = body(data={"state": state, "createTime": 1_767_965_610_929})
    for date, at in ((header, 1_767_965_630.0), (None, None), ("x", None)):
        verdict = judge_poll(Answer(200, content, date_header=date), REF)
        assert isinstance(verdict, Over | Running)
        assert (verdict.created, verdict.at) == (1_767_965_610.929, at)


SUCCESSES = {
    "full": {"state": "success", "resultJson": RESULT_JSON, "createTime": 1, "costTime": 2},
    "decoded": {"state": "success", "resultJson": {"resultUrls": [URL]}},
    "no-times": {"state": "success", "resultJson": RESULT_JSON},
    "shouted": {"state": " SUCCESS ", "resultJson": RESULT_JSON},
    "with-a-fail-code": {"state": "success", "resultJson": RESULT_JSON, "failCode": "TIMEOUT"},
    "of-another-name": {"state": "success", "resultJson": RESULT_JSON, "taskId": "task_2"},
}


@pytest.mark.parametrize("data", SUCCESSES.values(), ids=SUCCESSES.keys())
def test_a_task_that_succeeded(data: dict[str, object]) -> None:
    """The state alone says that a task succeeded; its result has the URLs."""
    verdict = poll(data)
    assert isinstance(verdict, Over)
    assert isinstance(verdict.outcome, Result)
    assert (verdict.outcome.urls, verdict.outcome.ref) == ((URL,), REF)
    assert verdict.snapshot.raw == data


@pytest.mark.parametrize("result_json", [None, "", "{", "null", [], {}, 7], ids=repr)
def test_a_success_without_urls(result_json: object) -> None:
    """A success without a readable result is over all the same, and has no URLs."""
    verdict = poll({"state": "success", "resultJson": result_json})
    assert isinstance(verdict, Over)
    assert isinstance(verdict.outcome, Result)
    assert verdict.outcome.urls == ()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"state": "failed", "failCode": "CONTENT_VIOLATION", "failMsg": "Not allowed"},
            "CONTENT_VIOLATION: Not allowed (content; the same input will fail again)",
        ),
        (
            {"state": "failed", "failCode": "Timeout", "resultJson": RESULT_JSON},
            "Timeout (timeout; as a new task it may succeed)",
        ),
        (
            {"state": "Failed", "failCode": "GENERATION_FAILED", "failMsg": ""},
            "GENERATION_FAILED (generation; the same input will fail again)",
        ),
        (
            {"state": "failed", "failCode": 1234, "failMsg": "?"},
            "1234: ? (unknown; the code is not a known one)",
        ),
        ({"state": "failed"}, "no code (unknown; the code is not a known one)"),
        (
            {"state": "failed", "failCode": {"a": 1}, "failMsg": ["x"]},
            "no code (unknown; the code is not a known one)",
        ),
    ],
    ids=lambda value: str(value.get("failCode")) if isinstance(value, dict) else "",
)
def test_a_task_that_failed(data: dict[str, object], words: str) -> None:
    """A failed task says why, and whether a new one may fare better, though all else is 200."""
    verdict = poll(data)
    assert isinstance(verdict, Over)
    error = verdict.outcome
    assert isinstance(error, TaskFailedError)
    assert str(error) == f"{REF} failed with {words}"
    assert error.ref == REF
    assert error.retryable is ("may succeed" in words)
    assert f"({error.family};" in words


HUGE = st.sampled_from([10**4_000, 10**4_299, -(10**400), 1e308, -1e308, math.inf, math.nan])
TEXTS = st.text(max_size=5) | st.text('\ud83d\ude00\\\x00"a', max_size=6)
NAMES = st.sampled_from(["code", "message", "data", *Status.__annotations__, "resultUrls"])
ODD_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HUGE | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | TEXTS, inner, max_size=5)
        | inner.map(json.dumps)
    ),
    max_leaves=8,
)
ODD_BODIES = st.builds(
    lambda code, message, data, digits: (
        json.dumps({"code": code, "message": message, "data": data, "x": "@"})
        .replace('"@"', digits)
        .encode()
    ),
    st.sampled_from([200, 404, 429]) | ODD_VALUES,
    ODD_VALUES,
    st.dictionaries(NAMES, ODD_VALUES | st.sampled_from(["success", "failed"])) | ODD_VALUES,
    st.sampled_from(["1", "9" * 5_000, "1e999", "[" * 300 + "]" * 300, '"' + r"\ud83d" + '"', "{"]),
)


def texts_in(found: object) -> Iterator[str]:
    """Yield every text in what was read, keys too."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict):
        yield from texts_in([*found, *found.values()])
    elif isinstance(found, list | tuple):
        for one in found:
            yield from texts_in(one)


@settings(max_examples=200, deadline=None, database=None)
@given(status=st.integers(100, 599), content=st.binary(max_size=40) | ODD_BODIES)
def test_no_answer_is_too_odd_to_judge(status: int, content: bytes) -> None:
    """Whatever comes, it has a verdict, an error has words, and no text is half an emoji."""
    answer = Answer(status, content)
    read: list[object] = [str(verdicts.status_error(answer)), verdicts.says_throttled(answer)]
    poll, submit = judge_poll(answer, REF), verdicts.judge_submit(answer, REF.model)
    assert isinstance(poll, PollVerdict)
    assert isinstance(submit, verdicts.SubmitVerdict)
    if isinstance(poll, Over | Running):
        read += [poll.snapshot.state, poll.snapshot.raw]
    if isinstance(poll, Over) and isinstance(poll.outcome, Result):
        read += [poll.outcome.urls, poll.outcome.raw]
        assert all(poll.outcome.urls)
    elif isinstance(poll, Over):
        read += [str(poll.outcome)]
    if isinstance(submit, verdicts.Bought):
        read += [submit.task_id]
        assert "\ufffd" not in submit.task_id
    found = read_envelope(content)
    if found is not None:
        balance = read_balance(found)
        assert balance is None or abs(balance) <= 10**12
        read += [found.words, found.data]
    for text in texts_in(read):
        text.encode()


@pytest.mark.parametrize("status", [200, 401, 404, 502])
@pytest.mark.parametrize(
    "content", [PAGE, body(404), body(200, data={"state": "success", "resultJson": RESULT_JSON})]
)
def test_a_poll_whose_answer_is_cut(status: int, content: bytes) -> None:
    """A task whose answer is too long goes on: what is behind the cut may change everything."""
    verdict = judge_poll(Answer(status, content, cut=True), REF)
    assert isinstance(verdict, Faulty)
    assert f"{REF}: HTTP {status} and an answer that is too long" in str(verdict.error)


def test_a_429_whose_answer_is_cut() -> None:
    """A poll that was refused for the limits says so, however long its page is."""
    assert isinstance(judge_poll(Answer(429, PAGE, cut=True), REF), Throttled)


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("code", [200, 404])
def test_an_answer_is_parsed_once(status: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting an answer and judging it parse its body once: it may be a large one."""
    parsed: list[object] = []
    parse = wire._parsed

    def counted(given: bytes | str, **more: bool) -> object:
        parsed.append(given)
        return parse(given, **more)

    monkeypatch.setattr(wire, "_parsed", counted)
    answer = Answer(status, body(code, data={"state": "processing", "number": 429}))
    assert not verdicts.says_throttled(answer)
    judge_poll(answer, REF)
    assert parsed == [answer.body]
