"""What an error is, and what became of a submit: every status with every code and body."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from apixo_async._http.verdicts import (
    Bought,
    Refused,
    Uncertain,
    decisive_code,
    judge_submit,
    says_throttled,
    status_error,
)
from apixo_async._http.wire import Answer, read_envelope
from apixo_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsufficientBalanceError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
)

MODEL = "gpt-image-1"
PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def body(code: object = 200, message: str = "success", **data: object) -> bytes:
    """Return an envelope; without `data`, one without it."""
    return json.dumps({"code": code, "message": message, **data}).encode()


# --- errors ----------------------------------------------------------------------------------

ROWS = [
    (400, BadRequestError, "mend the request"),
    (401, AuthenticationError, "check the API key"),
    (402, InsufficientBalanceError, "add balance"),
    (403, PermissionDeniedError, "check the key's permissions"),
    (404, NotFoundError, "check the model's name and the task id"),
    (418, BadRequestError, "mend the request"),
    (422, BadRequestError, "mend the request"),
    (429, RateLimitError, "slow down, or lower `limits`"),
    (500, InternalServerError, "try again later"),
    (502, InternalServerError, "try again later"),
    (503, InternalServerError, "try again later"),
    (504, InternalServerError, "try again later"),
    (599, InternalServerError, "try again later"),
]
#: How HTTP status and body code tell of one error.
TOLD: dict[str, Callable[[int], Answer]] = {
    "both": lambda code: Answer(code, body(code, "No way")),
    "status": lambda code: Answer(code, body(200, "No way")),
    "status-and-null": lambda code: Answer(code, body(None, "No way")),
    "code": lambda code: Answer(200, body(code, "No way")),
    "code-in-quotes": lambda code: Answer(200, body(str(code), "No way")),
    "code-against-418": lambda code: Answer(418, body(code, "No way")),
}


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD.keys())
@pytest.mark.parametrize(("code", "cls", "advice"), ROWS, ids=[str(row[0]) for row in ROWS])
def test_error_of_a_code(
    code: int, cls: type[APIStatusError], advice: str, told: Callable[[int], Answer]
) -> None:
    """An error in HTTP status or body code is an error, and says what to do next."""
    answer = told(code)
    error = status_error(answer, model="sora-2", task_id="task_1")
    assert type(error) is cls
    assert str(error).startswith(f"sora-2 task_1 answered {code}: No way; {advice}")
    assert (error.model, error.task_id, error.message) == ("sora-2", "task_1", "No way")
    assert error.status == answer.status


@pytest.mark.parametrize(
    ("status", "code", "decisive"),
    [
        (200, 200, 200),
        (200, 0, 0),
        (302, 200, 200),
        (404, None, 404),
        (200, 500, 500),
        (500, 200, 500),
        (200, 429, 429),
        (429, 200, 429),
        (429, 400, 429),
        (401, 429, 429),
        (500, 429, 429),
        (500, 400, 400),
        (400, 500, 400),
        (502, 503, 503),
        (503, 502, 503),
        (403, 402, 402),
        (500, 504, 504),
    ],
)
def test_status_and_code_disagree(status: int, code: int | None, decisive: int) -> None:
    """A 429 tells most, then what refuses, then what fails; the body's word comes first."""
    answer = Answer(status, body(code))
    assert decisive_code(answer, read_envelope(answer.body)) == decisive


def test_without_an_envelope_the_status_tells() -> None:
    """A gateway's page is an error by its HTTP status alone, and has no code and no words."""
    error = status_error(Answer(502, PAGE, retry_after=3.0))
    assert str(error) == "the API answered 502; try again later"
    assert (error.status, error.code, error.message, error.retry_after) == (502, None, "", 3.0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "Bad"),
        ({"data": None}, "Bad"),
        ({"data": {"error": "no ratio"}}, "Bad: no ratio"),
        ({"data": 74.87}, "Bad"),
    ],
    ids=["missing", "null", "error", "number"],
)
def test_words_of_an_error(data: dict[str, object], words: str) -> None:
    """The service's own words are shown, wherever it puts them."""
    error = status_error(Answer(400, body(400, "Bad", **data)), model="sora-2")
    assert error.message == words
    assert str(error).startswith(f"sora-2 answered 400: {words}; ")


@pytest.mark.parametrize(
    "words",
    [
        "Insufficient credits",
        "insufficient account balance",
        "INSUFFICIENT_CREDITS",
        "Insufficient quota",
        "not enough credits",
        "out of funds",
    ],
)
@pytest.mark.parametrize("where", ["message", "data"])
def test_a_400_that_means_no_credit(words: str, where: str) -> None:
    """A 400 that says so is about the balance, as a 402 is."""
    said = body(400, words) if where == "message" else body(400, "error", data={"error": words})
    error = status_error(Answer(400, said), model=MODEL)
    assert type(error) is InsufficientBalanceError
    assert "add balance, or use another key" in str(error)
    assert words in error.message


