"""A client belongs to one event loop and one process, and says so when it is used elsewhere."""

from __future__ import annotations

import asyncio
import os
import warnings

import pytest

from apixo_async._runtime import Binding
from apixo_async.errors import ConfigurationError


async def bound(binding: Binding, unfinished: int = 0) -> bool:
    """Bind to the running loop, and be there then."""
    new = binding.bind(unfinished)
    assert binding.is_here
    return new


def test_the_first_use_binds() -> None:
    """The loop of the first use is new, and the same loop is not new again."""

    async def use() -> list[bool]:
        assert not binding.is_here
        return [binding.bind(0), binding.bind(5), binding.is_here]

    binding = Binding()
    assert asyncio.run(use()) == [True, False, True]
    assert not binding.is_here


def test_without_a_loop() -> None:
    """Outside of a coroutine the error says what to do, and the client is not used up."""
    binding = Binding()
    with pytest.raises(ConfigurationError, match="no asyncio event loop is running here: call"):
        binding.bind(0)
    assert not binding.is_here
    assert asyncio.run(bound(binding))


def test_a_loop_after_a_closed_one() -> None:
    """Once its loop is closed and nothing is in flight, a client binds anew, again and again."""
    binding = Binding()
    assert [asyncio.run(bound(binding)) for _ in range(3)] == [True] * 3


def test_tasks_left_on_a_closed_loop() -> None:
    """A closed loop with tasks in flight is not left behind; the error says how to go on."""
    binding = Binding()
    asyncio.run(bound(binding))
    with pytest.raises(ConfigurationError, match=r"closed with 3 tasks .*`client\.unfinished`"):
        asyncio.run(bound(binding, unfinished=3))
    assert asyncio.run(bound(binding))


def test_a_second_loop_beside_the_first() -> None:
    """While its loop lives, a client cannot be used on another one."""
    binding = Binding()
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(bound(binding))
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="another event loop, which still runs"):
                second.run(bound(binding))
        assert not first.run(bound(binding))
        for runner in (None, second):
            with pytest.raises(ConfigurationError, match="another event loop, which still runs"):
                checked_by(runner, binding)
        checked_by(first, binding)
    checked_by(None, binding)
    checked_by(None, Binding())


def checked_by(runner: asyncio.Runner | None, binding: Binding) -> None:
    """Ask from a loop, or from outside of any, whether the client lives elsewhere."""

    async def check() -> None:
        binding.check_elsewhere()

    if runner is None:
        binding.check_elsewhere()
    else:
        runner.run(check())


def test_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was used before a fork is refused in the child, even on a new loop."""
    binding = Binding()
    asyncio.run(bound(binding))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ConfigurationError, match="used before the process forked: make a new one"):
        asyncio.run(bound(binding))


def words_of_child(binding: Binding) -> str:
    """Fork, use the client in the child, and return what it said."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Other tests may have left idle threads, which the child never meets.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        words = "bound"
        try:
            asyncio.run(bound(binding))
        except BaseException as exc:
            words = str(exc)
        os.write(writer, words.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        words = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return words


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork() -> None:
    """A client used before a real fork is refused in the child, an unused one is not."""
    used = Binding()
    asyncio.run(bound(used))
    assert words_of_child(used).startswith("this client was used before the process forked")
    assert words_of_child(Binding()) == "bound"
    assert asyncio.run(bound(used))
