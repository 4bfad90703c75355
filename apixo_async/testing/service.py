"""The rules of the service: who may ask, how often, what for, and what each call answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from apixo_async.testing.accounts import Account
from apixo_async.testing.callbacks import CallbackLog
from apixo_async.testing.faults import Fault
from apixo_async.testing.lifecycles import SimulatedTask
from apixo_async.testing.replies import (
    MEANINGS,
    Call,
    Kind,
    Refusal,
    Reply,
    Route,
    status_object,
    success,
)
from apixo_async.testing.results import Results
from apixo_async.testing.submissions import parse_submission
from apixo_async.testing.tasks import Tasks

NoCredit = Literal["402", "400"]

_NO_CREDIT: Mapping[str, Refusal] = {
    "402": Refusal(402, MEANINGS[402]),
    "400": Refusal(400, "Insufficient credits"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A call on its arrival, with all that its answer depends on."""

    call: Call
    route: Route
    account: Account
    fault: Fault
    now: float
    epoch: float


class Service:
    """Answer requests, one after the other; see `Simulator` for the options."""

    def __init__(
        self,
        tasks: Tasks,
        results: Results,
        callbacks: CallbackLog,
        *,
        no_credit: NoCredit,
        concurrent_tasks: int,
        requests_per_minute: int,
        retry_after: float | None,
        models: Collection[str] | None,
    ) -> None:
        self.tasks = tasks
        self.results = results
        self.concurrent_tasks = concurrent_tasks
        self.requests_per_minute = requests_per_minute
        self._callbacks = callbacks
        self._models = models
        self._no_credit = _NO_CREDIT[no_credit]
        retry = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        self._too_many_requests = Refusal(429, MEANINGS[429], retry)
        self._too_many_tasks = Refusal(429, "Concurrent task limit reached", retry)
        self._calls: Mapping[Kind, Callable[[Request], tuple[object, str | None]]] = {
            "submit": self._submit,
            "poll": self._poll,
            "balance": self._balance,
        }

    def answer(
        self,
        call: Call,
        route: Route,
        account: Account | None,
        fault: Fault,
        now: float,
        epoch: float,
    ) -> tuple[Reply, str | None]:
        """Carry a call out; return its answer and the id of the task that it is about."""
        try:
            if route.problem is not None:
                raise Refusal(route.problem, MEANINGS[route.problem])
            if route.kind == "download":
                return self.download(call, route, now), route.task_id
            if account is None:
                raise Refusal(401, MEANINGS[401])
            if account.requests(now) >= self.requests_per_minute:
                raise self._too_many_requests
            self._check_model(route.model)
            request = Request(call, route, account, fault, now, epoch)
            data, task_id = self._calls[route.kind](request)
        except Refusal as refusal:
            return refusal.reply(), route.task_id
        return success(data), task_id

    def _check_model(self, model: str | None) -> None:
        if model is not None and self._models is not None and model not in self._models:
            raise Refusal(404, "Model not found")

    def _submit(self, request: Request) -> tuple[object, str]:
        task = self._bought(request)
        return {"taskId": task.id}, task.id

    def _bought(self, request: Request) -> SimulatedTask:
        account, fault, now = request.account, request.fault, request.now
        submission = parse_submission(request.route.model or "", request.call)
        if account.balance < submission.price:
            raise self._no_credit
        if account.tasks(now) >= self.concurrent_tasks:
            raise self._too_many_tasks
        in_callback_mode = submission.request_type == "callback"
        callback = self._callbacks.of_next_task() if in_callback_mode else None
        lasts = 0.0 if fault.lasts is None and callback and callback.early else fault.lasts
        task = self.tasks.make(
            submission, account.name, now, lasts=lasts, fails=fault.fails, callback=callback
        )
        account.buy(task.price, task.ends, now)
        return task

    def _poll(self, request: Request) -> tuple[object, str | None]:
        wanted = request.route.task_id
        if not wanted:
            raise Refusal(400, "taskId is required")
        task = self.tasks.find(wanted, request.route.model, request.now)
        if task is None:
            raise Refusal(404, "Task not found")
        base = request.call.result_base
        return status_object(task, request.now, request.epoch, base), wanted

    def _balance(self, request: Request) -> tuple[object, None]:
        return float(request.account.balance), None

    def download(self, call: Call, route: Route, now: float) -> Reply:
        """Answer a request for a result file; nobody needs a key for that."""
        task = self.tasks.of_result(route.task_id, now)
        return self.results.reply(task, route.index or 0, call, now)
