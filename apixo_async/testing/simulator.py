"""The APIXO service as one object: requests arrive, are carried out, logged and answered."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import httpx2

from apixo_async._catalog import CONCURRENT_TASKS, REQUESTS_PER_MINUTE, RESULT_LIFETIME, WINDOW
from apixo_async._polling.policy import Polling
from apixo_async.testing.accounts import Account, Accounts, LimitHistory
from apixo_async.testing.callbacks import CallbackCounts, CallbackLog
from apixo_async.testing.deliveries import Deliveries
from apixo_async.testing.exchanges import (
    Call,
    Exchange,
    Kind,
    Log,
    Refusal,
    Reply,
    Route,
    ServedRequest,
    as_json,
    exchange,
    most_in_window,
    route,
    success,
)
from apixo_async.testing.faults import API, Fault, Script
from apixo_async.testing.image_fetches import ImageFetches
from apixo_async.testing.mistakes import (
    no_such_call,
    no_such_key,
    no_such_model,
    no_such_task,
    no_task_id,
)
from apixo_async.testing.open_points import DEFAULTS, ERRORS_THAT_MAY_BUY, OpenPoints
from apixo_async.testing.options import KEY, DurationOf, NoCredit, SimulatorOptions
from apixo_async.testing.results import Results
from apixo_async.testing.submissions import NO_MODEL, parse_submission
from apixo_async.testing.tasks import SimulatedTask, Tasks, status_object
from apixo_async.testing.transport import Latency, SimulatorTransport

if TYPE_CHECKING:
    from starlette.applications import Starlette

_Message: TypeAlias = MutableMapping[str, Any]  # as ASGI has it: any value under any key
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_NO_ANSWER: Final = Reply(0, b"", {})

#: Tables of codes have 402 for it; samples of errors have 400 with this message.
_NO_CREDIT: Final[Mapping[NoCredit, tuple[int, str | None]]] = {
    "402": (402, None),
    "400": (400, "Insufficient credits"),
}


@dataclass(frozen=True, slots=True)
class SimulatorStatistics:
    """Totals since the simulator's beginning, of exchanges that the log no longer keeps too.

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


