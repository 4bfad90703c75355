"""The APIXO service as one object: requests arrive, and their answers are logged and counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, get_args

from apixo_async._catalog import CONCURRENT_TASKS, REQUESTS_PER_MINUTE, RESULT_LIFETIME
from apixo_async.testing.accounts import WINDOW, Accounts, LimitHistory
from apixo_async.testing.callbacks import CallbackCounts, CallbackLog, check_parts
from apixo_async.testing.deliveries import Deliveries
from apixo_async.testing.faults import API, Fault, Script
from apixo_async.testing.lifecycles import DurationOf, SimulatedTask
from apixo_async.testing.log import Exchange, Log, exchange, most_in_window
from apixo_async.testing.replies import (
    Call,
    Kind,
    Reply,
    as_json,
    known_models,
    route,
    status_object,
    success,
)
from apixo_async.testing.results import Results
from apixo_async.testing.service import NoCredit, Service
from apixo_async.testing.tasks import Tasks

KEY = "test-key"


@dataclass(frozen=True, slots=True)
class ServedTurn:
    """A request that arrived.

    Attributes:
        number: Its number in the log.
        reply: Its answer, where there is one.
        after: Set once the answer may leave; None where nothing comes before it.
    """

    number: int
    reply: Reply
    after: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class SimulatorStatistics:
    """What a simulator has seen since its beginning, whatever of it the log still keeps.

    Attributes:
        requests: How many requests of each kind arrived.
        refused: How many of them were answered 429.
        created: How many tasks were created.
        charged: What they cost, in USD.
        most_requests: The most counted requests of one key in any 60 s.
        most_tasks: The most tasks of one key at once.
        turns_left: Scripted turns that no request, or no task's callbacks, have taken yet.
        callbacks: What became of the callbacks.
    """

    requests: Mapping[Kind, int]
    refused: int
    created: int
    charged: Decimal
    most_requests: int
    most_tasks: int
    turns_left: int
    callbacks: CallbackCounts


class SimulatedApi:
    """Answer as the APIXO service does, with every request logged and every fault scripted.

    `Simulator` adds the ways to it, and says what the options mean.

    Raises:
        ValueError: An option is out of its bounds.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        speed: float = 1.0,
        key: str = KEY,
        balance: Decimal = Decimal(1000),
        keys: Mapping[str, Decimal] | None = None,
        no_credit: NoCredit = "402",
        models: Collection[str] | None = None,
        concurrent_tasks: int = CONCURRENT_TASKS,
        requests_per_minute: int = REQUESTS_PER_MINUTE,
        retry_after: float | None = None,
        durations: DurationOf | None = None,
        failure_rate: float = 0.0,
        lost_callbacks: float = 0.0,
        early_callbacks: float = 0.0,
        duplicate_callbacks: float = 0.0,
        processing_callbacks: float = 0.0,
        callback_delay: float = 0.0,
        callback_spread: float = 0.0,
        result_lifetime: float = RESULT_LIFETIME,
        expired_status: Literal[404, 410] = 404,
        longest_side: int = 256,
        keep_log: int | None = None,
        clock: Callable[[], float] | None = None,
        epoch: float | None = None,
    ) -> None:
        _check(speed > 0, "speed", speed, "above 0")
        parts = {
            "lost_callbacks": lost_callbacks,
            "early_callbacks": early_callbacks,
            "duplicate_callbacks": duplicate_callbacks,
        }
        others = {"failure_rate": failure_rate, "processing_callbacks": processing_callbacks}
        for name, part in {**parts, **others}.items():
            _check(0 <= part <= 1, name, part, "0 to 1")
        check_parts(parts)
        _check(callback_delay >= 0, "callback_delay", callback_delay, "0 or more")
        _check(callback_spread >= 0, "callback_spread", callback_spread, "0 or more")
        _check(concurrent_tasks >= 1, "concurrent_tasks", concurrent_tasks, "1 or more")
        _check(requests_per_minute >= 1, "requests_per_minute", requests_per_minute, "1 or more")
        self.seed = seed
        #: The script of faults.
        self.faults = Script()
        #: The script of callbacks, and their log.
        self.callbacks = CallbackLog(
            seed,
            lost=lost_callbacks,
            early=early_callbacks,
            duplicate=duplicate_callbacks,
            processing=processing_callbacks,
            delay=callback_delay,
            spread=callback_spread,
            keep_log=keep_log,
        )
        self.deliveries = Deliveries(self.callbacks, speed, self.now)
        self.service = Service(
            Tasks(seed, speed, durations, failure_rate),
            Results(longest_side, result_lifetime, expired_status),
            self.callbacks,
            no_credit=no_credit,
            concurrent_tasks=concurrent_tasks,
            requests_per_minute=requests_per_minute,
            retry_after=retry_after,
            models=None if models is None else known_models(models),
        )
        self.accounts = Accounts({key: balance} if keys is None else keys)
        self.history = LimitHistory()
        self._log = Log(keep_log)
        self._clock = clock or _running_clock
        self._epoch = epoch

    def now(self) -> float:
        """Return the time of the service's clock, in seconds."""
        return self._clock()

    def wall_clock(self) -> float:
        """Return the service's time in seconds since the Unix epoch, as its stamps have it."""
        now = self.now()
        return self._zero(now) + now

    # One exchange, in the order of its life.

    def begin(self, call: Call, now: float | None = None) -> Fault:
        """Take the scripted turn of a request, before anything of it is sent."""
        now = self.now() if now is None else now
        found = route(call)
        fault = self.faults.take(found.kind, found.task_id, now)
        if fault.end in ("refuse", "unreachable"):
            record = exchange(call, found.kind, now, fault.name)
            self._log.add(replace(record, model=found.model, arrived=False))
        return fault

    def arrive(self, call: Call, fault: Fault, now: float | None = None) -> ServedTurn:
        """Log a request that arrives now, and carry it out as far as its fault lets it."""
        now = self.now() if now is None else now
        found = route(call)
        account = self.accounts.of(call.headers.get("authorization"))
        own, task_id, after = None, found.task_id, None
        if fault.carried_out:
            own, task_id = self.service.answer(call, found, account, fault, now, self._zero(now))
            if found.kind == "submit" and task_id is not None:
                after = self._announce(self.tasks[task_id], call, now)
        reply = fault.reply or (_altered(own, fault) if own else _NOTHING)
        counted = found.kind in API and (own or reply).status != 429
        if account is not None and counted:
            account.count_request(now)
            self.history.note(account, now)
        answers = fault.end == "answer"
        record = replace(
            exchange(call, found.kind, now, fault.name),
            account=account.name if account else None,
            model=found.model,
            task_id=task_id,
            status=reply.status if answers else None,
            code=reply.code if answers else None,
            counted=counted and account is not None,
        )
        return ServedTurn(self._log.add(record), reply, after)

    def answered(self, turn: ServedTurn, now: float | None = None) -> None:
        """Log that the answer of a turn leaves now."""
        self._log.answered(turn.number, self.now() if now is None else now)

    # What came of it, for assertions.

    @property
    def log(self) -> list[Exchange]:
        """The exchanges in the order of their arrival; the last ``keep_log`` of them."""
        return list(self._log)

    @property
    def tasks(self) -> Mapping[str, SimulatedTask]:
        """Every task that a submit created, by id and in the order of creation."""
        return self.service.tasks.made

    @property
    def created(self) -> int:
        """How many tasks were created."""
        return len(self.tasks)

    @property
    def charged(self) -> Decimal:
        """What all tasks cost, in USD."""
        return sum((task.price for task in self.tasks.values()), Decimal(0))

    @property
    def most_concurrent(self) -> int:
        """The most tasks of one key at once."""
        return max((account.most_tasks for account in self.accounts), default=0)

    def most_in_window(self, seconds: float = WINDOW) -> int:
        """Return the most counted requests of one key in any such window of the kept log."""
        return most_in_window(self._log, seconds)

    def count(self, kind: Kind | None = None) -> int:
        """Return how many requests arrived; connections never made are none."""
        return self._log.total(kind)

    def statistics(self) -> SimulatorStatistics:
        """Return the totals so far."""
        return SimulatorStatistics(
            requests={kind: self._log.total(kind) for kind in get_args(Kind)},
            refused=self._log.refused,
            created=self.created,
            charged=self.charged,
            most_requests=max((account.most_requests for account in self.accounts), default=0),
            most_tasks=self.most_concurrent,
            turns_left=self.faults.left + self.callbacks.left,
            callbacks=self.callbacks.counts,
        )

    def _announce(self, task: SimulatedTask, call: Call, now: float) -> asyncio.Event | None:
        def content(moment: float) -> bytes:
            return success(status_object(task, moment, self._zero(now), call.result_base)).body

        return self.deliveries.start(task, content, now)

    def _zero(self, now: float) -> float:
        if self._epoch is None:
            self._epoch = time.time() - now
        return self._epoch


_NOTHING = Reply(0, b"", {})


def _altered(reply: Reply, fault: Fault) -> Reply:
    if fault.alter is None or reply.code != 200:
        return reply
    envelope = json.loads(reply.body)
    fault.alter(envelope)
    return as_json(envelope, status=reply.status, headers=reply.headers)


def _running_clock() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def _check(allowed: bool, name: str, value: float, bounds: str) -> None:
    if not allowed:
        raise ValueError(f"{name}: {value} given; allowed is {bounds}")
