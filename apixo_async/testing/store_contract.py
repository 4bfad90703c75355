"""What every store must do, as checks that any backend can be put through.

For a backend of your own::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_my_store(check, my_backend):
        await check(my_backend)

Each check wants an empty backend, opens it as several processes would, and raises an
`AssertionError` that says what it did wrong. They take seconds of the store's own clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeAlias

from apixo_async.stores._protocol import Backend, State, Store
from apixo_async.testing.store_owner_checks import (
    a_callback_is_no_refusal,
    an_intent_does_not_last_for_ever,
    callbacks_reach_the_owner,
    named_doubts_are_taken_over,
    one_that_leaves_owns_nothing,
    others_hear_of_changes,
    what_dead_ones_left_is_taken_over,
    what_is_young_is_left_to_its_owner,
)
from apixo_async.testing.store_steps import (
    LONG,
    SHORT,
    attempt,
    doubted_twice,
    entry_of,
    expect,
    intend,
    passed,
    purchase,
    submit,
)

StoreCheck: TypeAlias = Callable[[Backend], Awaitable[None]]


async def a_key_is_bought_once(backend: Backend) -> None:
    """The second intent gets the entry of the first."""
    one, two = await backend.open("account"), await backend.open("account")
    first = attempt()
    intended = await one.intend(purchase("k"), first, "a", slots=10, hold=LONG)
    expect(intended.done, "take the first intent of a key")
    entry = await entry_of(two, "k")
    expect(entry.state is State.INTENT, "keep an intent before it says that it is done")
    expect(
        (entry.purchase, entry.owner, entry.attempt) == (purchase("k"), "a", first),
        "keep what is bought, by whom, and the attempt",
    )
    expect(entry.purchases == 1, "count the POSTs of an entry")
    again = await two.intend(purchase("k"), attempt(), "b", slots=10, hold=LONG)
    expect(not again.done, "refuse a second intent of a key")
    expect(again.entry == entry, "return the entry of the key that has one")
    await one.aclose()
    await two.aclose()


async def of_many_intents_at_once_one_is_taken(backend: Backend) -> None:
    """Of processes that ask at the same time."""
    async with AsyncExitStack() as stack:
        stores = [await backend.open("account") for _ in range(4)]
        for store in stores:
            stack.push_async_callback(store.aclose)
        for number in range(10):
            taken = await asyncio.gather(*(intend(store, f"k{number}") for store in stores))
            expect(sum(one is not None for one in taken) == 1, "take one of several intents")


async def no_more_tasks_than_slots(backend: Backend) -> None:
    """Counted in the moment of the intent, over all processes."""
    one, two = await backend.open("account"), await backend.open("account")
    stores = [one, two] * 10
    taken = await asyncio.gather(
        *(intend(store, f"k{place}", slots=5) for place, store in enumerate(stores))
    )
    expect(sum(own is not None for own in taken) == 5, "take as many intents as there are slots")
    full = await one.intend(purchase("more"), attempt(), "a", slots=5, hold=LONG)
    expect(not full.done and full.entry is None, "keep nothing of an intent without a slot")
    expect((await two.load()).open_tasks == 5, "say how many tasks are open")
    place = next(number for number, own in enumerate(taken) if own is not None)
    own = taken[place]
    assert own is not None
    await one.bought(purchase(f"k{place}"), own, "a", "task", hold=LONG)
    expect(await intend(two, "still", slots=5) is None, "count a task as long as it is not over")
    await one.over(own, State.SUCCESS, None)
    expect(await intend(two, "next", slots=5) is not None, "give back the slot of what is over")
    await one.aclose()
    await two.aclose()


async def accounts_have_slots_of_their_own(backend: Backend) -> None:
    """And share the keys: a key of the API that was changed must not buy an order again."""
    one, two = await backend.open("account"), await backend.open("another")
    expect(await intend(one, "k", slots=1) is not None, "take an intent")
    expect(await intend(one, "l", slots=1) is None, "count the slots of an account")
    expect(await intend(two, "m", slots=1) is not None, "count slots for each account alone")
    expect(await intend(two, "k", slots=9) is None, "know a key whatever account it is of")
    expect((await two.load()).open_tasks == 1, "count the open tasks of the account alone")
    await one.aclose()
    await two.aclose()


async def what_was_refused_is_gone(backend: Backend) -> None:
    """By its attempt, and only while it is an intent."""
    store = await backend.open("account")
    own = await intend(store, "k", slots=1)
    assert own is not None
    await store.refused(attempt())
    expect(await store.find("k") is not None, "leave an intent alone that others were refused")
    await store.refused(own)
    expect(await store.find("k") is None, "forget an intent that was refused")
    expect(await intend(store, "k", slots=1) is not None, "give back the slot of a refused one")
    doubted = await intend(store, "doubted")
    assert doubted is not None
    await store.uncertain(doubted, hold=LONG)
    await store.refused(doubted)
    expect(await store.find("doubted") is None, "believe the late refusal of the POST itself")
    bought = await submit(store, "l")
    await store.refused(bought)
    expect((await entry_of(store, "l")).state is State.SUBMITTED, "keep what was bought for good")
    await store.aclose()


async def a_purchase_is_kept_whatever_comes_between(backend: Backend) -> None:
    """Twice, late, or after the store has lost the intent."""
    store = await backend.open("account")
    own = await submit(store, "k")
    again = await store.bought(purchase("k"), own, "a", "task_k", hold=LONG)
    expect(
        (again.state, again.task_id, again.also) == (State.SUBMITTED, "task_k", ()),
        "note a purchase twice as once",
    )
    late = await intend(store, "late")
    assert late is not None
    await store.uncertain(late, hold=LONG)
    entry = await store.bought(purchase("late"), late, "a", "task_late", hold=LONG)
    expect(entry.state is State.SUBMITTED, "believe the late word of the POST itself")
    lost = attempt()
    entry = await store.bought(purchase("lost"), lost, "a", "task_lost", hold=LONG)
    expect(
        (entry.state, entry.attempt, entry.task_id, entry.purchase)
        == (State.SUBMITTED, lost, "task_lost", purchase("lost")),
        "keep a purchase although it has no intent of it",
    )
    await store.over(own, State.SUCCESS, None)
    entry = await store.bought(purchase("k"), own, "a", "task_k", hold=LONG)
    expect(entry.state is State.SUCCESS, "leave an entry over that is over")
    await store.aclose()


async def a_second_purchase_is_not_forgotten(backend: Backend) -> None:
    """Two tasks under a key, by somebody's word: the other one is in `also`."""
    store = await backend.open("account")
    first = await intend(store, "k")
    assert first is not None
    await store.uncertain(first, hold=LONG)
    second = attempt()
    anew = await store.intend(purchase("k"), second, "b", slots=10, hold=LONG, instead_of=first)
    expect(anew.done, "buy anew by the word of somebody")
    expect((await store.load()).open_tasks == 2, "count the slot of the attempt in doubt as well")
    entry = await store.bought(purchase("k"), first, "a", "task_1", hold=LONG)
    expect(
        (entry.attempt, entry.task_id, entry.also) == (second, None, ("task_1",)),
        "keep the task of an attempt that the entry has gone past",
    )
    entry = await store.bought(purchase("k"), second, "b", "task_2", hold=LONG)
    entry = await store.bought(purchase("k"), first, "a", "task_1", hold=LONG)
    expect(
        (entry.task_id, entry.also, entry.purchases) == ("task_2", ("task_1",), 2),
        "keep both tasks, and say that there were two purchases",
    )
    await store.aclose()


