"""Whatever comes over the wire is read as far as it goes, and raises nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from apixo_async._http.wire import (
    Answer,
    Envelope,
    Status,
    created_epoch,
    encode_submit,
    lasted,
    parse_speed,
    read_balance,
    read_envelope,
    read_result,
    read_status,
    read_task_id,
)
from apixo_async._types import POLLED, Delivery, TaskRef
from apixo_async.inputs import FluxKontext, OtherModel

REF = TaskRef("gpt-image-1", "task_12345678")
URLS = ["https://r2.apixo.ai/xxx.png", "https://cdn.apixo.ai/yyy.png"]
CREATED = datetime(2026, 1, 9, 13, 33, 30, 929_000, tzinfo=UTC)


def envelope(data: object = None, **parts: object) -> Envelope:
    """Read an envelope with this `data`."""
    found = read_envelope(json.dumps({"code": 200, "data": data, **parts}).encode())
    assert found is not None
    return found


# --- envelopes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{"code": 200, "message": "success", "data": null}', 200, "success"),
        (b'{"code": "429", "message": "slow down"}', 429, "slow down"),
        (b'{"code": 1, "message": null, "data": null}', 1, ""),
        (b'{"code": 1, "message": ["x"], "data": 1}', 1, ""),
        (b'{"code": 400, "data": {"error": "bad ratio"}}', 400, "bad ratio"),
        (b'{"code": 400, "message": "Bad", "data": {"error": "no ratio"}}', 400, "Bad: no ratio"),
        (b'{"code": 400, "message": "Bad", "data": {"error": "Bad"}}', 400, "Bad"),
        (b'{"code": 400, "message": "", "data": {"error": 7}}', 400, "7"),
        (b'{"code": 400, "message": "", "data": {"error": {}}}', 400, ""),
        (b'{"code": 400, "message": "half \\ud800"}', 400, "half \ufffd"),
        (b'\xef\xbb\xbf{"code": 400, "message": "marked"}', 400, "marked"),
        (b'{"code": 400, "message": "caf\xe9"}', 400, "caf\ufffd"),
        (b'{"code": 400, "message": 17, "data": {"error": null}}', 400, "17"),
        (b'{"code": 500, "message": " two\\n\\tlines ", "data": []}', 500, "two lines"),
        (b'{"code": 200, "more": {"of": "it"}}', 200, ""),
    ],
)
def test_envelope(body: bytes, code: int, words: str) -> None:
    """An envelope has a code and words; a part of the wrong type reads as missing."""
    found = read_envelope(body)
    assert found is not None
    assert (found.code, found.words) == (code, words)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"null",
        b"200",
        b'"success"',
        b"[1]",
        b"{}",
        b'{"message": "Not Found"}',
        b'{"code": null, "message": "Not Found"}',
        b'{"code": "E1", "message": "Not Found"}',
        b'{"detail": "Not Found", "data": {"id": 1}}',
        b'{"code": 200, "data": {"taskId": "task_1"',
        b'{"code": 200}\xff',
        b"<html><body>502 Bad Gateway</body></html>",
        b"[" * 5_000,
        b'{"code": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda body: body[:20],
)
def test_no_envelope(body: bytes) -> None:
    """HTML, cut JSON, other JSON and JSON without an integer code are no envelope."""
    assert read_envelope(body) is None


def test_a_task_id_makes_an_envelope() -> None:
    """A task that was paid for is not lost for want of a code."""
    found = read_envelope(b'{"data": {"taskId": "task_1"}}')
    assert found is not None
    assert read_task_id(found) == "task_1"


def test_words_are_bounded() -> None:
    """A page of words does not fill the log."""
    assert len(envelope(message="x" * 10_000).words) == 500


@pytest.mark.parametrize(
    ("data", "task_id"),
    [
        ({"taskId": "task_12345678"}, "task_12345678"),
        ({"taskId": " task_1\n"}, "task_1"),
        ({"taskId": 12345678}, "12345678"),
        ({"taskId": "任务/1"}, "任务/1"),
        ({"taskId": ""}, None),
        ({"taskId": "task_\ud800"}, None),
        ({"taskId": "  "}, None),
        ({"taskId": None}, None),
        ({"taskId": ["task_1"]}, None),
        ({"taskId": True}, None),
        ({"task_id": "task_1"}, None),
        ({}, None),
        (None, None),
        ("task_1", None),
        (74.87, None),
        ([{"taskId": "task_1"}], None),
    ],
    ids=repr,
)
def test_task_id(data: object, task_id: str | None) -> None:
    """A task id is a non-empty text or number in `data.taskId`, and nothing else."""
    assert read_task_id(envelope(data)) == task_id


# --- the status object -----------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, 74.87, "success", [], {}, {"state": None}, {"state": ""}])
def test_no_status(data: object) -> None:
    """Without a state there is no status object."""
    assert read_status(envelope(data)) is None


def test_a_status_with_nothing_but_a_state() -> None:
    """Every part of a status but its state may be missing."""
    found = read_status(envelope({"state": "processing"}))
    assert found == Status(state="processing")
    result = read_result(Status(state="success"), REF)
    assert (result.urls, result.raw, result.cost_time) == ((), {}, None)
    assert (result.created_at, result.completed_at, result.expires_at) == (None, None, None)


def test_odd_parts_hide_no_others() -> None:
    """A part of the wrong type reads as missing, and the others are read all the same."""
    odd = {
        "state": 7,
        "failCode": 1234,
        "failMsg": {"en": "x"},
        "createTime": "yesterday",
        "completeTime": [],
        "costTime": "9040",
    }
    found = read_status(envelope(odd))
    assert found is not None
    assert (found.state, found.failCode, found.failMsg) == ("7", "1234", None)
    assert (found.createTime, found.completeTime, found.costTime) == (None, None, 9040.0)


@pytest.mark.parametrize(
    ("result_json", "urls", "raw"),
    [
        (json.dumps({"resultUrls": URLS}), URLS, {"resultUrls": URLS}),
        ({"resultUrls": URLS}, URLS, {"resultUrls": URLS}),
        (json.dumps(URLS), URLS, {"resultUrls": URLS}),
        (URLS, URLS, {"resultUrls": URLS}),
        ({"resultUrls": URLS[0]}, URLS[:1], {"resultUrls": URLS[0]}),
        ('{"resultUrls": [], "seed": 7}', [], {"resultUrls": [], "seed": 7}),
        ({"resultUrls": [URLS[0], None, "", 7]}, URLS[:1], {"resultUrls": [URLS[0], None, "", 7]}),
        ({"resultUrls": {"0": "x"}}, [], {"resultUrls": {"0": "x"}}),
        ({"videoUrl": "x"}, [], {"videoUrl": "x"}),
        ({}, [], {}),
        (None, [], {}),
        ("null", [], {}),
        ("", [], {"resultJson": ""}),
        ('\ufeff["https://x/y.png"]', ["https://x/y.png"], {"resultUrls": ["https://x/y.png"]}),
        ('{"resultUrls": [', [], {"resultJson": '{"resultUrls": ['}),
        ('"https://x/y.png"', ["https://x/y.png"], {"resultJson": "https://x/y.png"}),
        (7, [], {"resultJson": 7}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_result_json(result_json: object, urls: list[str], raw: dict[str, object]) -> None:
    """`resultJson` may be text or decoded; all URLs count, and whatever else came is kept."""
    found = read_status(envelope({"state": "success", "resultJson": result_json}))
    assert found is not None
    result = read_result(found, REF)
    assert (result.urls, result.raw) == (tuple(urls), raw)
    assert result.ref == REF


@pytest.mark.parametrize(
    ("milliseconds", "moment"),
    [
        (1767965610929, CREATED),
        (1767965610000, CREATED.replace(microsecond=0)),
        ("1767965610929", CREATED),
        (1767965610929.0, CREATED),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1000, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (1767965610, datetime(1970, 1, 21, 11, 6, 5, 610_000, tzinfo=UTC)),
        (1767965610929000, None),
        (1e300, None),
        (math.inf, None),
        (math.nan, None),
        (None, None),
        ("2026-01-09T13:33:30Z", None),
    ],
    ids=repr,
)
def test_timestamps(milliseconds: object, moment: datetime | None) -> None:
    """Timestamps may be missing, rounded or odd; what is no moment reads as missing."""
    data = {"state": "success", "createTime": milliseconds, "completeTime": milliseconds}
    found = read_status(envelope(data))
    assert found is not None
    result = read_result(found, REF)
    assert (result.created_at, result.completed_at) == (moment, moment)
    assert result.created_at is None or result.created_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("cost", "seconds"), [(9040, 9.04), (0, 0.0), (None, None), (math.nan, None), (math.inf, None)]
)
def test_cost_time(cost: object, seconds: float | None) -> None:
    """Milliseconds exist on the wire only."""
    found = read_status(envelope({"state": "success", "costTime": cost, "createTime": cost}))
    assert found is not None
    assert read_result(found, REF).cost_time == seconds
    assert created_epoch(found) == seconds


HALF = r"\ud83d"


@pytest.mark.parametrize("half", [HALF, r"\ude00", r"\uD83D\u0041", r"\ud83d\ud83d\ude00"])
@pytest.mark.parametrize("escaped", [0, 1], ids=["outer", "inner"])
def test_half_an_emoji_in_a_result(half: str, escaped: int) -> None:
    """An emoji cut in two hides no URL, at whatever level of JSON the cut was made."""
    inner = json.dumps({"resultUrls": URLS, "caption": "@", "@": [{"@": 7}]})
    outer = json.dumps({"code": 200, "data": {"state": "success", "resultJson": inner}})
    found = read_envelope(outer.replace("@", half.replace("\\", "\\" * (1 + escaped))).encode())
    assert found is not None
    status = read_status(found)
    assert status is not None
    result = read_result(status, REF)
    assert result.urls == tuple(URLS)
    read = repr((result.raw, found.data))
    assert "\ufffd" in read
    assert "\\ud" not in read.replace("\\\\", "")


def test_what_only_seems_like_half_an_emoji() -> None:
    """Pairs, and backslashes before such letters, are read as they are."""
    texts = ["\U0001f600", "\\ud83d", "\\\U0001f600", "\\\\ud83d"]
    broken = json.dumps({"code": 200, "data": texts, "message": "@"}).replace("@", HALF)
    found = read_envelope(broken.encode())
    assert found == Envelope(200, "\ufffd", texts)


@pytest.mark.parametrize("more", [rf'"a{HALF}": 1', f'"x": {"9" * 5_000}', '"x": "a\x01b"'])
def test_odd_keys_and_values_beside_an_id(more: str) -> None:
    """A key that is half an emoji, a huge number or a control character hides no task id."""
    found = read_envelope(f'{{"code": 200, "data": {{{more}, "taskId": "task_1"}}}}'.encode())
    assert found is not None
    assert read_task_id(found) == "task_1"


@pytest.mark.parametrize(
    ("created", "completed", "cost", "seconds"),
    [
        (1_000_000, 1_030_000, 20_000, 30.0),  # The time in which it waited counts.
        (1_000_000, 1_000_000, 20_000, 0.0),
        (1_000_000, 999_999, 20_000, 20.0),
        (None, 1_030_000, 20_000, 20.0),
        (1_000_000, None, 20_000, 20.0),
        (0, 1_030_000, 20_000, 20.0),
        (1_000_000, 0, 500, 0.5),
        (None, None, 0, None),
        (None, None, -1, None),
        (None, None, None, None),
        (None, None, math.inf, None),
    ],
)
def test_how_long_it_took(
    created: float | None, completed: float | None, cost: float | None, seconds: float | None
) -> None:
    """A task lasted from stamp to stamp, else as long as its cost time, if that can be."""
    status = Status(createTime=created, completeTime=completed, costTime=cost)
    assert lasted(status) == seconds


# --- the balance -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "balance"),
    [
        ("74.87", "74.87"),
        ("0", "0"),
        ("-0.5", "-0.5"),
        ("100", "100"),
        ('"74.87"', "74.87"),
        ("0.1", "0.1"),
        ("1e-3", "0.001"),
        ("1000000000000", "1000000000000"),
    ],
)
def test_balance(data: str, balance: str) -> None:
    """A balance is a bare number, or one in quotes, and loses nothing on the way."""
    found = read_envelope(f'{{"code": 200, "message": "success", "data": {data}}}'.encode())
    assert found is not None
    assert read_balance(found) == Decimal(balance)


UNBOUNDED = ["1e999999", "-1e999999", 1e300, 10**12 + 1, 10**13, 10**4_000, -(10**13)]


@pytest.mark.parametrize(
    "data",
    [None, True, "", "much", "NaN", math.inf, math.nan, {}, {"balance": 1}, [1], *UNBOUNDED],
    ids=lambda data: repr(data)[:20],
)
def test_no_balance(data: object) -> None:
    """What is no finite number, or one with which no sum can be done, is no balance."""
    assert read_balance(envelope(data)) is None


# --- what is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivery", "head"),
    [
        (POLLED, {"request_type": "async"}),
        (Delivery(provider="value"), {"request_type": "async", "provider": "value"}),
        (
            Delivery("https://example.com/hook"),
            {"request_type": "callback", "callback_url": "https://example.com/hook"},
        ),
    ],
    ids=["polled", "provider", "callback"],
)
def test_the_body_of_a_submit(delivery: Delivery, head: dict[str, object]) -> None:
    """`request_type` is always sent; callback and provider are sent only when set."""
    task_input = FluxKontext(mode="pro", prompt="Schloß 🏰", safety_tolerance=2)
    sent = {"mode": "pro", "prompt": "Schloß 🏰", "safetyTolerance": 2}
    body = json.loads(encode_submit(task_input, delivery))
    assert body == {**head, "input": sent}


def test_any_input_can_be_sent() -> None:
    """Odd texts and numbers of other models reach the wire as they are, in their order."""
    fields = {"z": "\x00", "a": 1, "b": 1.0, "c": [None, {"d": 10**20}]}
    body = encode_submit(OtherModel("sora-2", **fields), POLLED)
    assert json.dumps(json.loads(body)["input"]) == json.dumps(fields)


FIRST_ANSWERS = """
import sys, threading
from apixo_async._http.wire import read_envelope, read_task_id
def read():
    barrier.wait()
    ids.append(read_task_id(read_envelope(b'{"code": 200, "data": {"taskId": "task_1"}}')))
sys.setswitchinterval(1e-6)
barrier, ids = threading.Barrier(8), []
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*ids)
"""


def test_first_answers_may_come_in_several_threads() -> None:
    """No task id is lost where several clients, each in its thread, get their first answers."""
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_ANSWERS],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.split() == ["task_1"] * 8


def test_an_answer_is_whole_unless_it_is_said() -> None:
    """Only the channel knows that it has cut one."""
    assert not Answer(200, b"{}", None, None).cut


@pytest.mark.parametrize("header", [None, "", "fast", "0", "-1", "nan", "inf", "1e9", "1e-9"])
def test_no_speed(header: str | None) -> None:
    """A header that says none changes nothing."""
    assert parse_speed(header) is None
    assert parse_speed("100") == 100.0
