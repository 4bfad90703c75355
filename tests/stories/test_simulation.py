from __future__ import annotations

import asyncio
import collections
import hmac
import os
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from apixo_async import APIConnectionError
from apixo_async._http.verdicts import Refused, SubmitVerdict, Uncertain, judge_submit
from apixo_async._http.wire import Answer
from apixo_async._limits.limiter import Slot
from apixo_async._limits.window import PermitOutcome, SlidingWindow
from apixo_async._map.buyer import Buyer
from apixo_async._map.store import PurchaseRecord
from apixo_async._submit.requests import SubmitRequests
from apixo_async._sync import Signal
from apixo_async.testing import Fault
from apixo_async.webhooks import WebhookReceiver

from ..support.simulation.life import simulate
from ..support.simulation.traces import TRACED, libraries, recorded, trace_of
from ..support.simulation.trouble import FAULTS, ODDITIES
from ..support.watchdog import FrozenError, watchdog

SHORT = 50  # seeds of the quick form; those beyond are heavy
SEEDS = int(os.environ.get("APIXO_SEEDS", "100"))
BLOCK = 50

#: What the quick form may not do without; a block of others may happen to.
MET = (
    "APITimeoutError",
    "ClientClosedError",
    "LimitReached",
    "PollFailed",
    "NotFoundError",
    "SubmitUncertainError",
    "TaskFailedError",
    "TaskNotFoundError",
    "WaitTimeoutError",
    "attached",
    "callback",
    "cancelled",
    "closed early",
    "disk: hanging",
    "disk: slow",
    "doubt resolved",
    "fault: odd text",
    "fault: odd times",
    "fault: page",
    "inherited",
    "mistyped",
    "odd callback",
    "orphaned Task",
    "outcome resumed",
    "receiver down",
    "restarted",
    "resubmit_uncertain",
    "run: aclose",
    "run: break",
    "run: cancel",
    "run: loop",
    "run: raise",
    "run: stop",
    "wall clock wrong",
)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=[pytest.mark.heavy] if first >= SHORT else [])
        for first in range(0, SEEDS, BLOCK)
    ],
)
def test_no_rule_is_broken(first: int) -> None:
    """Whatever callers, service and close do at whatever moment, nothing is lost or left behind."""
    reports = [simulate(seed, collect=seed % 25 == 0) for seed in range(first, first + BLOCK)]
    broken = [str(report) for report in reports if report.problems]
    assert not broken, "\n".join(broken)
    met = sum((report.met for report in reports), collections.Counter[str]())
    assert first >= SHORT or [word for word in MET if not met[word]] == []
    with_libraries, traces = recorded()
    if first < TRACED and with_libraries == libraries():
        changed = [r.seed for r in reports if trace_of(r.log) != traces[r.seed]]
        assert changed == [], "meant? python -m tests.support.simulation.traces records them anew"


def test_a_life_that_freezes_is_found() -> None:
    """A life that spins is ended, on its loop too, and the place is told."""

    async def spin() -> None:
        while True:
            pass

    with pytest.raises(FrozenError, match=r"test_simulation\.py"), watchdog(0.2):
        asyncio.run(spin())


@pytest.mark.parametrize("seed", [3, 14, 15, 26, 53, 65, 92])  # Of both kinds, with callbacks.
def test_same_seed_same_life(seed: int) -> None:
    """A seed decides every request, its moment and its answer."""
    first, second = simulate(seed), simulate(seed)
    assert first.log
    assert first == second


def test_every_kind_of_fault() -> None:
    """The lives meet every fault that the simulator can make."""
    made = {name for name, value in vars(Fault).items() if isinstance(value, classmethod)}
    assert FAULTS.keys() == made
    assert not FAULTS.keys() & ODDITIES.keys()


# --- the harness finds what is broken ------------------------------------------------------------


def slots_are_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "release", lambda _: None)


def posts_are_torn(patch: pytest.MonkeyPatch) -> None:
    bare = SimpleNamespace(**vars(asyncio) | {"shield": lambda awaited: awaited})
    patch.setattr("apixo_async._submit.requests.asyncio", bare)


def permits_are_stamped_at_sending(patch: pytest.MonkeyPatch) -> None:
    take, report = SlidingWindow.take, SlidingWindow.report

    def noted(log: SlidingWindow, now: float) -> None:
        vars(log).setdefault("sent", deque()).append(now)
        take(log, now)

    def stamped(log: SlidingWindow, outcome: PermitOutcome, now: float) -> None:
        is_answered = outcome is PermitOutcome.ANSWERED
        report(log, outcome, vars(log)["sent"].popleft() if is_answered else now)

    patch.setattr(SlidingWindow, "take", noted)
    patch.setattr(SlidingWindow, "report", stamped)


def uncertain_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    def judged(answer: Answer, model: str) -> SubmitVerdict:
        verdict = judge_submit(answer, model)
        if isinstance(verdict, Uncertain):
            return Refused(APIConnectionError(verdict.reason), "unavailable")
        return verdict

    patch.setattr("apixo_async._submit.requests.judge_submit", judged)


def orphans_are_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SubmitRequests, "_orphaned", lambda *_: None)


def waiters_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Signal, "fire", lambda _: None)


def missing_once_is_gone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("apixo_async._polling.outages.is_gone", lambda *_, **__: True)


def tokens_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WebhookReceiver, "_intent", lambda *_: None)


def any_token_holds(patch: pytest.MonkeyPatch) -> None:
    lax = SimpleNamespace(**vars(hmac) | {"compare_digest": lambda *_: True})
    patch.setattr("apixo_async.webhooks._tokens.hmac", lax)


def urls_are_dropped(patch: pytest.MonkeyPatch) -> None:
    for name in ("_urls", "files_of"):
        patch.setattr(f"apixo_async._http.wire.{name}", lambda _: ())


def tasks_are_not_journalled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PurchaseRecord, "bought", lambda *_: None)


def doubts_are_bought_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("apixo_async._map.options.Options.resubmits", lambda *_: True)


def maps_go_on_after_their_stop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Buyer, "stop", lambda *_, **__: None)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (slots_are_kept, ("left behind: slots", "never ended", "TimeoutError")),
        (posts_are_torn, ("not cancelled at once",)),
        (permits_are_stamped_at_sending, ("requests in a window", "429 within")),
        (uncertain_is_sent_again, ("bought twice", "lost")),
        (orphans_are_dropped, ("lost",)),
        (waiters_are_forgotten, ("never ended",)),
        (missing_once_is_gone, ("not found too soon",)),
        (tokens_are_forgotten, ("was answered 404",)),
        (any_token_holds, ("a forged callback",)),
        (urls_are_dropped, ("reported, not",)),
        (tasks_are_not_journalled, ("where this cannot happen",)),
        pytest.param(doubts_are_bought_again, ("bought too often",), marks=pytest.mark.long),
        pytest.param(maps_go_on_after_their_stop, ("after the stop",), marks=pytest.mark.long),
    ],
)
def test_broken_rule_is_found(
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
    words: tuple[str, ...],
) -> None:
    """A client with one rule broken is found out within 100 seeds, and told how to replay it."""
    broken(monkeypatch)
    reports = (simulate(seed) for seed in range(100))
    found = (r for r in reports if any(word in str(r.problems) for word in words))
    report = next(found, None)
    assert report is not None
    assert f"python -m tests.support.simulation.life {report.seed}" in str(report)