@pytest.mark.parametrize(
    "words",
    [
        "prompt is too long",
        "insufficient detail in the prompt",
        "",
        "bad prompt: NO CREDIT card, please",
        "no fundamental idea",
        "the prompt 'insufficient credits' is not allowed",
        "not enough funds: a painting",
    ],
)
def test_a_400_that_means_what_it_says(words: str) -> None:
    """Any other 400 is a bad request."""
    assert type(status_error(Answer(400, body(400, words)))) is BadRequestError


def test_no_credit_is_no_excuse_for_other_codes() -> None:
    """Words about credit change the class of a bad request only."""
    words = "Insufficient credits"
    assert type(status_error(Answer(403, body(403, words)))) is PermissionDeniedError
    assert type(status_error(Answer(500, body(500, words)))) is InternalServerError


@pytest.mark.parametrize(
    ("answer", "throttled"),
    [
        (Answer(429, b""), True),
        (Answer(429, body(200, data={"taskId": "task_1"})), True),
        (Answer(200, body(429)), True),
        (Answer(200, body("429")), True),
        (Answer(400, body(429)), True),
        (Answer(200, body(200, data={"url": "https://x/429.png"})), False),
        (Answer(502, b"<html>429</html>"), False),
        (Answer(200, body(200)), False),
    ],
    ids=lambda value: f"{value.status}-{value.body[:16]!r}" if isinstance(value, Answer) else None,
)
def test_says_throttled(answer: Answer, throttled: bool) -> None:
    """A 429 in status or code is one, and a 429 elsewhere is none."""
    assert says_throttled(answer) is throttled


# --- submits: invariant 1 ----------------------------------------------------------------------

REFUSING = {400, 401, 402, 403, 404, 422, 429, 503}
CODES = [-1, 0, 1, 200, 201, 302, *range(400, 432), 451, 499, *range(500, 512), 599, 10**30]
NO_ID: dict[str, dict[str, object]] = {
    "missing": {},
    "null": {"data": None},
    "error": {"data": {"error": "no"}},
    "number": {"data": 74.87},
    "text": {"data": "task_1"},
    "list": {"data": ["task_1"]},
    "no-id": {"data": {}},
    "null-id": {"data": {"taskId": None}},
    "empty-id": {"data": {"taskId": " "}},
}
NO_ENVELOPE = {
    "nothing": b"",
    "html": PAGE,
    "text": b"Too Many Requests",
    "json-list": b"[1]",
    "json-number": b"200",
    "json-without-code": b'{"detail": "Not Found"}',
    "json-of-a-gateway": b'{"code": "UNAVAILABLE", "message": "no healthy upstream"}',
    "null-code": body(None),
    "cut": body(200, data={"taskId": "task_1"})[:-4],
    "more-than-json": b'{"code": 400}\xff',
}


@pytest.mark.parametrize("data", NO_ID.values(), ids=NO_ID.keys())
@pytest.mark.parametrize("code", CODES, ids=str)
def test_an_envelope_without_an_id(code: int, data: dict[str, object]) -> None:
    """It is a refusal if status or code is one of eight, and uncertain otherwise."""
    content = body(code, "words", **data)
    for status in range(200, 600):
        verdict = judge_submit(Answer(status, content, 7.0), MODEL)
        told = {status, code}
        if not told & REFUSING:
            assert isinstance(verdict, Uncertain), status
            assert verdict.body_head == content
        else:
            assert isinstance(verdict, Refused), status
            assert (verdict.repeat == "throttled") is (429 in told), status
            assert verdict.repeat != "unavailable" or 503 in told, status
            assert verdict.repeat is not None or told & REFUSING - {429, 503}, status


@pytest.mark.parametrize("content", NO_ENVELOPE.values(), ids=NO_ENVELOPE.keys())
def test_no_envelope(content: bytes) -> None:
    """A 4xx without an envelope is a refusal, but for 408, 409, 499 and a torn id."""
    for status in range(100, 600):
        verdict = judge_submit(Answer(status, content), MODEL)
        refused = 400 <= status < 500 and status not in (408, 409, 499)
        refused = refused and b"taskId" not in content
        assert isinstance(verdict, Refused if refused else Uncertain), status
        if isinstance(verdict, Refused):
            assert verdict.repeat == ("throttled" if status == 429 else None)
        else:
            assert isinstance(verdict, Uncertain)
            assert verdict.body_head == content
            assert str(status) in verdict.reason


