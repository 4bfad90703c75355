"""A body is read in bounded size and time, and believed in nothing but an id that is plain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.webhooks._body import (
    LONGEST_BODY,
    PATIENCE,
    Chunk,
    Disconnected,
    read_body,
    task_id_in,
)


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


async def test_a_long_body() -> None:
    """What follows the cap is read, so that the sender hears the answer, and is not kept."""
    left = iter([b"x" * LONGEST_BODY, b"y" * 1_024, b"z"])

    async def chunk() -> bytes:
        return next(left, b"")

    assert await read_body(chunk) == b"x" * LONGEST_BODY
    assert next(left, None) is None


async def test_a_slow_body() -> None:
    """Of a body that drips for ever counts what is here after its time as a whole."""
    start = asyncio.get_running_loop().time()
    dripping = (b"x" for _ in iter(int, 1))
    assert await read_body(chunks(dripping, pause=0.75)) == b"x" * 13
    assert asyncio.get_running_loop().time() - start == PATIENCE


async def test_a_body_that_breaks_off() -> None:
    """Of a body whose sender leaves counts what came."""
    left = iter([b"ab", b"c"])

    async def chunk() -> bytes:
        part = next(left, None)
        if part is None:
            raise Disconnected
        return part

    assert await read_body(chunk) == b"abc"


async def test_a_cancelled_reader() -> None:
    """Who is cancelled while reading is told so."""
    reading = asyncio.ensure_future(read_body(chunks([b"x"], pause=5.0)))
    await asyncio.sleep(1.0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


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
    ],
)
def test_the_id_that_a_body_claims(given: bytes, expected: str | None) -> None:
    """A plain word under `data.taskId` is an id; an envelope without one names no task."""
    assert task_id_in(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b'"code"', None),
        (b"{}", None),
        (b"<html>taskId</html>", None),
        (b'{"data":{}}', None),
        (b"[" * 60_000, None),
        (b'{"taskId":"t"}', "t"),
        (b'{"code":200,"taskId":"t"}', "t"),
        (b'[{"taskId" : 17 }]', "17"),
        (body("t", state="success", resultJson="{")[:-30], "t"),
        (body("t")[:-4], None),  # It may go on.
        (body("t", fill="x" * LONGEST_BODY), "t"),
        (b" " * LONGEST_BODY + body("t"), None),
        (b"\xff" + body("t") + b"\xff", "t"),
    ],
)
def test_the_id_in_what_is_no_envelope(given: bytes, expected: str | None) -> None:
    """An id counts wherever it stands whole in the first 64 KB, whatever is around it."""
    assert task_id_in(given) == expected


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["code", "data", "taskId", "state"]) | st.text(), inner),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body(given_body: bytes) -> None:
    """Any body is an id of plain words, or none."""
    task_id = task_id_in(given_body)
    assert task_id is None or (task_id.isascii() and task_id.isprintable())
