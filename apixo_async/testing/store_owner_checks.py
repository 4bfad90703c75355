"""What a store must do where processes own entries: the checks of take-overs and callbacks."""

from __future__ import annotations

import asyncio

from apixo_async.stores._protocol import Backend, State
from apixo_async.testing.store_steps import (
    LONG,
    SHORT,
    attempt,
    entry_of,
    expect,
    intend,
    passed,
    purchase,
    submit,
)


async def what_dead_ones_left_is_taken_over(backend: Backend) -> None:
    """Once each, as many as are asked for; what living ones have stays theirs."""
    one, two = await backend.open("account"), await backend.open("account")
    for number in range(6):
        await submit(one, f"dead{number}", owner="dead")
    await submit(one, "living", owner="living")
    await submit(one, "own", owner="taker")
    await intend(one, "intent", owner="dead")
    await intend(one, "intent of a living one", owner="living")
    elsewhere = await backend.open("another")
    await submit(elsewhere, "elsewhere", owner="dead")
    first = await one.take_over("taker", ["taker", "living", "other"], most=4, settled=0.0)
    expect(
        [entry.purchase.key for entry in first] == [f"dead{number}" for number in range(4)],
        "hand over what dead processes have submitted, oldest first, and no more than asked for",
    )
    expect(all(entry.owner == "taker" for entry in first), "note the new owner")
    rest = await asyncio.gather(
        one.take_over("taker", ["taker", "living", "other"], most=10, settled=0.0),
        two.take_over("other", ["taker", "living", "other"], most=10, settled=0.0),
    )
    keys = sorted(entry.purchase.key for taken in rest for entry in taken)
    expect(keys == ["dead4", "dead5"], "hand over each entry to one process")
    expect((await entry_of(one, "living")).owner == "living", "leave alone what a living one has")
    expect((await entry_of(one, "elsewhere")).owner == "dead", "leave other accounts alone")
    expect(
        (await entry_of(one, "intent")).state is State.UNCERTAIN,
        "doubt the intents of processes that are gone",
    )
    entry = await entry_of(one, "intent of a living one")
    expect(entry.state is State.INTENT, "leave the intents of living ones alone")
    for store in (one, two, elsewhere):
        await store.aclose()


async def others_hear_of_changes(backend: Backend) -> None:
    """Of the end of a task, of its beginning, of a doubt and of what an operator says."""
    one, two = await backend.open("account"), await backend.open("account")
    heard: list[str | None] = []

    async def hears(key: str, what: str) -> None:
        for _ in range(200):
            if key in heard or None in heard:
                heard.clear()
                return
            await asyncio.sleep(0.05)
        expect(False, f"tell other processes of {what}")

    own = await intend(one, "k")
    assert own is not None
    two.listen(heard.append)
    await asyncio.sleep(2 * SHORT)
    heard.clear()
    await one.bought(purchase("k"), own, "a", "task_k", hold=LONG)
    await hears("k", "a task that was bought")
    await one.over(own, State.SUCCESS, None)
    await hears("k", "the end of a task")
    doubted = await intend(one, "l")
    assert doubted is not None
    await asyncio.sleep(SHORT)
    heard.clear()
    await one.uncertain(doubted, hold=LONG)
    await hears("l", "a doubt")
    await one.resolve("l", doubted, task_id="task_l", owner=None, hold=LONG)
    await hears("l", "what somebody says of a doubt")
    await one.called(doubted, None)
    await hears("l", "a callback")
    await submit(one, "n", owner="a")
    await asyncio.sleep(SHORT)
    heard.clear()
    await one.leave("a")
    await hears("n", "a process that leaves")
    two.listen(None)
    await asyncio.sleep(2 * SHORT)
    heard.clear()
    await submit(one, "m")
    await asyncio.sleep(SHORT)
    expect(not heard, "tell nothing to those who do not listen any more")
    await one.aclose()
    await two.aclose()


async def one_that_leaves_owns_nothing(backend: Backend) -> None:
    """What it has submitted is for the next that comes; its intents stay."""
    store = await backend.open("account")
    await submit(store, "k", owner="a")
    await submit(store, "l", owner="b")
    await intend(store, "m", owner="a")
    await store.leave("a")
    expect((await entry_of(store, "k")).owner is None, "free what a leaving process has submitted")
    expect((await entry_of(store, "l")).owner == "b", "leave alone what others own")
    expect((await entry_of(store, "m")).owner == "a", "keep an intent that is under way")
    taken = await store.take_over("b", ["a", "b"], most=9, settled=LONG)
    expect([entry.purchase.key for entry in taken] == ["k"], "hand over what has no owner")
    await store.aclose()


async def what_is_young_is_left_to_its_owner(backend: Backend) -> None:
    """Its owner may have joined since the living were looked up."""
    store = await backend.open("account")
    await submit(store, "k", owner="new")
    await intend(store, "l", owner="new")
    taken = await store.take_over("taker", ["taker"], most=9, settled=LONG)
    expect(not taken, "leave what was submitted just now to its owner")
    expect((await entry_of(store, "k")).owner == "new", "leave what was submitted just now alone")
    state = (await entry_of(store, "l")).state
    expect(state is State.INTENT, "leave what was intended just now alone")
    await store.aclose()


