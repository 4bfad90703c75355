"""What other processes have bought: followed while they poll it, taken over once they are gone."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Final

from apixo_async._limits.leased import LEASE
from apixo_async._limits.limiter import Slot
from apixo_async._polling.outcomes import said_not_bought
from apixo_async._polling.poller import Poller
from apixo_async._polling.tracked_task import SubmitTimes, TrackedTask
from apixo_async._reporting import Reporter, checked_traceparent, logger
from apixo_async._submit.callbacks import SubmitCallbacks, reopened
from apixo_async._submit.entries import EntryRecord, EntryWriter, record_of
from apixo_async._sync import Alarm
from apixo_async._task import Task
from apixo_async._types import Billing, Result, TaskRef
from apixo_async.errors import StoreError, TaskError
from apixo_async.events import CallbackReceived, TaskAdopted, TaskAttached
from apixo_async.journal._error_forms import About, error_of
from apixo_async.journal._forms import result_of
from apixo_async.stores._protocol import ENDED, MOST_FOUND, State, StoreEntry

#: Seconds between two looks at the entries that are followed, where nothing is heard of them, and
#: the fewest between two of any kind where much is.
FOLLOW: Final = 1.0
SOONEST: Final = 0.05

#: Seconds between two looks for what dead processes left: of a process that has tasks of its own,
#: and of one that has none.
TAKE_OVER: Final = 1.0
LEFT: Final = 0.5  # the same, where something is heard that may be a process that leaves
IDLE: Final = LEASE / 2

#: Tasks that are taken over at once, so that several processes share them.
MOST: Final = 100

#: Seconds between two looks at what this process owns, for what it does not know: a task, where
#: the answer to a take-over was lost and no other one polls it, or a callback.
OWN: Final = 30.0

#: Seconds between two sweeps of what ended long ago, and the most rows of one.
SWEEP: Final = 600.0
MOST_SWEPT: Final = 20_000


def ref_of(entry: StoreEntry) -> TaskRef:
    """Return the reference of the task of an entry that has one."""
    assert entry.task_id is not None
    return TaskRef(entry.purchase.model, entry.task_id)


def billing_of(entry: StoreEntry, tag: str | None) -> Billing:
    """Return the cost of the task of an entry, and the tag by which it is asked for, or was."""
    try:
        cost = None if entry.purchase.price is None else Decimal(entry.purchase.price)
    except InvalidOperation:  # What is in a row may be anybody's.
        cost = None
    return Billing(
        tag or entry.purchase.tag, cost if cost is not None and cost.is_finite() else None
    )


def outcome_of(entry: StoreEntry) -> Result | TaskError | None:
    """Return how the task of an entry ended; None while it goes on, or where that is unreadable."""
    if entry.state not in ENDED or entry.outcome is None:
        return None
    purchase = entry.purchase
    try:
        ref = ref_of(entry)
        if entry.state is State.SUCCESS:
            return result_of(entry.outcome, ref.model, ref.task_id)
        about = About(purchase.model, purchase.provider, purchase.payload, None)
        error = error_of(entry.outcome, about)
    except Exception:  # What is in a row may be anybody's, and nested as deep as anybody likes.
        logger.error("key %r: how its task ended cannot be read from the store", purchase.key)
        return None
    return error if isinstance(error, TaskError) else None


class Following:
    """Learn from the store how the tasks of other processes end, and take over those of dead ones.

    Args:
        writer: Writes entries.
        poller: Polls what is taken over.
        report: Where events go.
        callbacks: Those of this client, with webhooks.
    """

    def __init__(
        self,
        writer: EntryWriter,
        poller: Poller,
        report: Reporter,
        callbacks: SubmitCallbacks | None,
    ) -> None:
        self._writer = writer
        self._poller = poller
        self._report = report
        self._callbacks = callbacks
        if callbacks is not None:
            callbacks.share(self.called)
        #: By the POST that an entry stands for: its key, and the task.
        self._followed: dict[str, tuple[str, TrackedTask]] = {}
        self._alarm = Alarm()
        self._runner: asyncio.Task[None] | None = None
        self._next_follow = self._next_take_over = self._followed_at = -math.inf
        self._took_over_at = -math.inf
        #: Until when others than those who follow wait for news; minus infinity: nothing is heard.
        self._listens_until = -math.inf
        self._next_sweep = self._next_own = self._next_called = math.inf
        self._called_at = -math.inf
        #: When a callback came last of each open entry that is owned here, by its POST.
        self._calls: dict[str, float | None] = {}
        #: The polls that this caused of tasks that were taken over, and when the last one was.
        self._caused: dict[str, tuple[int, float]] = {}
        self._is_closed = False
        self._known_as: str | None = None
        self._known_doubts = 0
        #: Where what is taken over is collected as well.
        self.collecting: list[dict[TaskRef, Task]] = []

    def start(self) -> None:
        """Begin to look for what dead processes left, as a member of the account."""
        self._writer.limiter.serve()
        if self._runner is None:
            loop = asyncio.get_running_loop()
            self._next_sweep = loop.time() + SWEEP
            self._next_own = loop.time() + OWN
            self._runner = loop.create_task(
                self._run(), name="apixo_async store", context=contextvars.Context()
            )

    async def aclose(self) -> None:
        """Stop; what is followed is polled by others."""
        self._is_closed = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    # --- the tasks of entries ------------------------------------------------------------

    def task(self, entry: StoreEntry, tag: str | None = None) -> Task:
        """Return the handle of the task of an entry, which has one.

        One that goes on is polled by its owner, and followed here; one that was lost is polled.
        """
        ref, registry = ref_of(entry), self._poller.registry
        if entry.state in {State.SUCCESS, State.FAILED} and (outcome := outcome_of(entry)):
            ended = registry.ended(ref, entry.purchase.kind, outcome, billing_of(entry, tag))
            return Task(ended, self._poller)
        if (track := registry.tracks.get(ref)) is not None:
            return Task(track, self._poller)
        own = {None, self._writer.limiter.member}
        if entry.state is State.SUBMITTED and entry.owner not in own:
            return Task(self._follow(entry, tag), self._poller)
        return Task(self.adopt(entry, tag), self._poller)

    def doubted(self, entry: StoreEntry) -> Task | None:
        """Return what stands for the task of an uncertain submit of this client, with webhooks."""
        _, track = self._doubts().get(entry.attempt, (None, None))
        return None if track is None else Task(track, self._poller)

    def _doubts(self) -> dict[str, tuple[str, TrackedTask]]:
        """Return what stands for the tasks of uncertain submits: by the POST, with its key."""
        return {
            track.record.attempt: (track.record.purchase.key, track)
            for track in self._poller.registry.unresolved.tracks
            if isinstance(track.record, EntryRecord)
        }

    def _report_of(
        self, event: type[TaskAttached | TaskAdopted], entry: StoreEntry, billing: Billing
    ) -> None:
        ref, traceparent = ref_of(entry), checked_traceparent(entry.purchase.traceparent)
        self._report(event(ref.model, ref.task_id, billing.tag, traceparent))

    def _follow(self, entry: StoreEntry, tag: str | None) -> TrackedTask:
        billing = billing_of(entry, tag)
        track = self._poller.track(
            ref_of(entry),
            entry.purchase.kind,
            Slot(None),
            age=_age(entry),
            is_followed=True,
            billing=billing,
        )
        self._report_of(TaskAttached, entry, billing)
        self._followed[entry.attempt] = entry.purchase.key, track
        self.listen()
        self._next_follow = -math.inf  # Once more, now that its news are heard.
        self._alarm.wake()
        return track

    def adopt(self, entry: StoreEntry, tag: str | None = None) -> TrackedTask:
        """Poll the task of an entry here."""
        record = self._writer.records.get(entry.purchase.key)
        if record is None or record.attempt != entry.attempt:
            record = record_of(self._writer, entry)
        if entry.state is State.UNCERTAIN:
            return self._verify(entry, record)
        ref = ref_of(entry)
        self._followed.pop(entry.attempt, None)
        track = self._poller.registry.tracks.get(ref)
        billing = billing_of(entry, tag) if track is None else track.billing
        if entry.state is State.LOST:
            self._report_of(TaskAttached, entry, billing)
        elif track is None or track.is_followed:
            self._report_of(TaskAdopted, entry, billing)
        if track is not None:
            self._poller.adopt(track, record)
            return track
        age = _age(entry) if entry.state is State.SUBMITTED else None
        slot = self._writer.limiter.slot_above()
        return self._poller.track(
            ref, entry.purchase.kind, slot, age=age, record=record, billing=billing
        )

    def _verify(self, entry: StoreEntry, record: EntryRecord) -> TrackedTask:
        """Have polls find out whether the task that a callback named is that of an entry."""
        for claim in entry.claimed:
            known = self._poller.registry.tracks.get(TaskRef(entry.purchase.model, claim))
            if known is not None and known.record is record:
                return known  # They do.
        _, track = self._doubts().get(entry.attempt, (None, None))
        if track is not None:
            for claim in entry.claimed:
                self._poller.claimed(track, claim)
            return track
        sent_at = asyncio.get_running_loop().time() - (entry.read_at - entry.intent_at)
        times = SubmitTimes(sent_at, sent_at + self._writer.exchange, entry.intent_at)
        track = reopened(
            self._poller,
            self._callbacks,
            entry.purchase.model,
            Slot(None),  # The entry has one; its task takes one once it is found.
            entry.attempt,
            times,
            record,
            entry.claimed,
        )
        track.billing = billing_of(entry, None)
        return track

    # --- callbacks -----------------------------------------------------------------------

    async def called(self, attempt: str, task_id: str | None) -> bool:
        """Note a callback for the process that polls its task; False if no entry is of its POST."""
        if self._is_closed:  # It would open the store again.
            raise StoreError("the client was closed: the callback has to come again")
        store = await self._writer.account.opened()
        is_known = await store.called(attempt, task_id)
        self._report(CallbackReceived("passed on" if is_known else "unknown"))
        self._look_at_calls_soon()  # It may be this one: a process does not hear of its own writes.
        return is_known

    def _look_at_calls_soon(self) -> None:
        self._next_called = self._called_at + SOONEST
        self._alarm.need(self._next_called)

    async def _look_at_calls(self) -> None:
        store = await self._writer.account.opened()
        called = await store.owned(self._writer.limiter.member, called=True)
        known, self._calls = self._calls, {entry.attempt: entry.called_at for entry in called}
        self._caused = {each: self._caused[each] for each in self._calls if each in self._caused}
        self._each(
            (entry for entry in called if known.get(entry.attempt) != entry.called_at),
            self._was_called,
        )
        await self.look_at_doubts()

    def _was_called(self, entry: StoreEntry) -> None:
        _, track = self._doubts().get(entry.attempt, (None, None))
        if track is not None:
            for claim in entry.claimed:
                self._poller.claimed(track, claim)
        if self._callbacks is not None and self._callbacks.received(entry.attempt, entry.claimed):
            return
        if entry.state is State.SUBMITTED:  # It was taken over.
            track = self._poller.registry.tracks.get(ref_of(entry))
        if track is not None:
            self._call(entry, track)
        elif entry.state is State.UNCERTAIN and entry.claimed:
            self.adopt(entry)

    def _call(self, entry: StoreEntry, track: TrackedTask) -> None:
        """Poll a task for which nothing here awaits callbacks, at most as often as with that."""
        # Here, since only callbacks need it, and it is slow to import.
        from apixo_async.webhooks._inbox import SPACING, next_poll

        now = asyncio.get_running_loop().time()
        caused, last = self._caused.get(entry.attempt, (0, -SPACING))
        due = next_poll(caused, last, now)
        if due is None or due > now:
            return
        self._caused[entry.attempt] = caused + 1, now
        for name in entry.claimed or (None,):
            self._poller.called(track, name)

    async def look_at_doubts(self) -> None:
        """Learn what others have heard, or somebody has said, of uncertain submits from here."""
        unwritten = {key for key, _ in self._writer.account.unwritten.values()}
        doubts = {
            attempt: doubt for attempt, doubt in self._doubts().items() if doubt[0] not in unwritten
        }
        found = {
            entry.purchase.key: entry
            for entry in await self._found([key for key, _ in doubts.values()])
        }
        for attempt, (key, track) in doubts.items():
            entry = found.get(key)
            if entry is None:
                if self._is_said_of(track):
                    self._poller.ended_elsewhere(track, said_not_bought(track))
            elif entry.attempt == attempt:
                self._each([entry], partial(self._look_at_doubt, track=track))

    def _look_at_doubt(self, entry: StoreEntry, track: TrackedTask) -> None:
        if entry.state is State.LOST and (outcome := outcome_of(entry)) is not None:
            self._poller.ended_elsewhere(track, outcome)  # It was named, and there is none.
        elif entry.state not in {State.INTENT, State.UNCERTAIN} and self._callbacks is not None:
            self._callbacks.received(entry.attempt, [entry.task_id])

    def _is_said_of(self, track: TrackedTask) -> bool:
        """Return True if an uncertain submit had an entry, so that somebody has removed it."""
        is_in_store = isinstance(track.record, EntryRecord) and track.record.is_in_store
        return is_in_store and track in self._poller.registry.unresolved.tracks

    # --- listening -----------------------------------------------------------------------

    def listen(self) -> None:
        """Hear for some seconds, or for as long as a task is followed, what others change."""
        is_new = self._listens_until == -math.inf
        self._listens_until = asyncio.get_running_loop().time() + 2 * FOLLOW
        if is_new:
            self._writer.account.listen(self._heard_of)

    def _heard_of(self, key: str | None) -> None:
        self._writer.wrote(key)
        if key is None or any(key == followed for followed, _ in self._followed.values()):
            self._next_follow = self._followed_at + SOONEST
            self._alarm.need(self._next_follow)
        if self._callbacks is not None and (key is None or key in self._writer.records):
            self._look_at_calls_soon()
        if key is None:  # Another process may have left.
            self._next_take_over = min(self._next_take_over, self._took_over_at + LEFT)
            self._alarm.need(self._next_take_over)

    async def _listen_as_needed(self, now: float) -> None:
        if self._callbacks is not None:
            if self._listens_until == -math.inf:
                await self._writer.account.opened()  # Nothing is heard before.
                self.listen()
        elif not self._followed and -math.inf < self._listens_until <= now:
            self._listens_until = -math.inf
            self._writer.account.listen(None)

    # --- looking -------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            due = min(self._next_take_over, self._next_sweep, self._next_own, self._next_called)
            if self._followed:
                due = min(due, self._next_follow)
            if due > now:
                await self._alarm.sleep(due)
                continue
            try:
                await self._look(now)
            except StoreError:
                # The limiter has reported it, and what is followed is polled late.
                await asyncio.sleep(TAKE_OVER)
            except Exception:
                logger.exception("looking into the store raised; it goes on")
                await asyncio.sleep(TAKE_OVER)

    async def _look(self, now: float) -> None:
        await self._listen_as_needed(now)
        if self._followed and now >= self._next_follow:
            self._followed_at, self._next_follow = now, now + FOLLOW
            await self._look_at_followed()
        if now >= self._next_take_over:
            self._took_over_at, self._next_take_over = now, now + TAKE_OVER
            if not await self.take_over() and not self._poller.registry.held:
                self._next_take_over = now + IDLE
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP
            await self._sweep()
        self._warn_of_doubts()
        if now >= self._next_own:
            self._next_own, self._next_called = now + OWN, now
            await self._look_at_own()
        if now >= self._next_called:
            self._called_at, self._next_called = now, math.inf
            await self._look_at_calls()

    def _warn_of_doubts(self) -> None:
        count = self._writer.limiter.uncertain_entries or 0
        if count > self._known_doubts:
            logger.warning(
                "the store has %d uncertain submits: tasks may be paid for that no process knows; "
                "`apixo store list --state uncertain` shows them, `apixo store resolve` says what "
                "each one made",
                count,
            )
        self._known_doubts = count

    async def _sweep(self) -> None:
        account, swept = self._writer.account, 0
        store = await account.opened()
        while swept < MOST_SWEPT:
            some = await store.sweep(account.backend.keep.total_seconds())
            if some <= 0:
                return
            swept += some

    async def _look_at_followed(self) -> None:
        for attempt, (_, track) in [*self._followed.items()]:
            if track.outcome is not None or not track.is_followed:
                del self._followed[attempt]
        followed = {attempt: key for attempt, (key, _) in self._followed.items()}
        entries = await self._found([*followed.values()])
        found = {entry.attempt: entry for entry in entries}
        for attempt in followed.keys() - found.keys():
            self._heard(attempt, None)
        self._each(found.values(), lambda entry: self._heard(entry.attempt, entry))

    async def _found(self, keys: Sequence[str]) -> list[StoreEntry]:
        """Look up any number of keys."""
        store, found = await self._writer.account.opened(), list[StoreEntry]()
        for place in range(0, len(keys), MOST_FOUND):
            found += await store.find_all(keys[place : place + MOST_FOUND])
        return found

    def _heard(self, attempt: str, entry: StoreEntry | None) -> None:
        _, track = self._followed.get(attempt, ("", None))
        if track is None or track.outcome is not None:
            return
        if entry is None or entry.task_id != track.ref.task_id:
            # It was removed, or stands for another task by now: this one is polled all the same.
            self._poller.adopt(track, None)
            del self._followed[attempt]
        elif (outcome := outcome_of(entry)) is not None:
            del self._followed[attempt]
            self._poller.ended_elsewhere(track, outcome)
        elif entry.state is not State.SUBMITTED:
            self.adopt(entry)

    # --- what is owned here --------------------------------------------------------------

    def look_at_own(self) -> None:
        """Look soon whether this process owns a task that it does not know."""
        self._next_own = -math.inf
        self._alarm.wake()

    async def _look_at_own(self) -> None:
        store = await self._writer.account.opened()
        entries = await store.owned(self._writer.limiter.member)
        # What is being written is known here, and only not there yet.
        unwritten = {key for key, _ in self._writer.account.unwritten.values()}
        self._each((entry for entry in entries if entry.purchase.key not in unwritten), self._take)

    # --- what dead ones left -------------------------------------------------------------

    async def take_over(self) -> int:
        """Take over some of what dead processes left, if it is known who lives; return how much."""
        limiter, account = self._writer.limiter, self._writer.account
        self._known_as = self._known_as or limiter.member
        living = limiter.living
        if living is None:
            return 0
        store = await account.opened()
        if self._known_as != limiter.member:
            await self._leave_to(living)
            self._known_as = limiter.member
        try:
            taken = await store.take_over(
                limiter.member, {*living, limiter.member}, most=MOST, settled=LEASE
            )
        except BaseException:
            self.look_at_own()  # Some may be taken all the same.
            raise
        self._each(taken, self._take)
        return len(taken)

    def _take(self, entry: StoreEntry) -> None:
        task = Task(track := self.adopt(entry), self._poller)
        if entry.called_at is not None and entry.attempt not in self._calls:
            # A callback came while its owner was dead.
            self._calls[entry.attempt] = entry.called_at
            self._call(entry, track)
        if entry.state is State.SUBMITTED:
            for collected in self.collecting:
                collected[task.ref] = task

    def _each(self, entries: Iterable[StoreEntry], act: Callable[[StoreEntry], object]) -> None:
        """Act on entries; what is wrong with one is that one's affair only."""
        for entry in entries:
            try:
                act(entry)
            except Exception as exc:
                key = entry.purchase.key
                logger.error("key %r: its task cannot be polled (%s)", key, type(exc).__name__)

    async def _leave_to(self, living: frozenset[str]) -> None:
        """Leave to others what they have taken over, after they took this process for dead."""
        tracks: dict[str, TrackedTask] = {}
        keys: list[str] = []
        for track in self._poller.registry.tracks.values():
            if isinstance(track.record, EntryRecord):
                tracks[track.record.attempt] = track
                keys.append(track.record.purchase.key)
        for entry in await self._found(keys):
            known = tracks.get(entry.attempt)
            is_taken = entry.owner in living and entry.owner != self._writer.limiter.member
            if known is not None and is_taken:
                self._followed[entry.attempt] = entry.purchase.key, known
                self._poller.follow(known)


def _age(entry: StoreEntry) -> float:
    began = entry.intent_at if entry.submitted_at is None else entry.submitted_at
    return max(0.0, entry.read_at - began)