async def what_is_paid_is_never_forgotten(backend: Backend) -> None:
    """Whatever is said of another POST of its key: the paid task becomes the key's, or stays."""
    store = await backend.open("account")
    _, second = await doubted_twice(store, "k")
    await store.refused(second)
    _, second = await doubted_twice(store, "l")
    await store.uncertain(second, hold=LONG)
    expect(await store.resolve("l", second, task_id=None, owner=None, hold=0.0), "resolve a doubt")
    for key in "kl":
        entry = await entry_of(store, key)
        expect(
            (entry.state, entry.task_id, entry.also) == (State.SUBMITTED, f"paid {key}", ()),
            "keep a paid task when another POST of its key is said to have bought nothing",
        )
    own = await submit(store, "m")
    await store.over(own, State.LOST, None)
    again = attempt()
    await store.intend(purchase("m"), again, "b", slots=1000, hold=LONG, instead_of=own)
    await store.uncertain(again, hold=LONG)
    await store.resolve("m", again, task_id="second m", owner="b", hold=LONG)
    entry = await entry_of(store, "m")
    expect(
        (entry.task_id, entry.also) == ("second m", ("task_m",)),
        "keep the task that was lost beside the one that is named",
    )
    own = await submit(store, "n")
    await store.over(own, State.LOST, None)
    again = attempt()
    await store.intend(purchase("n"), again, "b", slots=1000, hold=LONG, instead_of=own)
    await store.uncertain(again, hold=LONG)
    await store.resolve("n", again, task_id=None, owner=None, hold=0.0)
    entry = await entry_of(store, "n")
    expect(
        (entry.state, entry.task_id) == (State.LOST, "task_n"),
        "keep the task that was lost where nothing was bought in its place",
    )
    await store.aclose()


