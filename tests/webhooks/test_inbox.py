"""Callbacks reach the client that they are for, on its loop, and cause few polls."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from apixo_async.events import CallbackReceived, Event
from apixo_async.webhooks._inbox import (
    MOST,
    SPACING,
    CallbackInbox,
    CallbackSubscription,
    next_poll,
)

Polls = list[tuple[float, str | None]]


class Office:
    """An inbox whose polls are noted with their times."""

    def __init__(self) -> None:
        numbers = itertools.count()
        self.subscriptions: dict[str, CallbackSubscription] = {}
        self.early: dict[str, str] = {}

        def issue(_model: str, _lifetime: float, given: str | None, _kept: bool) -> tuple[str, str]:
            return given or f"i{next(numbers)}", "url"

        self.left: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.events: list[Event] = []
        self.inbox = CallbackInbox(
            self.subscriptions,
            issue,
            self.early,
            self.left,
            self.refused,
            report=self.events.append,
        )
        self.polls: Polls = []

    def open(self) -> CallbackSubscription:
        """Open a subscription that notes."""
        return self.inbox.open("m", 60.0, self.note)

    def note(self, task_id: str | None) -> None:
        """Note a poll."""
        self.polls.append((self.inbox.loop.time(), task_id))


@pytest.mark.parametrize(
    ("caused", "last", "now", "expected"),
    [
        (0, -SPACING, 0.0, 0.0),
        (1, 5.0, 5.0, 5.0 + SPACING),
        (1, 5.0, 5.9, 5.0 + SPACING),
        (1, 5.0, 9.0, 9.0),
        (MOST - 1, 5.0, 9.0, 9.0),
        (MOST, 5.0, 9.0, None),
    ],
)
def test_when_a_callback_may_cause_a_poll(
    caused: int, last: float, now: float, expected: float | None
) -> None:
    """At once, else a spacing after the poll before, and never after enough of them."""
    assert next_poll(caused, last, now) == expected


async def test_the_first_callback() -> None:
    """The first callback is told before `receive` returns."""
    office = Office()
    now = office.inbox.loop.time()
    office.open().receive("t")
    assert office.polls == [(now, "t")]


async def test_what_is_reported() -> None:
    """What each delivery causes, once for each; of a task that is over, nothing."""
    office = Office()

    async def note(intent_id: str, task_id: str | None) -> bool:
        del intent_id
        return task_id is not None

    early = office.inbox.open("m", 60.0, note=note)
    await early.accept("t")
    early.resolved(office.note)
    for _ in range(2):
        early.receive("t")
    early.receive("t", is_reported=False)  # Heard of through a store.
    await asyncio.sleep(10.0)
    early.receive("t")
    early.close()
    early.receive("t")
    early.refuse()
    early.receive("t")
    outcomes = [event.outcome for event in office.events if isinstance(event, CallbackReceived)]
    assert outcomes == ["early", "repeated", "repeated", "polled", "refused"]


async def test_callbacks_in_one_instant() -> None:
    """A hundred callbacks cause one poll now and one after the spacing, which serves them all."""
    office = Office()
    subscription, start = office.open(), office.inbox.loop.time()
    for number in range(100):
        subscription.receive(f"t{number}")
    await asyncio.sleep(10.0)
    assert office.polls == [(start, "t0"), (start + SPACING, "t99")]


async def test_a_callback_without_an_id() -> None:
    """A callback that names no task does not make an earlier name forgotten."""
    office = Office()
    subscription = office.open()
    subscription.receive(None)
    subscription.receive("t")
    subscription.receive(None)
    await asyncio.sleep(2.0)
    assert [task_id for _, task_id in office.polls] == [None, "t"]


async def test_callbacks_during_the_post() -> None:
    """What came while the POST was under way causes one poll, with the last id, once it ended."""
    office = Office()
    subscription = office.inbox.open("m", 60.0)
    assert not subscription.received
    for task_id in ("task_1", None, "task_2"):
        subscription.receive(task_id)
        await asyncio.sleep(2.0)
    assert subscription.received
    assert office.polls == []
    now = office.inbox.loop.time()
    subscription.resolved(office.note)
    assert office.polls == [(now, "task_2")]
    subscription.receive(None)
    assert office.polls == [(now, "task_2")] * 2


async def test_no_callback_during_the_post() -> None:
    """Without a callback the end of the POST causes nothing."""
    office = Office()
    subscription = office.inbox.open("m", 60.0)
    subscription.resolved(office.note)
    assert office.polls == []
    subscription.receive(None)
    assert office.polls == [(office.inbox.loop.time(), None)]


async def test_a_subscription_closed_during_the_post() -> None:
    """One that is closed by then causes a poll for what came before, and for nothing later."""
    office = Office()
    subscription = office.inbox.open("m", 60.0)
    subscription.receive("t")
    subscription.close()
    subscription.resolved(office.note)
    subscription.receive("u")
    await asyncio.sleep(5.0)
    assert [task_id for _, task_id in office.polls] == ["t"]


async def test_an_endless_stream_of_callbacks() -> None:
    """No stream of callbacks causes more polls than the cap, or two within the spacing."""
    office = Office()
    subscription = office.open()
    for _ in range(1_000):
        subscription.receive("t")
        await asyncio.sleep(0.1)
    times = [time for time, _ in office.polls]
    assert len(times) == MOST
    assert min(b - a for a, b in itertools.pairwise(times)) >= SPACING - 1e-9


async def test_a_closed_subscription() -> None:
    """A closed one causes no poll, nor does one that was waiting; closing again is harmless."""
    office = Office()
    subscription = office.open()
    subscription.receive("t")
    subscription.receive("t")
    subscription.close()
    subscription.close()
    subscription.receive("t")
    await asyncio.sleep(5.0)
    assert len(office.polls) == 1
    assert office.subscriptions == {}


async def test_a_subscription_closed_by_its_own_poll() -> None:
    """A subscription that is closed during its poll causes no other."""
    office = Office()
    told: list[str | None] = []

    def poll(task_id: str | None) -> None:
        told.append(task_id)
        subscription.close()

    subscription = office.inbox.open("m", 60.0, poll)
    subscription.receive("a")
    subscription.receive("b")
    await asyncio.sleep(5.0)
    assert told == ["a"]


async def test_a_closed_inbox() -> None:
    """A client that is closed closes its subscriptions, and nobody else's."""
    office, other = Office(), Office()
    other.inbox.subscriptions = other.subscriptions = office.subscriptions
    mine, yours = office.open(), other.inbox.open("m", 60.0, other.note, intent_id="yours")
    office.inbox.close()
    assert office.subscriptions == {"yours": yours}
    mine.receive("t")
    yours.receive("t")
    assert (len(office.polls), len(other.polls)) == (0, 1)


