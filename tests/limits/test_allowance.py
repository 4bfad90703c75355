"""All rules of one account together: limits hold, turns are kept, and everything recovers."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._limits.allowance import Allowance, Permit
from apixo_async._limits.priority import Priority
from apixo_async._limits.window import MARGIN, PermitOutcome, SlidingWindow
from apixo_async._types import Limits

SUBMIT, ASKED, SCHEDULED = Priority
ANSWERED, THROTTLED, UNANSWERED, UNUSED = PermitOutcome
WINDOW = 60.0


@dataclass(frozen=True)
class Request:
    """A request on its way: its permit, and what the limit was when it got that."""

    permit: Permit
    limit: int

    @property
    def priority(self) -> Priority:
        return self.permit.priority

    @property
    def sent_at(self) -> float:
        return self.permit.taken_at


@dataclass
class Account:
    """An allowance with those who wait for it, and the service that counts at the worst moment."""

    allowance: Allowance
    now: float = 1_000.0
    waiting: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    flying: list[Request] = field(default_factory=list[Request])
    counted: list[tuple[float, Request]] = field(default_factory=list[tuple[float, Request]])
    idle: int = 0
    tasks: int = 0
    passed_over: int = 0

    def serve(self) -> None:
        """Hand out all permits that may be handed out now."""
        allowance = self.allowance
        allowance.slots.expire(self.now)
        while True:
            flags = {priority: count > 0 for priority, count in self.waiting.items()}
            allowance.make_room(self.now, submits_wait=flags[SUBMIT])
            priority = allowance.next_class(self.now, flags)
            if priority is None:
                allowance.served(self.now, flags)
                return
            assert flags[priority]
            polls_wait = flags[ASKED] or flags[SCHEDULED]
            self.passed_over = self.passed_over + 1 if priority is SUBMIT and polls_wait else 0
            assert self.passed_over <= 3, "waiting polls keep a quarter"
            if priority is SUBMIT:
                assert (
                    allowance.slots.existing + allowance.submits_in_flight < allowance.slots.limit
                )
            permit = allowance.take(priority, self.now)
            self.waiting[priority] -= 1
            self.flying.append(Request(permit, allowance.effective_requests_limit.value))

    def ended(self, pick: int, share: float, margin: float = 0.0) -> Request:
        """End a request, which the service counted some time between its sending and its end."""
        request = self.flying.pop(pick % len(self.flying))
        at = request.sent_at + share * (self.now + margin - request.sent_at)
        self.counted.append((at, request))
        return request

    def due(self) -> float:
        """Return when the allowance wants to be asked again."""
        polls = self.waiting[ASKED] + self.waiting[SCHEDULED]
        return self.allowance.wake_at(self.now, slots=0, submits=self.waiting[SUBMIT], polls=polls)

    def check(self) -> None:
        """Counts agree, and effective limits stay within their bounds."""
        allowance = self.allowance
        assert allowance.permits.in_flight == len(self.flying)
        assert allowance.submits_in_flight == sum(r.priority is SUBMIT for r in self.flying)
        assert 1 <= allowance.effective_tasks_limit.value <= allowance.limits.concurrent_tasks
        assert 1 <= allowance.effective_requests_limit.value <= allowance.limits.requests_per_minute

    def check_windows(self) -> None:
        """No window holds more than was allowed when the last of its requests was let go."""
        counted = sorted(self.counted, key=lambda one: one[0])
        for index, (first, _) in enumerate(counted):
            held = [request for at, request in counted[index:] if at - first <= WINDOW]
            for size in range(2, len(held) + 1):
                last = max(held[:size], key=lambda r: (r.sent_at, r.limit))
                assert size <= last.limit


Act = Callable[[Account, int, float], None]


def want(account: Account, pick: int, share: float) -> None:
    priority = tuple(Priority)[pick % 3]
    account.waiting[priority] += 1 + int(10 * share)


def leave(account: Account, pick: int, share: float) -> None:
    del share
    priority = tuple(Priority)[pick % 3]
    account.waiting[priority] = max(0, account.waiting[priority] - 1)


def answer(account: Account, pick: int, share: float) -> None:
    if account.flying:
        request = account.ended(pick, share)
        account.allowance.report(request.permit, ANSWERED, account.now)


def lose(account: Account, pick: int, share: float) -> None:
    if account.flying:
        request = account.ended(pick, share, MARGIN)
        account.allowance.report(request.permit, UNANSWERED, account.now)


def leave_unused(account: Account, pick: int, share: float) -> None:
    del share
    if account.flying:
        request = account.flying.pop(pick % len(account.flying))
        account.allowance.report(request.permit, UNUSED, account.now)


def throttle(account: Account, pick: int, share: float) -> None:
    if account.flying:
        request = account.ended(pick, share)
        account.allowance.report(
            request.permit,
            THROTTLED,
            account.now,
            retry_after=(None, 0.0, 2.0, 500.0)[pick % 4],
        )


def take_slot(account: Account, pick: int, share: float) -> None:
    del share
    if pick % 4 == 0:
        account.allowance.slots.take_above()
        account.tasks += 1
    elif account.allowance.try_slot(account.now):
        account.idle += 1
        assert account.allowance.slots.used <= account.allowance.slots.limit


def end_slot(account: Account, pick: int, share: float) -> None:
    slots, holds = account.allowance.slots, pick % 3 == 0
    confirmed = account.tasks > 0 and (pick % 2 == 0 or not account.idle)
    if not confirmed and not account.idle:
        return
    account.tasks, account.idle = account.tasks - confirmed, account.idle - (not confirmed)
    if holds:
        slots.hold(account.now + 100 * share, confirmed=confirmed)
    else:
        slots.release(confirmed=confirmed)


def confirm(account: Account, pick: int, share: float) -> None:
    del pick, share
    if account.idle:
        account.allowance.slots.confirm()
        account.idle, account.tasks = account.idle - 1, account.tasks + 1


def change_limits(account: Account, pick: int, share: float) -> None:
    account.allowance.limits = Limits(1 + pick % 7, 1 + int(share * 60))


def wait(account: Account, pick: int, share: float) -> None:
    due = account.due()
    account.now = due if pick % 2 and account.now < due < math.inf else account.now + 90 * share


ACTS: tuple[Act, ...] = (
    *(want, want, leave, answer, answer, lose, leave_unused, throttle),
    *(take_slot, end_slot, confirm, change_limits, wait, wait),
)
STEPS = st.lists(
    st.tuples(
        st.integers(0, len(ACTS) - 1),
        st.integers(0, 11),
        st.sampled_from((0.0, 0.02, 0.5, 1.0)),
    ),
    max_size=60,
)
#: Lives that are lived: few in the suite, 10,000 in the long form (`nox -s soak`).
LIVES = int(os.environ.get("APIXO_ALLOWANCE_LIVES", "500"))
START = st.tuples(st.integers(1, 5), st.sampled_from((1, 3, 10, 60)))


def new_allowance(limits: Limits) -> Allowance:
    return Allowance(limits, random.Random(7), SlidingWindow(limits.requests_per_minute))


def live(start: tuple[int, int], steps: list[tuple[int, int, float]]) -> None:
    """Live through the steps, then through a quiet time in which every waiter is served."""
    account = Account(new_allowance(Limits(*start)))
    for act, pick, share in steps:
        ACTS[act](account, pick, share)
        account.serve()
        account.check()
    account.check_windows()
    for _ in range(account.tasks):
        account.allowance.slots.release(confirmed=True)
    account.tasks = 0
    for _ in range(2_000):
        while account.flying:
            answer(account, 0, 1.0)
        account.serve()
        if not account.flying:
            if not any(account.waiting.values()):
                break
            due = account.due()
            assert account.now < due < math.inf, "those who wait would wait for ever"
            account.now = due
    assert not any(account.waiting.values())
    account.check()


@settings(max_examples=LIVES, deadline=None, database=None)
@given(START, STEPS)
def test_whatever_happens(start: tuple[int, int], steps: list[tuple[int, int, float]]) -> None:
    """No window is above the limit, no permit is lost, and every waiter is served in the end."""
    live(start, steps)


# --- what effective limits do to the rest ---------------------------------------------------


def let_go(allowance: Allowance, now: float, priority: Priority, most: int = 10_000) -> int:
    """Let requests of a class go, as many as may."""
    for count in range(most):
        waiting = dict.fromkeys(Priority, False) | {priority: True}
        allowance.make_room(now, submits_wait=waiting[SUBMIT])
        if allowance.next_class(now, waiting) is None:
            allowance.served(now, waiting)
            return count
        allowance.take(priority, now)
    allowance.served(now, dict.fromkeys(Priority, False))
    return most


def refuse(allowance: Allowance, now: float, priority: Priority, *, known: int = 0) -> None:
    """Answer 429 to a request that is sent at this moment."""
    assert let_go(allowance, now, priority, 1) == 1
    allowance.report(Permit(priority, now, known), THROTTLED, now, retry_after=1.0)


def account_with(tasks: int) -> Allowance:
    """Return an allowance of 1,000 slots under which `tasks` tasks exist."""
    allowance = new_allowance(Limits())
    for _ in range(tasks):
        allowance.slots.take_above()
    return allowance


def test_the_first_submits_are_few() -> None:
    """While no task is known to exist, 16 submits go at once; then as many as tasks exist."""
    assert let_go(account_with(0), 10.0, SUBMIT) == 16
    assert let_go(account_with(100), 10.0, SUBMIT) == 100
    assert let_go(account_with(990), 10.0, SUBMIT) == 10


def test_refused_submits_lower_the_slots() -> None:
    """Submits refused twice with ten tasks at the service mean ten slots, and no other thing."""
    allowance = account_with(10)
    for now in (100.0, 102.0):
        refuse(allowance, now, SUBMIT, known=10)
    assert (allowance.effective_tasks_limit.value, allowance.effective_requests_limit.value) == (
        10,
        10_000,
    )
    assert not allowance.has_room
    assert let_go(allowance, 110.0, SUBMIT) == 0
    assert let_go(allowance, 110.0, SCHEDULED, 5) == 5
    allowance.slots.release(confirmed=True)
    assert let_go(allowance, 111.0, SUBMIT) == 1


def test_waiting_for_a_slot_is_no_time_under_429() -> None:
    """While tasks must end first, it is not 429s that keep submits back."""
    allowance = account_with(10)
    refuse(allowance, 100.0, SUBMIT, known=10)
    assert allowance.throttled_since(SUBMIT) == 100.0
    assert allowance.throttled_since(SCHEDULED) is None
    refuse(allowance, 102.0, SUBMIT, known=10)
    assert allowance.throttled_since(SUBMIT) is None
    let_go(allowance, 500.0, SUBMIT)
    allowance.slots.release(confirmed=True)
    assert allowance.throttled_since(SUBMIT) == 500.0


def test_refused_polls_lower_the_rate() -> None:
    """Polls refused twice after sixty answers mean sixty a minute, in two cuts, and no more."""
    allowance, now = account_with(10), 100.0
    assert let_go(allowance, now, SCHEDULED, 60) == 60
    for _ in range(60):
        allowance.report(Permit(SCHEDULED, now, 0), ANSWERED, now)
    for now, value in ((101.0, 10_000), (103.0, 100)):
        refuse(allowance, now, SCHEDULED)
        assert allowance.effective_requests_limit.value == value
    assert allowance.permits.limit == 100
    probe = 110.0
    assert let_go(allowance, probe, SCHEDULED) == 1
    allowance.report(Permit(SCHEDULED, probe, 0), ANSWERED, probe)
    refuse(allowance, 115.0, SCHEDULED)
    assert allowance.effective_requests_limit.value == 61  # The probe's answer was granted too.
    assert allowance.effective_tasks_limit.value == 1_000


@pytest.mark.parametrize("priority", [SUBMIT, SCHEDULED])
def test_one_cut_an_episode(priority: Priority) -> None:
    """However many probes of one episode are refused, they lower the effective limit once."""
    allowance = account_with(0)
    for now in range(100, 110, 2):
        refuse(allowance, float(now), priority)
    lowered = {SUBMIT: (10, 10_000), SCHEDULED: (1_000, 100)}[priority]
    assert (
        allowance.effective_tasks_limit.value,
        allowance.effective_requests_limit.value,
    ) == lowered


def test_the_effective_limit_of_slots_rises_under_pressure_only() -> None:
    """Ten of ten tasks running for an hour raise nothing, until a submit waits for another."""
    allowance = account_with(10)
    for now in (100.0, 102.0):
        refuse(allowance, now, SUBMIT, known=10)
    assert let_go(allowance, 4_000.0, SCHEDULED, 5) == 5
    assert allowance.effective_tasks_limit.value == 10
    assert allowance.try_slot(4_000.0)
    assert allowance.effective_tasks_limit.value == 11


def test_the_effective_limit_of_requests_rises_under_pressure_only() -> None:
    """Answers raise it while a request waits for permits, and not while there are enough."""
    allowance = account_with(0)
    for now in (100.0, 102.0):
        refuse(allowance, now, SCHEDULED)
    assert allowance.effective_requests_limit.value == 100
    assert let_go(allowance, 200.0, SCHEDULED, 1) == 1
    allowance.report(Permit(SCHEDULED, 200.0, 0), ANSWERED, 200.0)
    assert allowance.effective_requests_limit.value == 100
    assert 0 < let_go(allowance, 230.0, SCHEDULED) < 100  # One more waits in vain.
    allowance.report(Permit(SCHEDULED, 230.0, 0), ANSWERED, 230.0)
    assert allowance.effective_requests_limit.value == 112


def test_other_limits_hold_at_once() -> None:
    """Limits that are set count from then on; what was sent is not taken back."""
    allowance = account_with(20)
    assert let_go(allowance, 100.0, SCHEDULED, 30) == 30
    allowance.limits = Limits(10, 20)
    assert (allowance.slots.limit, allowance.permits.limit) == (10, 20)
    assert not allowance.try_slot(100.0)
    assert let_go(allowance, 130.0, SCHEDULED) == 0
    allowance.limits = Limits(30, 60)
    assert allowance.try_slot(130.0)
    assert let_go(allowance, 130.0, SCHEDULED) == 6
    assert allowance.limits == Limits(30, 60)


def test_another_loop() -> None:
    """What a former loop left in flight still counts as requests, and no longer as submits."""
    allowance = account_with(0)
    assert let_go(allowance, 100.0, SUBMIT) == 16
    allowance.rebind(101.0)
    assert (allowance.submits_in_flight, allowance.permits.in_flight) == (0, 0)
    assert allowance.permits.used(101.0) == 16