async def a_purchase_and_a_refusal_at_once(backend: Backend) -> None:
    """Of two POSTs of a key: what one has bought is the key's task, whichever is noted first."""
    one, two = await backend.open("account"), await backend.open("account")
    for number in range(20):
        key = f"k{number}"
        first, second = await intend(one, key), attempt()
        assert first is not None
        await one.uncertain(first, hold=LONG)
        if number % 2:  # The first one bought nothing, somebody says, and the key was free.
            await one.resolve(key, first, task_id=None, owner=None, hold=LONG)
            await two.intend(purchase(key), second, "b", slots=1000, hold=LONG)
        else:
            await two.intend(purchase(key), second, "b", slots=1000, hold=LONG, instead_of=first)
        await asyncio.gather(
            one.bought(purchase(key), first, "a", f"paid {key}", hold=LONG), two.refused(second)
        )
        entry = await entry_of(one, key)
        expect(
            (entry.state, entry.task_id) == (State.SUBMITTED, f"paid {key}"),
            "make the task of one POST that of the key while another one is refused",
        )
    await one.aclose()
    await two.aclose()


async def the_word_of_two_is_one_purchase(backend: Backend) -> None:
    """Each names the attempt that it has seen; and one that is refused changes nothing."""
    store = await backend.open("account")
    first = await intend(store, "k")
    assert first is not None

    async def anew(instead_of: str) -> bool:
        done = await store.intend(
            purchase("k"), attempt(), "b", slots=10, hold=LONG, instead_of=instead_of
        )
        return done.done

    expect(not await anew(first), "buy nothing anew while the first may still be answered")
    await store.uncertain(first, hold=LONG)
    expect(not await anew(attempt()), "buy anew in the place of the attempt that was named")
    words = await asyncio.gather(anew(first), anew(first))
    expect(sum(words) == 1, "take one of two words")
    second = (await entry_of(store, "k")).attempt
    await store.refused(second)
    entry = await entry_of(store, "k")
    expect(
        (entry.state, entry.attempt, entry.purchases) == (State.UNCERTAIN, first, 1),
        "be as before where the purchase anew was refused",
    )
    await store.aclose()


async def doubt_holds_a_slot_for_a_time(backend: Backend) -> None:
    """Then the task is over, if there was one."""
    store = await backend.open("account")
    own = await intend(store, "k", slots=1)
    assert own is not None
    await store.uncertain(own, hold=SHORT)
    entry = await entry_of(store, "k")
    expect(entry.state is State.UNCERTAIN, "note that it is not known")
    expect(await intend(store, "l", slots=1) is None, "hold the slot of a task that may exist")
    await passed(store, entry.slot_until)
    expect(await intend(store, "l", slots=1) is not None, "give back a slot after its time")
    expect((await entry_of(store, "k")).state is State.UNCERTAIN, "keep a doubt for good")
    await store.aclose()


async def an_end_is_kept(backend: Backend) -> None:
    """With its outcome, to the letter."""
    store = await backend.open("account")
    own = await submit(store, "k")
    outcome = json.dumps({"urls": ["https://x.invalid/a\u0000\ud800 'b' \"c\" :d %(e)s ? \\"]})
    await store.over(own, State.FAILED, outcome)
    await store.over(attempt(), State.SUCCESS, None)
    other = await backend.open("account")
    entry = await entry_of(other, "k")
    await other.aclose()
    expect(
        (entry.state, entry.outcome, entry.task_id) == (State.FAILED, outcome, "task_k"),
        "keep the end of a task and its outcome",
    )
    expect(entry.owner is None and entry.ended_at is not None, "say when it ended")
    intent = await intend(store, "l")
    assert intent is not None
    await store.over(intent, State.SUCCESS, None)
    expect((await entry_of(store, "l")).state is State.INTENT, "end only what has a task")
    await store.aclose()


