from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from apixo_async import (
    ConfigurationError,
    DownloadError,
    OtherModel,
    Outcome,
    Result,
    TaskFailedError,
    TaskRef,
)
from apixo_async._map.items import Item, check_inputs, items

from ..support.maps import castle, castles


async def read(inputs: Any) -> list[Item]:
    async with aclosing(items(inputs)) as found:
        return [item async for item in found]


async def test_keys_are_the_places() -> None:
    """Without keys of the caller's, an input's key is its place, as text."""
    found = await read(castles(3))
    assert [(item.number, item.key) for item in found] == [(0, "0"), (1, "1"), (2, "2")]
    assert [item.input for item in found] == castles(3)


async def test_keys_of_the_caller() -> None:
    """A pair gives its input a key; pairs and bare inputs may be mixed."""
    found = await read([("a", castle(0)), castle(1), (None, castle(2)), ("d", castle(3))])
    assert [item.key for item in found] == ["a", "1", "2", "d"]
    assert [item.given_key for item in found] == ["a", None, None, "d"]
    assert all(item.refused is None for item in found)


@pytest.mark.parametrize(
    ("entry", "key", "said"),
    [
        (None, "0", "a NoneType given; an input is"),
        ("a prompt", "0", "a str given; an input is"),
        (("row", {"prompt": "x"}), "row", "a dict given; an input is"),
        ((7, castle(0)), "0", "key: 7 given; a key is a str, such as '7'"),
        (("a", castle(0), 3), "0", "a tuple of 3 given"),
        ((), "0", "a tuple of 0 given"),
    ],
)
async def test_bad_entry(entry: object, key: str, said: str) -> None:
    """What is no input is an item that says so, and those around it are read."""
    bad, good = await read([entry, castle(1)])
    assert (bad.key, bad.input) == (key, None)
    assert isinstance(bad.refused, ConfigurationError)
    assert said in str(bad.refused)
    assert (good.key, good.refused) == ("1", None)


async def test_async_iterable() -> None:
    """An async iterable is read like any other."""

    async def rows() -> AsyncIterator[Any]:
        for number in range(3):
            await asyncio.sleep(1)
            yield f"row {number}", castle(number)

    assert [item.key for item in await read(rows())] == ["row 0", "row 1", "row 2"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_generator_is_closed(kind: str) -> None:
    """A generator that is not read to its end is closed with the reading."""
    closed: list[str] = []

    def sync() -> Iterator[Any]:
        try:
            yield castle(0)
            yield castle(1)
        finally:
            closed.append("sync")

    async def asynchronous() -> AsyncIterator[Any]:
        try:
            yield castle(0)
            yield castle(1)
        finally:
            await asyncio.sleep(1)
            closed.append("async")

    async with aclosing(items(sync() if kind == "sync" else asynchronous())) as found:
        async for _ in found:
            break
    assert closed == [kind]


async def test_iterators_that_are_no_generators() -> None:
    """A plain iterator has nothing to close, and is left where the reading ended."""

    class Rows:
        def __aiter__(self) -> AsyncIterator[Any]:
            return self

        async def __anext__(self) -> Any:
            return castle(0)

    plain = iter(castles(3))
    for source in (plain, Rows()):
        async with aclosing(items(source)) as found:
            async for _ in found:
                break
    assert next(plain) == castle(1)


async def test_iterable_that_raises() -> None:
    """What the iterable raises comes out as it is, after the inputs before it."""

    def rows() -> Iterator[Any]:
        yield castle(0)
        raise OSError("the disk is gone")

    found = items(rows())
    assert (await anext(found)).input == castle(0)
    with pytest.raises(OSError, match="the disk is gone"):
        await anext(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (castle(0), "`submit` buys one"),
        (OtherModel("sora-2", prompt="x"), "`submit` buys one"),
        ({"a": castle(0)}, r"\.items\(\)"),
        ("a prompt", "a str given"),
        (b"bytes", "a bytes given"),
        (None, "a NoneType given"),
    ],
)
async def test_what_is_no_iterable_of_inputs(given: object, said: str) -> None:
    """One input, a mapping, a text or nothing is refused, with what to give instead."""
    with pytest.raises(ConfigurationError, match=said):
        check_inputs(given)


async def test_outcome_of_an_item() -> None:
    """An item becomes an outcome with a result, or with an error."""
    item = Item(3, "a", "a", castle(3), purchases=2)
    good, error = Result("task_1", "flux-kontext", ()), ConfigurationError("no")
    failed = item.outcome(error)
    assert (failed.key, failed.error, failed.result, failed.purchases) == ("a", error, None, 2)
    item.result = good
    assert (item.outcome(None).result, item.outcome(None).error) == (good, None)


async def test_an_outcome_that_failed_is_passed_on() -> None:
    """It keeps its key and its error; one that succeeded is no input."""
    ref = TaskRef("m", "task_1")
    error = TaskFailedError(
        "it failed", ref=ref, fail_code="NSFW", fail_msg="no", family="content", retryable=False
    )
    failed = Outcome("a", castle(0), None, None, error, 1)
    made = Outcome("b", castle(1), None, Result("task_1", "m", ("https://x/a.png",)), None, 1)
    passed, refused = await read([failed, made])
    assert (passed.key, passed.input, type(passed.refused)) == ("a", None, TaskFailedError)
    assert str(passed.refused) == "it failed"
    assert "b: an Outcome with a result given" in str(refused.refused)


async def test_an_outcome_that_was_not_saved() -> None:
    """What is passed on is no doubt: its task is known, and nothing more was bought."""
    result = Result("task_1", "m", ("https://x/a.png",))
    [item] = await read([Outcome("a", castle(0), None, result, DownloadError("disk full"), 1)])
    outcome = item.outcome(item.refused)
    assert (outcome.state, outcome.to_dict()["cost"]) == ("unbought", 0.0)