@pytest.mark.parametrize("status", [200, 400, 429, 503])
@pytest.mark.parametrize(
    ("content", "is_some"),
    [
        (b'{"code":429,"data":{"taskId":"task_\\ud83d"}}', True),
        (b'{"code":200,"data":{"taskId":"task_1', True),
        (b'{"code":429,"data":{"taskId" : 17', True),
        (b'{"code":429,"data":[{"taskId":"task_1"}]}', True),
        (b'{"code":429,"data":{"taskId":["t"]}}', False),
        (b'{"code":429,"data":{"taskId":null}}', False),
        (b'{"code":429,"data":{"taskId":" "}}', False),
        (b'{"code":429,"data":null}', False),
    ],
)
def test_an_id_that_cannot_be_read(status: int, content: bytes, is_some: bool) -> None:
    """An answer that speaks of a task refuses nothing, whatever its codes are."""
    verdict = judge_submit(Answer(status, content), MODEL)
    assert isinstance(verdict, Uncertain if is_some else Refused)


@pytest.mark.parametrize("code", ["absent", None, *CODES], ids=str)
def test_an_id_is_bought(code: int | str | None) -> None:
    """A task id means that a task was bought, whatever status and code say."""
    content = json.dumps({"data": {"taskId": " task_12345678 ", "error": "no"}, "code": code})
    if code == "absent":
        content = content.replace(', "code": "absent"', "")
    for status in range(100, 600):
        assert judge_submit(Answer(status, content.encode()), MODEL) == Bought("task_12345678")


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"code": 200, "data": {"taskId": "task_1"}}',
        b'{"code": 200, "message": "caf\xe9", "data": {"taskId": "task_1"}}',
        b'{"code": 200, "message": "\\ud800", "data": {"taskId": "task_1"}}',
        b'{"code": 1e999, "message": NaN, "data": {"taskId": "task_1"}}',
        b' \n{"taskId": 7, "data": {"taskId": "task_1", "x": [[[[{}]]]]}}\n ',
    ],
    ids=["marked", "latin-1", "half-a-character", "infinite", "without-code"],
)
def test_an_id_in_an_odd_body(content: bytes) -> None:
    """Whatever else is wrong with a body, the id in it is the task that was paid for."""
    assert judge_submit(Answer(200, content), MODEL) == Bought("task_1")


def test_repeats_of_a_503() -> None:
    """Unavailable is repeated, unless a code beside it refuses for good."""
    cases = {(503, 200): "unavailable", (503, 500): "unavailable", (500, 503): "unavailable"}
    cases |= {(503, 400): None, (503, 402): None, (503, 429): "throttled"}  # type: ignore[dict-item]
    for (status, code), repeat in cases.items():
        verdict = judge_submit(Answer(status, body(code)), MODEL)
        assert isinstance(verdict, Refused)
        assert verdict.repeat == repeat


def test_a_refusal_brings_its_error() -> None:
    """The error of a refusal names the model, and carries what the service asked for."""
    verdict = judge_submit(Answer(429, body(429, "slow down"), retry_after=7.0), MODEL)
    assert isinstance(verdict, Refused)
    assert isinstance(verdict.error, RateLimitError)
    assert (verdict.error.model, verdict.error.task_id) == (MODEL, None)
    assert verdict.error.retry_after == 7.0


def test_what_is_kept_of_an_unreadable_answer() -> None:
    """The first KiB of an answer is enough to see what came."""
    verdict = judge_submit(Answer(200, PAGE * 100), MODEL)
    assert isinstance(verdict, Uncertain)
    assert verdict.body_head == (PAGE * 100)[:1024]
    assert verdict.reason == "HTTP 200 with no readable envelope"
    empty = judge_submit(Answer(200, body()), MODEL)
    assert isinstance(empty, Uncertain)
    assert empty.reason == "HTTP 200 with an envelope without a task id"


@pytest.mark.parametrize("status", [200, 400, 404, 429, 502])
@pytest.mark.parametrize(
    "content", [PAGE, b"", body()[:-1], b'{"code": 200, "data": {"taskId": "t']
)
def test_a_submit_with_an_answer_that_is_cut(status: int, content: bytes) -> None:
    """Behind the cut there may be a task id, whatever the status is."""
    verdict = judge_submit(Answer(status, content, cut=True), MODEL)
    assert isinstance(verdict, Uncertain)
    assert f"HTTP {status} with an answer that is too long" in verdict.reason
    assert verdict.body_head == content


def test_an_id_before_the_cut_is_bought() -> None:
    """A task id that came whole is one, however much comes behind it."""
    whole = body(data={"taskId": "task_1", "more": list(range(100))})
    assert judge_submit(Answer(200, whole[:-20], cut=True), MODEL) == Bought("task_1")


def test_a_429_in_an_answer_that_is_cut() -> None:
    """A code that came before the cut slows everything down."""
    assert says_throttled(Answer(200, body(429, data=[1, 2])[:-3], cut=True))