async def a_doubt_is_resolved_once(backend: Backend) -> None:
    """By the attempt that was seen: a task, or nothing."""
    store = await backend.open("account")
    own = await intend(store, "k")
    assert own is not None
    word = {"task_id": "task_told", "owner": "b", "hold": LONG}
    expect(not await store.resolve("k", own, **word), "resolve only what is uncertain")  # type: ignore[arg-type]
    await store.uncertain(own, hold=LONG)
    expect(not await store.resolve("k", attempt(), **word), "resolve the attempt that is named")  # type: ignore[arg-type]
    expect(await store.resolve("k", own, **word), "believe who resolves a doubt")  # type: ignore[arg-type]
    entry = await entry_of(store, "k")
    expect(
        (entry.state, entry.task_id, entry.owner) == (State.SUBMITTED, "task_told", "b"),
        "note the task that was named",
    )
    expect(not await store.resolve("k", own, **word), "resolve a doubt once")  # type: ignore[arg-type]
    other = await intend(store, "l")
    assert other is not None
    expect(
        (await entry_of(store, "k")).submitted_at == (await entry_of(store, "k")).intent_at,
        "take the task of a doubt for one that its POST has made",
    )
    await store.over(own, State.LOST, "{}")
    expect(not await store.resolve("k", own, **word | {"task_id": None}), "keep what was lost")  # type: ignore[arg-type]
    expect(await store.resolve("k", own, **word | {"task_id": "right"}), "name a lost task anew")  # type: ignore[arg-type]
    entry = await entry_of(store, "k")
    expect((entry.state, entry.task_id) == (State.SUBMITTED, "right"), "keep what was said last")
    expect((entry.ended_at, entry.outcome) == (None, None), "keep nothing of the end before")
    await store.uncertain(other, hold=LONG)
    nothing = await store.resolve("l", other, task_id=None, owner=None, hold=0.0)
    expect(nothing and await store.find("l") is None, "free a key of which nothing was bought")
    await store.aclose()


async def several_keys_are_looked_up_together(backend: Backend) -> None:
    """Those that have an entry."""
    store = await backend.open("account")
    for key in "klm":
        await submit(store, key)
    found = await store.find_all(["m", "k", "none"])
    keys = sorted(entry.purchase.key for entry in found)
    expect(keys == ["k", "m"], "find the entries of several keys")
    expect(await store.find_all([]) == [], "find nothing for no keys")
    owned = sorted(entry.purchase.key for entry in await store.owned("a"))
    expect(owned == ["k", "l", "m"], "return what an owner has submitted")
    expect(await store.owned("b") == [], "return nothing of those who own nothing")
    entry = await entry_of(store, "l")
    assert entry.submitted_at is not None
    expect(0 <= entry.read_at - entry.submitted_at < LONG, "say when an entry was read")
    await store.aclose()


async def entries_are_read_in_their_order(backend: Backend) -> None:
    """All of them, or those in one state, over pages."""
    store = await backend.open("account")
    keys = [f"k{number:04}" for number in range(1_100)]
    for place in range(0, len(keys), 100):
        for key in keys[place : place + 100]:
            await intend(store, key, slots=10_000)
    read = [entry.purchase.key async for entry in store.entries()]
    expect(read == keys, "read every entry once, oldest first")
    await store.uncertain((await entry_of(store, "k0700")).attempt, hold=LONG)
    read = [entry.purchase.key async for entry in store.entries(State.UNCERTAIN)]
    expect(read == ["k0700"], "read the entries in one state")
    await store.aclose()


async def old_ends_are_swept(backend: Backend) -> None:
    """And nothing that may still be somebody's money."""
    store = await backend.open("account")
    ended = await submit(store, "ended")
    await store.over(ended, State.SUCCESS, None)
    await submit(store, "submitted")
    own = await intend(store, "uncertain")
    assert own is not None
    await store.uncertain(own, hold=0.0)
    lost, again = await submit(store, "again"), attempt()
    await store.over(lost, State.LOST, None)
    await store.intend(purchase("again"), again, "a", slots=9, hold=LONG, instead_of=lost)
    await store.bought(purchase("again"), again, "a", "task_again", hold=LONG)
    expect(await store.sweep(LONG) == 0, "keep what has ended not long ago")
    at = (await entry_of(store, "ended")).ended_at
    assert at is not None
    await passed(store, at + SHORT)
    expect(await store.sweep(SHORT / 2) == 1, "remove what has ended long ago, and say so")
    left = [entry.purchase.key async for entry in store.entries()]
    expect(left == ["submitted", "uncertain", "again"], "remove nothing else")
    await store.aclose()


async def what_is_over_can_be_deleted(backend: Backend) -> None:
    """By its key, and nothing that may still be somebody's money."""
    store = await backend.open("account")
    own = await submit(store, "k")
    await submit(store, "l")
    await intend(store, "m")
    for key in ("k", "l", "m", "none"):
        expect(not await store.delete(key), "delete nothing that is not over")
    await store.over(own, State.SUCCESS, "{}")
    expect(await store.delete("k"), "delete what is over")
    expect(await store.find("k") is None, "have deleted what it says")
    await store.aclose()