async def test_a_subscription_that_was_opened_anew() -> None:
    """An intent opened again belongs to the new one: the end of the old one does not close it."""
    office = Office()
    old = office.open()
    new = office.inbox.open("m", 60.0, office.note, intent_id=old.id)
    old.close()
    assert office.subscriptions == {old.id: new}


async def test_a_poll_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """What a client's poll raises is logged, and reaches no sender of callbacks."""
    office = Office()

    def poll(_task_id: str | None) -> None:
        raise RuntimeError("a defect")

    office.inbox.open("m", 60.0, poll).receive("t")
    assert "the poll for a callback raised" in caplog.text


async def test_a_callback_in_another_thread() -> None:
    """A callback that a server's thread takes is told on the client's own loop."""
    office = Office()
    threads: list[threading.Thread] = []
    subscription = office.inbox.open(
        "m", 60.0, lambda _: threads.append(threading.current_thread())
    )
    server = threading.Thread(target=subscription.receive, args=("t",))
    server.start()
    server.join(10.0)
    assert threads == []
    await asyncio.sleep(0.1)
    assert threads == [threading.main_thread()]


def test_a_callback_after_the_loop() -> None:
    """A callback for a client whose loop is closed is harmless."""
    polls: list[str | None] = []

    async def opened() -> CallbackSubscription:
        return CallbackInbox({}, lambda *_: ("i", "url"), {}, {}, {}).open("m", 60.0, polls.append)

    asyncio.run(opened()).receive("t")
    assert polls == []