async def an_intent_does_not_last_for_ever(backend: Backend) -> None:
    """Its owner lives, and does not know of it: as one that was written late is."""
    store = await backend.open("account")
    own = await intend(store, "k", owner="a", hold=SHORT)
    assert own is not None
    entry = await entry_of(store, "k")
    await store.take_over("b", ["a", "b"], most=9, settled=LONG)
    expect((await entry_of(store, "k")).state is State.INTENT, "leave an intent alone for a time")
    await passed(store, entry.slot_until)
    await store.take_over("b", ["a", "b"], most=9, settled=LONG)
    entry = await entry_of(store, "k")
    expect(entry.state is State.UNCERTAIN, "doubt an intent whose slot is over")
    await store.refused(own)
    expect(await store.find("k") is None, "believe its owner all the same")
    await store.aclose()


async def callbacks_reach_the_owner(backend: Backend) -> None:
    """Whichever process notes them; what they name is kept, and what is over is left alone."""
    one, two = await backend.open("account"), await backend.open("account")
    bought, doubted = await submit(one, "bought", owner="a"), await intend(one, "doubted")
    await submit(one, "quiet", owner="a")
    over = await submit(one, "over", owner="a")
    assert doubted is not None
    await one.over(over, State.SUCCESS, "{}")
    for own in (bought, doubted):
        expect(await two.called(own, f"of {own}"), "note a callback of a POST that it has")
    await one.uncertain(doubted, hold=LONG)
    expect(not await two.called(attempt(), "a task"), "say that it has no such POST")
    expect(await two.called(over, "a task"), "know the POST of what is over")
    expect((await entry_of(one, "over")).called_at is None, "leave alone what is over")
    called = {entry.attempt: entry for entry in await one.owned("a", called=True)}
    expect(called.keys() == {bought, doubted}, "return what callbacks came for, doubts included")
    expect(
        all(entry.claimed == (f"of {entry.attempt}",) for entry in called.values()),
        "keep the task that a callback names",
    )
    expect(await one.owned("b", called=True) == [], "return nothing of other owners")
    before = called[bought].called_at
    await passed(one, before or 0.0)
    await two.called(bought, None)
    [again] = [entry for entry in await one.owned("a", called=True) if entry.attempt == bought]
    expect(again.claimed == (f"of {bought}",), "keep a name where a later callback has none")
    expect((again.called_at or 0.0) > (before or 0.0), "note when the last callback came")
    await two.called(doubted, "task_quiet")
    expect(
        (await entry_of(one, "doubted")).claimed == (f"of {doubted}",),
        "refuse the name of a task that another entry has",
    )
    for number in (1, 1, 2):
        await two.called(doubted, f"later {number}")
    expect(
        (await entry_of(one, "doubted")).claimed == (f"of {doubted}", "later 1", "later 2"),
        "keep several names, each once, in their order",
    )
    for number in range(200):
        await two.called(doubted, f"flood {number} {'x' * 200}")
    claimed = (await entry_of(one, "doubted")).claimed
    expect(len(claimed) < 20 and claimed[:1] == (f"of {doubted}",), "keep the first names, and few")
    await one.aclose()
    await two.aclose()


async def a_callback_is_no_refusal(backend: Backend) -> None:
    """Only the service calls: it has made a task, and the key must not buy another one."""
    store = await backend.open("account")
    called, named, repeated = await intend(store, "k"), await intend(store, "l"), attempt()
    assert called is not None
    assert named is not None
    await store.called(called, None)
    await store.refused(called)
    expect(
        (await entry_of(store, "k")).state is State.UNCERTAIN,
        "doubt a POST that was refused although a callback of it has come",
    )
    await store.uncertain(named, hold=LONG)
    await store.called(named, "task")
    await store.refused(named)
    expect((await entry_of(store, "l")).claimed == ("task",), "keep what a callback has named")
    word = await store.intend(purchase("l"), repeated, "a", slots=100, hold=LONG, instead_of=named)
    expect(word.done, "take an intent in the place of a doubt")
    entry = await entry_of(store, "l")
    expect(entry.called_at is None, "note callbacks of the POST before as none of the present one")
    await store.refused(repeated)
    entry = await entry_of(store, "l")
    expect(entry.owner is None, "leave what was refused in its place to whichever process lives")
    expect(entry.claimed == ("task",), "keep what a callback of the first POST has named")
    await store.refused(named)
    expect(await store.find("l") is not None, "keep a doubt that a callback has contradicted")
    await store.aclose()


async def named_doubts_are_taken_over(backend: Backend) -> None:
    """A callback has named their task: whichever process lives finds out whether it is that."""
    store = await backend.open("account")
    named, unnamed = (
        await intend(store, "named", owner="dead"),
        await intend(store, "unnamed", owner="dead"),
    )
    alive, late = await intend(store, "alive", owner="a"), await intend(store, "late", owner="dead")
    for own in (named, unnamed, alive):
        assert own is not None
        await store.uncertain(own, hold=LONG)
        await store.called(own, None if own == unnamed else "task")
    assert late is not None
    await store.called(late, "task")
    taken = await store.take_over("b", ["a", "b"], most=9, settled=0.0)
    keys = [entry.purchase.key for entry in taken]
    expect(keys == ["named", "late"], "hand over the doubts of dead owners that callbacks name")
    expect(
        all(entry.state is State.UNCERTAIN and entry.owner == "b" for entry in taken),
        "leave them uncertain, with the new owner",
    )
    again = await store.take_over("b", ["a", "b"], most=9, settled=0.0)
    expect(again == [], "hand over each of them once")
    await store.leave("b")
    taken = await store.take_over("c", ["a", "c"], most=9, settled=LONG)
    expect(len(taken) == 2, "free the doubts of a process that leaves")
    await store.aclose()
