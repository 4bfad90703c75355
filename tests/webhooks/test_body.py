"""A body is read in bounded size and time, and believed in nothing but an id that is plain."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.webhooks import CallbackError
from apixo_async.webhooks._body import (
    LONGEST_BODY,
    PATIENCE,
    Chunk,
    check_length,
    read_body,
    task_id_in,
)

pytestmark = pytest.mark.anyio


def chunks(parts: Iterable[bytes], pause: float = 0.0) -> Chunk:
    """Return a body that comes in parts, each after a pause."""
    left = iter(parts)

    async def chunk() -> bytes:
        await asyncio.sleep(pause)
        return next(left, b"")

    return chunk


async def test_a_body_in_parts() -> None:
    """A body is what its parts make."""
    assert await read_body(chunks([b"ab", b"c", b"d"])) == b"abcd"
    assert await read_body(chunks([])) == b""


async def test_the_longest_body() -> None:
    """A body of the cap is read; one byte more ends it, before the rest is awaited."""
    assert len(await read_body(chunks([b"x" * LONGEST_BODY]))) == LONGEST_BODY
    endless = (b"x" * 1024 for _ in iter(int, 1))
    with pytest.raises(CallbackError) as caught:
        await read_body(chunks(endless))
    assert caught.value.status == 413


async def test_a_slow_body() -> None:
    """A body that drips for ever is given up after its time as a whole."""
    start = asyncio.get_running_loop().time()
    dripping = (b"x" for _ in iter(int, 1))
    with pytest.raises(CallbackError) as caught:
        await read_body(chunks(dripping, pause=0.5))
    assert caught.value.status == 400
    assert asyncio.get_running_loop().time() - start == PATIENCE


async def test_a_cancelled_reader() -> None:
    """Who is cancelled while reading is told so."""
    reading = asyncio.ensure_future(read_body(chunks([b"x"], pause=5.0)))
    await asyncio.sleep(1.0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize("length", [0, LONGEST_BODY])
def test_a_length_that_may_be(length: int) -> None:
    """Up to the cap any length will do, and returns nothing."""
    check_length(length)
    with pytest.raises(CallbackError):
        check_length(LONGEST_BODY + 1 + length)


def body(task_id: object, **more: object) -> bytes:
    """Return a callback's body."""
    return json.dumps({"code": 200, "data": {"taskId": task_id, **more}}).encode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (body("task_1"), "task_1"),
        (body("task_1", state="success", resultJson="{}"), "task_1"),
        (body(" task_1\n"), "task_1"),
        (body(17), "17"),
        (b'\xef\xbb\xbf{"code":200,"data":{"taskId":"t"}}', "t"),
        (b'{"data":{"taskId":"t"}}', "t"),
        (body(None), None),
        (body(""), None),
        (body(["t"]), None),
        (body("a b"), None),
        (body("a\nb"), None),
        (body("t\u00e4sk"), None),
        (body("x" * 257), None),
        (b'{"code":200}', None),
        (b'{"code":500,"data":null}', None),
        (b'{"code":"odd","data":7}', None),
    ],
)
def test_the_id_that_a_body_claims(given: bytes, expected: str | None) -> None:
    """A plain word under `data.taskId` is an id; an envelope without one names no task."""
    assert task_id_in(given) == expected


@pytest.mark.parametrize(
    "given",
    [b"", b"{", b"[]", b"null", b'"code"', b"{}", b"<html>", b'{"data":{}}', b"[" * 60_000],
)
def test_what_is_no_callback(given: bytes) -> None:
    """What is no envelope is refused with 400."""
    with pytest.raises(CallbackError) as caught:
        task_id_in(given)
    assert caught.value.status == 400


def test_a_body_that_is_too_long() -> None:
    """A body above the cap is refused unread, also where an application read it."""
    with pytest.raises(CallbackError) as caught:
        task_id_in(body("t", fill="x" * LONGEST_BODY))
    assert caught.value.status == 413


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["code", "data", "taskId", "state"]) | st.text(), inner),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body(given_body: bytes) -> None:
    """Any body is an id of plain words, none, or a refusal."""
    with contextlib.suppress(CallbackError):
        task_id = task_id_in(given_body)
        assert task_id is None or (task_id.isascii() and task_id.isprintable())