async def test_a_callback_on_its_way_as_its_submit_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A callback that is answered on another thread just then shows that a task was made."""
    office = Office()
    subscription = office.open()
    passing = threading.Thread(target=subscription.receive, args=("task_1",))
    passing.start()
    passing.join()
    subscription.refuse()
    await asyncio.sleep(0.1)
    assert office.polls == []
    assert list(office.refused) == [subscription.id]
    assert "task task_1 was made for it" in caplog.text


async def test_what_a_subscription_shows() -> None:
    """A subscription's repr holds no URL: who knows that can call."""
    subscription = Office().inbox.open("m", 1.0, lambda _: None, intent_id="0123456789abcdef")
    assert repr(subscription) == "<CallbackSubscription 01234567, polled, 0 polls>"


# --- what has to be kept before a callback is answered ------------------------------------------


async def test_a_note_is_waited_for() -> None:
    """A callback counts as received when what it claims was noted."""
    office, noted = Office(), list[str | None]()

    async def note(_intent_id: str, task_id: str | None) -> bool:
        await asyncio.sleep(3)
        noted.append(task_id)
        return True

    subscription = office.inbox.open("m", 1.0, office.note, note=note)
    start = office.inbox.loop.time()
    assert await subscription.accept("task_1")
    assert (noted, office.inbox.loop.time() - start) == (["task_1"], 3.0)
    assert [task_id for _, task_id in office.polls] == [None, "task_1"]


async def test_a_claim_that_cannot_be_so() -> None:
    """What the note knows better causes a poll, and names nothing."""
    office = Office()

    async def note(_intent_id: str, _: str | None) -> bool:
        return False

    assert await office.inbox.open("m", 1.0, office.note, note=note).accept("task_1")
    await asyncio.sleep(5.0)
    assert [task_id for _, task_id in office.polls] == [None]


async def test_a_note_that_fails() -> None:
    """What could not be noted, or not in time, has to come again."""
    office = Office()

    async def fail(_intent_id: str, _: str | None) -> bool:
        raise RuntimeError("the disk is full")

    async def hang(_intent_id: str, _: str | None) -> bool:
        await asyncio.sleep(1_000)
        return True

    for note in (fail, hang):
        assert not await office.inbox.open("m", 1.0, lambda _: None, note=note).accept("task_1")


async def test_nothing_to_note() -> None:
    """Without a note a callback is received as it comes."""
    assert await Office().inbox.open("m", 1.0, lambda _: None).accept("task_1")


async def test_a_note_on_another_loop() -> None:
    """A callback that comes in another thread is noted on the client's loop."""
    office, noted = Office(), list[object]()

    async def note(_intent_id: str, task_id: str | None) -> bool:
        noted.append((task_id, asyncio.get_running_loop() is office.inbox.loop))
        return False

    subscription = office.inbox.open("m", 1.0, lambda _: None, note=note)
    assert await asyncio.to_thread(lambda: asyncio.run(subscription.accept("task_1")))
    assert noted == [("task_1", True)]


async def test_a_claim_that_came_too_early() -> None:
    """What was claimed for an intent before anybody had opened it is told when somebody does."""
    office, polls = Office(), list[str | None]()
    office.early["i7"] = "task_7"
    office.inbox.open("m", 1.0, polls.append, intent_id="i7")
    assert polls == []
    await asyncio.sleep(0.1)
    assert (polls, office.early) == (["task_7"], {})


async def test_intents_that_were_left_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of intents that clients left unsettled, only the newest are known."""
    monkeypatch.setattr("apixo_async.webhooks._inbox.MOST_KNOWN", 3)
    office = Office()
    for _ in range(50):
        office.open().leave()
    assert list(office.left) == ["i47", "i48", "i49"]