async def the_value_of_the_limits_is_kept_in_turns(backend: Backend) -> None:
    """Of several that have read the same version, one keeps its own."""
    async with AsyncExitStack() as stack:
        stores = [await backend.open("account") for _ in range(3)]
        for store in stores:
            stack.push_async_callback(store.aclose)
        empty = await stores[0].load()
        expect(empty.body is None and not empty.is_lost, "have no value at first")

        async def count(store: Store, times: int) -> None:
            while times:
                value = await store.load()
                number = int(value.body or b"0")
                await asyncio.sleep(0)
                times -= await store.save(b"%d" % (number + 1), value.version)

        await asyncio.gather(*(count(store, 20) for store in stores))
        value = await stores[0].load()
        expect(value.body == b"60", "keep a value only if none was kept since it was read")
        other = await backend.open("another")
        stack.push_async_callback(other.aclose)
        expect((await other.load()).body is None, "keep a value for each account")


async def its_clock_goes_on(backend: Backend) -> None:
    """At the pace of that of the process, and never back."""
    store = await backend.open("account")
    loop = asyncio.get_running_loop()
    before, start = await store.load(), loop.time()
    last = before.now
    for _ in range(10):
        await asyncio.sleep(0.05)
        now = (await store.load()).now
        expect(now >= last, "have a clock that never goes back")
        last = now
    passed = loop.time() - start
    expect(abs((last - before.now) - passed) < 0.4 + passed / 10, "have a clock that goes right")
    await store.aclose()


async def everything_outlives_who_wrote_it(backend: Backend) -> None:
    """Another process that opens it later finds it."""
    store = await backend.open("account")
    own = await submit(store, "k")
    await store.save(b"body", (await store.load()).version)
    await store.aclose()
    later = await backend.open("account")
    entry = await entry_of(later, "k")
    expect(
        (entry.attempt, entry.task_id, entry.state) == (own, "task_k", State.SUBMITTED),
        "keep an entry for those who come later",
    )
    expect((await later.load()).body == b"body", "keep the value for those who come later")
    await later.aclose()


async def texts_are_kept_to_the_letter(backend: Backend) -> None:
    """Keys are what users name things; ids are what the service makes up."""
    store = await backend.open("account")
    for key in ("order 7: 'ä' \"漢字\" 🏰", "%(key)s :key ? %s", "a\\b\nc\td", "k" * 200):
        own = await intend(store, key)
        expect(own is not None, "take any key")
        assert own is not None
        task_id = f"task\n\x00 '{key}'"
        await store.bought(purchase(key), own, "a", task_id, hold=LONG)
        entry = await entry_of(store, key)
        expect((entry.purchase.key, entry.task_id) == (key, task_id), "keep texts as they are")
        named = await store.named(task_id)
        expect(named is not None and named.purchase.key == key, "find an entry by its task")
    expect(await store.find("no such key") is None, "find nothing where there is nothing")
    expect(await store.named("no such task") is None, "find nothing where there is nothing")
    await store.aclose()


#: Every check. Later releases only add to them.
CHECKS: Sequence[StoreCheck] = (
    a_key_is_bought_once,
    of_many_intents_at_once_one_is_taken,
    no_more_tasks_than_slots,
    accounts_have_slots_of_their_own,
    what_was_refused_is_gone,
    a_purchase_is_kept_whatever_comes_between,
    a_second_purchase_is_not_forgotten,
    what_is_paid_is_never_forgotten,
    a_purchase_and_a_refusal_at_once,
    the_word_of_two_is_one_purchase,
    doubt_holds_a_slot_for_a_time,
    an_end_is_kept,
    a_doubt_is_resolved_once,
    what_dead_ones_left_is_taken_over,
    others_hear_of_changes,
    one_that_leaves_owns_nothing,
    what_is_young_is_left_to_its_owner,
    an_intent_does_not_last_for_ever,
    callbacks_reach_the_owner,
    a_callback_is_no_refusal,
    named_doubts_are_taken_over,
    several_keys_are_looked_up_together,
    entries_are_read_in_their_order,
    old_ends_are_swept,
    what_is_over_can_be_deleted,
    the_value_of_the_limits_is_kept_in_turns,
    its_clock_goes_on,
    everything_outlives_who_wrote_it,
    texts_are_kept_to_the_letter,
)
