"""Many coroutines that begin together pass in several turns of the loop."""

from __future__ import annotations

import asyncio
import itertools

from apixo_async._sync import Turns


async def begin(turns: Turns, number: int, begun: list[int]) -> None:
    """Note when its turn comes."""
    if not turns.try_pass():
        await turns.wait()
    begun.append(number)


async def test_a_bounded_number_passes_in_one_turn() -> None:
    """No turn of the loop lets more than the bound pass, and none overtakes another."""
    turns, begun = Turns(3), list[int]()
    tasks = [asyncio.create_task(begin(turns, number, begun)) for number in range(10)]
    passed = [0]
    while len(begun) < 10:
        await asyncio.sleep(0)
        passed.append(len(begun))
    assert begun == list(range(10))
    assert max(after - before for before, after in itertools.pairwise(passed)) == 3
    await asyncio.gather(*tasks)


async def test_one_alone_passes_at_once() -> None:
    """One that begins alone does not wait, and later turns have room again."""
    turns = Turns(1)
    for _ in range(3):
        assert turns.try_pass()
        assert not turns.try_pass()
        await asyncio.sleep(0)


async def test_cancelled_ones_hold_no_other_up() -> None:
    """Those that are cancelled while they wait leave their turns to the others."""
    turns, begun = Turns(1), list[int]()
    tasks = [asyncio.create_task(begin(turns, number, begun)) for number in range(6)]
    await asyncio.sleep(0)
    for task in tasks[1:5]:
        task.cancel()
    await asyncio.wait(tasks)
    assert begun == [0, 5]