class Simulator:
    """Answer as the APIXO service does, with every request logged and every fault scripted.

    Use it in process through `transport`, or on a port through `serve`. Callbacks go where
    `deliver_to` says; served, to their URLs over real sockets. A failed task is not refunded: the
    documentation has nothing on refunds. Video and audio models make a second of it, music models
    a list ``tracks`` with covers, and no ``resultUrls``. A task fails with a reference image on a
    host in ``.invalid``, which cannot be fetched. The sample task of the documentation,
    ``task_12345678``, can be polled under each documented model; it is in no list and no count.

    Args:
        seed: Replays ids, durations, failures and latencies.
        speed: Divides the durations of tasks, the delays of callbacks and of their redelivery, and
            the 30 s in which receivers must answer, though not below 5 s.
        key: The one key, unless ``keys`` is given.
        balance: What ``key`` has, in USD.
        keys: Keys with their balances in USD. Any other key is answered 401.
        no_credit: The answer to a submit beyond the balance, which the documentation has in two
            forms: 402, or 400 with the message "Insufficient credits".
        models: The only models that exist; any other is answered 404. With None, all names exist
            but ``no-such-model``.
        concurrent_tasks: Tasks of one key at once; a submit beyond is answered 429.
        requests_per_minute: Requests of one key in any 60 s, counted at their arrival; one beyond
            is answered 429. Requests answered 429, requests with an unknown key and downloads do
            not count.
        retry_after: Seconds for the ``Retry-After`` header of these 429s; None sends none.
        durations: Seconds before ``speed``, or ``(model, input, random) -> seconds``. Unless given,
            durations spread around the documented typical time, within the documented range.
        failure_rate: The part of the tasks that fail, 0 to 1, with failCodes of their model.
        lost_callbacks: The part of the tasks in callback mode, 0 to 1, of which nothing is posted.
        early_callbacks: The part that is over at once, unless its duration is scripted, and whose
            submit is answered only after the first post.
        duplicate_callbacks: The part that is posted twice. No task is in two of these three parts.
        processing_callbacks: The part of all, 0 to 1, with another post of state ``processing``.
        callback_delay: Seconds, before ``speed``, from a task's start or end to the first post.
        callback_spread: Up to how many seconds more are drawn for each post, so that some overtake
            others.
        fetch_images: Whether a served simulator fetches what ``image_urls`` name, from hosts of
            this machine only: a task fails with ``INVALID_IMAGE_URL`` where that is no JPG, PNG or
            WebP of at most 10 MB.
        result_lifetime: Seconds from the end of a task until its files are gone.
        expired_status: The HTTP status of a file that is gone.
        longest_side: Pixels of the longer side of result images.
        keep_log: How many exchanges, and posts of callbacks, the logs keep; None keeps all.
        clock: The service's clock in seconds. Unless given, the running event loop's, and outside
            of a loop ``time.monotonic``.
        epoch: Unix time, in seconds, at the clock's zero. Unless given, the wall clock's.
        open_points: What no document settles.

    Attributes:
        options: These options.
        faults: The script of faults.
        callbacks: The script of callbacks, with their log and their counts.
        images: What is fetched.
        accounts: The keys' balances and use.

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
        fetch_images: bool = False,
        # 15 days, as the models' pages have it; another page has 24 hours.
        result_lifetime: float = RESULT_LIFETIME,
        expired_status: Literal[404, 410] = 404,
        longest_side: int = 256,
        keep_log: int | None = None,
        clock: Callable[[], float] | None = None,
        epoch: float | None = None,
        open_points: OpenPoints = DEFAULTS,
    ) -> None:
        self.options = SimulatorOptions(
            seed=seed,
            speed=speed,
            key=key,
            balance=balance,
            keys=keys,
            no_credit=no_credit,
            models=models,
            concurrent_tasks=concurrent_tasks,
            requests_per_minute=requests_per_minute,
            retry_after=retry_after,
            durations=durations,
            failure_rate=failure_rate,
            lost_callbacks=lost_callbacks,
            early_callbacks=early_callbacks,
            duplicate_callbacks=duplicate_callbacks,
            processing_callbacks=processing_callbacks,
            callback_delay=callback_delay,
            callback_spread=callback_spread,
            fetch_images=fetch_images,
            result_lifetime=result_lifetime,
            expired_status=expired_status,
            longest_side=longest_side,
            keep_log=keep_log,
            clock=clock,
            epoch=epoch,
            open_points=open_points,
        )
        self.faults = Script()
        self.callbacks = CallbackLog(self.options)
        self.deliveries = Deliveries(self.callbacks, self.options, self.now)
        balances = {key: balance} if keys is None else keys
        self.images = ImageFetches(self._image_failed)
        self.accounts = Accounts(balances, open_points.window)
        self.history = LimitHistory()
        self._tasks = Tasks(self.options)
        self._results = Results(self.options)
        self._log = Log(keep_log)
        self._epoch = epoch

    # The ways to it.

    def transport(self, latency: Latency = 0.05) -> SimulatorTransport:
        """Return a transport for `AsyncClient`: this service in process, on the loop's time.

        Args:
            latency: Seconds from request to answer, or a function that draws them.
        """
        return SimulatorTransport(self, latency)

    def app(self) -> Starlette:
        """Return the Starlette app around this service; `serve` puts it on a port."""
        from apixo_async.testing.server import make_app

        return make_app(self)

    def deliver_to(self, receiver: httpx2.AsyncBaseTransport | ASGIApp | None) -> None:
        """Post the callbacks of tasks that are submitted from now on to ``receiver``.

        Needs a running event loop at each submit: it counts the time until the posts, which end
        with it. A receiver that raises has not answered; the log of callbacks has what it raised.

        Args:
            receiver: An ASGI app, such as a FastAPI app with all its mounts; or a transport of
                httpx2, such as ``httpx2.MockTransport(answer)`` around a function. It gets every
                callback, whatever the host of its URL. None posts nothing in process, as at first.
        """
        if receiver is not None and not isinstance(receiver, httpx2.AsyncBaseTransport):
            receiver = httpx2.ASGITransport(receiver)
        self.deliveries.transport = receiver

    @property
    def polling(self) -> Polling:
        """When a client should poll it: at the documented times, divided by its speed.

        Give it to a client in process, `AsyncClient(transport=simulator.transport(),
        polling=simulator.polling)`. One that is served says its speed in its answers, which a
        client on the same machine heeds by itself.
        """
        return Polling(speed=self.options.speed)

    def now(self) -> float:
        """Return the time of the service's clock, in seconds."""
        if self.options.clock is not None:
            return self.options.clock()
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

    def wall_clock(self) -> float:
        """Return the service's time in seconds since the Unix epoch, as its stamps have it."""
        now = self.now()
        return self._zero(now) + now

    # One exchange, in the order of its life: begin, arrive, answered.

    def begin(self, call: Call, now: float | None = None) -> Fault:
        """Take the scripted turn of a request, before anything of it is sent."""
        now = self.now() if now is None else now
        found = route(call)
        fault = self.faults.take(found.kind, found.task_id, now)
        if fault.end in ("refuse", "unreachable"):
            self._log.add(replace(exchange(call, found, now, fault.name), arrived=False))
        return fault

    def arrive(self, call: Call, fault: Fault, now: float | None = None) -> ServedRequest:
        """Log a request that arrives now, and carry it out as far as its fault lets it."""
        now = self.now() if now is None else now
        self._zero(now)
        found = route(call)
        account = self.accounts.of(call.headers.get("authorization"))
        task_id, after = found.task_id, None
        own: Reply | None = None
        if fault.carried_out or self._buys(found, fault):
            own, created = self._answer(call, found, account, fault, now)
            if created is not None:
                task_id = created.id
                after = self._announce(created, call, now)
            if fault.alter is not None and fault.reply is None and own.code == 200:
                envelope = json.loads(own.body)
                fault.alter(envelope)
                own = as_json(envelope, status=own.status, headers=own.headers)
        reply = fault.reply or own or _NO_ANSWER
        counted = self._counts(found, own or reply)
        if account is not None and counted:
            account.count_request(now)
            self.history.note(account, now)
        if account is not None and own is not None and reply is own:
            reply = replace(own, headers=own.headers | self._limit_headers(account, now))
        answers = fault.end == "answer"
        record = replace(
            exchange(call, found, now, fault.name),
            account=account.name if account else None,
            task_id=task_id,
            status=reply.status if answers else None,
            code=reply.code if answers else None,
            counted=counted and account is not None,
        )
        return ServedRequest(self._log.add(record), reply, after)

    def answered(self, request: ServedRequest, now: float | None = None) -> None:
        """Log that the answer to a request leaves now."""
        self._log.answered(request.number, self.now() if now is None else now)

    def download(self, call: Call, now: float) -> Reply:
        """Answer a request for a result file, which needs no key; nothing is logged or counted."""
        found = route(call)
        task = self._tasks.of_result(found.task_id, now)
        return self._results.reply(task, found.index or 0, call, now)

    def _answer(
        self, call: Call, found: Route, account: Account | None, fault: Fault, now: float
    ) -> tuple[Reply, SimulatedTask | None]:
        """Carry a call out; return its answer and the task that it created."""
        try:
            if found.problem is not None:
                raise no_such_call(call, found)
            if found.kind == "download":
                return self.download(call, now), None
            if account is None:
                raise no_such_key(call)
            if account.requests_that_count(now) >= self.options.requests_per_minute:
                raise self._throttle()
            if found.model is not None and not self._exists(found.model):
                raise no_such_model(found.model, self.options.models)
            if found.kind == "balance":
                return success(float(self._balance(account, now))), None
            if found.kind == "poll":
                return success(self._status(call, found, now)), None
            task = self._submit(call, found.model or "", account, fault, now)
            return success({"taskId": task.id}), task
        except Refusal as refusal:
            return refusal.reply(self.options.open_points), None

    def _submit(
        self, call: Call, model: str, account: Account, fault: Fault, now: float
    ) -> SimulatedTask:
        submission = parse_submission(model, call)
        if account.balance < submission.price:
            raise Refusal(*_NO_CREDIT[self.options.no_credit])
        if account.tasks(now) >= self.options.concurrent_tasks:
            raise self._throttle("Concurrent task limit reached")
        in_callback_mode = submission.request_type == "callback"
        callback = self.callbacks.of_next_task() if in_callback_mode else None
        task = self._tasks.create(
            submission,
            account.name,
            now,
            lasts=0.0 if fault.lasts is None and callback and callback.early else fault.lasts,
            fails=fault.fails,
            callback=callback,
        )
        is_refunded = self.options.open_points.refunds and task.fail_code is not None
        refund = task.price if is_refunded else Decimal(0)
        lingers = self.options.open_points.places_linger / self.options.speed
        account.buy(task.price, task.ends + lingers, now, refund)
        if self.options.fetch_images:
            self.images.start(task, now)
        return task

    def _image_failed(self, task_id: str) -> None:
        self._tasks.fail(task_id, "INVALID_IMAGE_URL")
        task = self.tasks[task_id]
        for account in self.accounts:
            if self.options.open_points.refunds and account.name == task.account:
                account.balance += task.price

    def _status(self, call: Call, found: Route, now: float) -> dict[str, object]:
        if not found.task_id:
            raise no_task_id(call)
        model = found.model
        if self.options.open_points.any_model and found.task_id in self.tasks:
            model = self.tasks[found.task_id].model
        task = self._tasks.find(found.task_id, model, now)
        if task is None:
            other = self.tasks.get(found.task_id)
            raise no_such_task(found.task_id, found.model, other.model if other else None)
        if self.images.is_busy(task.id):
            now = min(now, math.nextafter(task.ends, -math.inf))
        return self._status_of(task, now, call)

    def _status_of(self, task: SimulatedTask, now: float, call: Call) -> dict[str, object]:
        points = self.options.open_points
        return status_object(task, now, self._zero(now), call.result_base, points)

    def _exists(self, model: str) -> bool:
        models = self.options.models
        return model != NO_MODEL and (models is None or model in models)

    def _balance(self, account: Account, now: float) -> Decimal:
        account.tasks(now)  # Those that have ended give back what they do.
        if not self.options.open_points.cents:
            return account.balance
        return account.balance.quantize(Decimal("0.01"), ROUND_HALF_UP)

    def _limit_headers(self, account: Account, now: float) -> dict[str, str]:
        if not self.options.open_points.limit_headers:
            return {}
        limit = self.options.requests_per_minute
        return {
            "x-request-id": f"req-{self._log.total()}",
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(max(0, limit - account.requests_that_count(now))),
        }

    def _buys(self, found: Route, fault: Fault) -> bool:
        """Return True for a submit which makes a task although it is answered with an error."""
        is_error = fault.reply is not None and fault.reply.status in ERRORS_THAT_MAY_BUY
        return found.kind == "submit" and is_error and self.options.open_points.errors_buy

    def _counts(self, found: Route, reply: Reply) -> bool:
        """Return True if a request counts against the limit."""
        points = self.options.open_points
        kinds = API if points.polls_count else ("submit",)
        return found.kind in kinds and (points.refused_count or not reply.is_throttling)

    def _throttle(self, message: str | None = None) -> Refusal:
        # The documentation names no header: Retry-After is sent only where it is asked for.
        seconds = self.options.retry_after
        return Refusal(429, message, {} if seconds is None else {"retry-after": f"{seconds:g}"})

    def _announce(self, task: SimulatedTask, call: Call, now: float) -> asyncio.Event | None:
        async def content(moment: float) -> bytes:
            await self.images.done(task.id)
            # It may have failed since.
            status = self._status_of(self.tasks[task.id], moment, call)
            bare = self.options.open_points.bare_callbacks
            return (as_json(status, status=200) if bare else success(status)).body

        return self.deliveries.start(task, content, now)

    def _zero(self, now: float) -> float:
        """Return the Unix time at the zero of the service's clock, fixed at the first request."""
        if self._epoch is None:
            self._epoch = time.time() - now
        return self._epoch

    # What came of it, for assertions.

    @property
    def log(self) -> list[Exchange]:
        """The exchanges in the order of their arrival; the last ``keep_log`` of them."""
        return list(self._log)

    @property
    def tasks(self) -> Mapping[str, SimulatedTask]:
        """Every task that a submit created, by id and in the order of creation."""
        return self._tasks.created

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
        """Return how many requests arrived; connections that were not made do not count."""
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
