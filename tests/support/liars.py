"""Services that lie: each contradicts one statement of the contract, and is honest otherwise.

Chosen from the statements' words alone, without a look at the checks.
"""

# ruff: noqa: ARG002  # a hook has what any lie may need
from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import formatdate
from typing import Any, ClassVar, cast

import httpx2

from apixo_async.testing import Fault, SimulatedTask, Simulator
from apixo_async.testing.accounts import Account, Accounts
from apixo_async.testing.exchanges import (
    Call,
    Refusal,
    Reply,
    Route,
    ServedRequest,
    as_json,
    route,
    success,
)
from apixo_async.testing.simulator import ASGIApp
from apixo_async.testing.submissions import parse_submission
from apixo_async.testing.tasks import Tasks

#: What the account of a liar has; its plan says the same.
CONCURRENT_TASKS = 3
REQUESTS_PER_MINUTE = 60

LIARS: list[type[Liar]] = []


class Liar(Simulator):
    """A service with a hook for each place at which a lie can stand.

    Attributes:
        contradicts: The number of the one statement that it contradicts.
        account: What keeps its balance and its limits.
    """

    contradicts: ClassVar[int]
    account: ClassVar[type[Account]] = Account

    def __init_subclass__(cls) -> None:
        """Enter the lie in the list."""
        LIARS.append(cls)

    def __init__(self, **options: Any) -> None:
        limits: dict[str, Any] = {
            "concurrent_tasks": CONCURRENT_TASKS,
            "requests_per_minute": REQUESTS_PER_MINUTE,
        }
        super().__init__(seed=3, epoch=1.7e9, **limits | options)
        self.accounts = _Accounts(self.account, self.options.key, self.options.balance)
        self.later: set[asyncio.Task[httpx2.Response]] = set()

    def hears(self, body: dict[str, Any]) -> None:
        """Change what a submit asks for, in place, before it is checked."""

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        """Return the answer to a request instead of ``reply``."""
        return reply

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        """Change a status, of polls and callbacks alike, in place."""

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        """Post a callback, and return what its receiver is taken to have answered."""
        return await receiver.handle_async_request(request)

    # Where the hooks hang.

    def arrive(self, call: Call, fault: Fault, now: float | None = None) -> ServedRequest:
        """Answer as `says` has it."""
        served = super().arrive(call, fault, now)
        return replace(served, reply=self.says(call, route(call), served.reply))

    def deliver_to(self, receiver: httpx2.AsyncBaseTransport | ASGIApp | None) -> None:
        """Post callbacks as `posts` has it."""
        super().deliver_to(receiver)
        if self.deliveries.transport is not None:
            self.deliveries.transport = _Postman(self, self.deliveries.transport)

    def _submit(
        self, call: Call, model: str, account: Account, fault: Fault, now: float
    ) -> SimulatedTask:
        try:
            body = json.loads(call.body)
        except ValueError:
            body = None
        if isinstance(body, dict):
            self.hears(cast("dict[str, Any]", body))
            call = replace(call, body=json.dumps(body).encode())
        return super()._submit(call, model, account, fault, now)

    def _status_of(self, task: SimulatedTask, now: float, call: Call) -> dict[str, object]:
        status = super()._status_of(task, now, call)
        self.tells(status, task, now)
        return status

    def post_later(
        self, seconds: float, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> None:
        """Post a callback once more, whatever is answered."""

        async def post() -> httpx2.Response:
            await asyncio.sleep(seconds)
            return await receiver.handle_async_request(_with_body(request, request.content))

        self.later.add(asyncio.create_task(post()))

    def always(self, fault: Fault) -> None:
        """Have ``fault`` with every submit."""
        self.faults.during(-math.inf, math.inf, fault, "submit")


class _Accounts(Accounts):
    def __init__(self, account: type[Account], key: str, balance: Decimal) -> None:
        self._by_key = {key: account("liar", balance)}


class _Postman(httpx2.AsyncBaseTransport):
    def __init__(self, liar: Liar, receiver: httpx2.AsyncBaseTransport) -> None:
        self._liar = liar
        self._receiver = receiver

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._liar.posts(self._receiver, request)


def _with_body(request: httpx2.Request, content: bytes) -> httpx2.Request:
    headers = {name: request.headers[name] for name in ("content-type", "user-agent")}
    return httpx2.Request("POST", request.url, headers=headers, content=content)


def _changed(reply: Reply, **changes: object) -> Reply:
    envelope = json.loads(reply.body) | changes
    return as_json(envelope, status=reply.status, headers=reply.headers)


def _has_key(call: Call) -> bool:
    return "authorization" in call.headers


# The balance, envelopes and headers.


class BalanceAsText(Liar):
    """The balance is a text that holds a number, as JSON writers give decimals."""

    contradicts = 1

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "balance" and reply.status == 200:
            return _changed(reply, data=str(json.loads(reply.body)["data"]))
        return reply


class SubmitsHaveTheirOwnMessage(Liar):
    """A submit that went well has the message "Task created successfully"."""

    contradicts = 2

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "submit" and reply.status == 200:
            return _changed(reply, message="Task created successfully")
        return reply


class NotFoundAsPlainText(Liar):
    """A 404 has its JSON as text/plain."""

    contradicts = 3

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind != "download" and reply.status == 404:
            headers = reply.headers | {"content-type": "text/plain; charset=utf-8"}
            return replace(reply, headers=headers)
        return reply


class BusinessCodes(Liar):
    """A 400 has the code 40001 in its envelope."""

    contradicts = 11

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        return _changed(reply, code=40001) if reply.status == 400 else reply


class GatewayCodes(Liar):
    """A 429 has the code of the gateway that counts, 42900, in its envelope."""

    contradicts = 11

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        return _changed(reply, code=42900) if reply.status == 429 else reply


class ErrorsListProblems(Liar):
    """The data of a 400 is a list of what is wrong."""

    contradicts = 12

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if reply.status == 400:
            return _changed(reply, data=[json.loads(reply.body)["message"]])
        return reply


class RateLimitHeader(Liar):
    """An answer to a submit has the header of the IETF's draft, with what is left of a minute."""

    contradicts = 13

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        account = self.accounts.of(call.headers.get("authorization"))
        if account is None or found.kind != "submit":
            return reply
        left = max(0, REQUESTS_PER_MINUTE - account.requests(self.now()))
        return replace(reply, headers=reply.headers | {"ratelimit": f'"minute";r={left};t=60'})


class FreePlacesHeader(Liar):
    """An answer to a submit tells how many tasks more may run."""

    contradicts = 13

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        account = self.accounts.of(call.headers.get("authorization"))
        if account is None or found.kind != "submit":
            return reply
        left = str(CONCURRENT_TASKS - account.tasks(self.now()))
        return replace(reply, headers=reply.headers | {"x-concurrency-available": left})


# Keys.


class NoKeyIsForbidden(Liar):
    """A request without a key is answered 403, as by an API gateway."""

    contradicts = 4

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if reply.status == 401 and not _has_key(call):
            return Refusal(403, "Missing Authentication Token").reply()
        return reply


class WrongKeyHasNoBalance(Liar):
    """The balance of a key that does not exist is answered 403."""

    contradicts = 5

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "balance" and reply.status == 401 and _has_key(call):
            return Refusal(403).reply()
        return reply


class TaskIdsAreKeys(Liar):
    """A poll is answered with any key: who has the taskId may see the task."""

    contradicts = 6

    def _answer(
        self, call: Call, found: Route, account: Account | None, fault: Fault, now: float
    ) -> tuple[Reply, SimulatedTask | None]:
        if found.kind == "poll" and _has_key(call):
            account = account or next(iter(self.accounts))
        return super()._answer(call, found, account, fault, now)


class ChecksBeforeKeys(Liar):
    """A submit's body is checked before its key, so that a wrong one is answered 400."""

    contradicts = 7

    def _answer(
        self, call: Call, found: Route, account: Account | None, fault: Fault, now: float
    ) -> tuple[Reply, SimulatedTask | None]:
        if found.kind == "submit" and account is None and _has_key(call):
            try:
                parse_submission(found.model or "", call)
            except Refusal as refusal:
                return refusal.reply(), None
        return super()._answer(call, found, account, fault, now)


class WrongKeyHasNoCredit(Liar):
    """A submit with a wrong key is answered 402: what is not known has no balance."""

    contradicts = 7

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "submit" and reply.status == 401 and _has_key(call):
            return Refusal(402).reply()
        return reply


# Requests that are refused.


class UnknownTaskIsNull(Liar):
    """A poll of a task that does not exist is answered 200, with null as data."""

    contradicts = 8

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        is_unknown = found.task_id is not None and found.task_id not in self.tasks
        if found.kind == "poll" and reply.status == 404 and is_unknown:
            return success(None)
        return reply


class NoTaskIdIsUnprocessable(Liar):
    """A poll without a taskId is answered 422, as frameworks do."""

    contradicts = 9

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "poll" and reply.status == 400 and not found.task_id:
            return Refusal(422, "taskId: Field required").reply()
        return reply


class UnknownModelIsForbidden(Liar):
    """A submit of a model that does not exist is answered 403, like one that a key may not use."""

    contradicts = 10

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "submit" and reply.status == 404:
            return Refusal(403).reply()
        return reply


class UnknownModelIsTaken(Liar):
    """A submit of a model that does not exist makes a task, and costs."""

    contradicts = 10

    def _exists(self, model: str) -> bool:
        return True


class CallbackModeWithoutUrl(Liar):
    """Callback mode without a callback_url is taken as async."""

    contradicts = 14

    def hears(self, body: dict[str, Any]) -> None:
        if body.get("request_type") == "callback" and not body.get("callback_url"):
            body["request_type"] = "async"


class AnyRequestType(Liar):
    """A request_type that does not exist is taken as async."""

    contradicts = 15

    def hears(self, body: dict[str, Any]) -> None:
        if body.get("request_type") not in (None, "async", "callback"):
            body["request_type"] = "async"


class NoInputIsServerError(Liar):
    """A submit without input is answered 500, by an exception that no code caught."""

    contradicts = 16

    def hears(self, body: dict[str, Any]) -> None:
        if "input" not in body:
            raise Refusal(500)


class AnyResolution(Liar):
    """A resolution that does not exist is made at 1k."""

    contradicts = 17

    def hears(self, body: dict[str, Any]) -> None:
        if body.get("input", {}).get("resolution") not in (None, "1k", "2k", "4k"):
            body["input"]["resolution"] = "1k"


class CapitalResolution(Liar):
    """A resolution is taken in capitals too, such as 1K."""

    contradicts = 17

    def hears(self, body: dict[str, Any]) -> None:
        resolution = body.get("input", {}).get("resolution")
        if isinstance(resolution, str):
            body["input"]["resolution"] = resolution.lower()


class AnyRatio(Liar):
    """An aspect_ratio of two numbers, such as 21:9, is taken, listed or not."""

    contradicts = 18

    def hears(self, body: dict[str, Any]) -> None:
        ratio = body.get("input", {}).get("aspect_ratio")
        if isinstance(ratio, str) and all(part.isdecimal() for part in ratio.split(":")):
            body["input"]["aspect_ratio"] = "16:9"


class LongerPrompts(Liar):
    """A prompt may have 32,000 characters, as at the provider."""

    contradicts = 19

    def hears(self, body: dict[str, Any]) -> None:
        prompt = body.get("input", {}).get("prompt")
        if isinstance(prompt, str) and len(prompt) <= 32_000:
            body["input"]["prompt"] = prompt[:20_000]


class NoImageIsText(Liar):
    """Image-to-image without image_urls is made from the text alone."""

    contradicts = 20

    def hears(self, body: dict[str, Any]) -> None:
        fields = body.get("input", {})
        if fields.get("mode") == "image-to-image" and not fields.get("image_urls"):
            fields.pop("image_urls", None)
            fields["mode"] = "text-to-image"


# Tasks.


class SnakeCase(Liar):
    """A submit is answered with data.task_id."""

    contradicts = 21

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "submit" and reply.status == 200:
            return _changed(reply, data={"task_id": json.loads(reply.body)["data"]["taskId"]})
        return reply


class _HexTasks(Tasks):
    def create(self, *given: Any, **more: Any) -> SimulatedTask:
        plain = super().create(*given, **more)
        del self._created[plain.id]
        number = 0xA0000000 + int(plain.id.removeprefix("task_"))
        self._created[f"task_{number:08x}"] = task = replace(plain, id=f"task_{number:08x}")
        return task


class HexIds(Liar):
    """A taskId is task_ and eight hexadecimal digits."""

    contradicts = 22

    def __init__(self) -> None:
        super().__init__()
        self._tasks = _HexTasks(self.options)


class LateReplica(Liar):
    """A task is not found in the first half second, by a database that lags."""

    contradicts = 23

    def _status(self, call: Call, found: Route, now: float) -> dict[str, object]:
        task = self.tasks.get(found.task_id or "")
        if task is not None and now < task.created + 0.5:
            raise Refusal(404, "Task not found")
        return super()._status(call, found, now)


class IdOfTheQueue(Liar):
    """While a task runs, its status has the id that it has in the queue."""

    contradicts = 24

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if now < task.ends:
            status["taskId"] = "task_" + task.id.removeprefix("task_")[::-1]


class Uploading(Liar):
    """A task is uploading in the last tenth of its time."""

    contradicts = 25

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if 0.9 <= task.progress(now) < 1:
            status["state"] = "uploading"


class SignedAnew(Liar):
    """Each poll signs the URLs of results anew."""

    contradicts = 27

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "resultJson" in status:
            result = json.loads(status["resultJson"])
            signature = hashlib.sha256(f"{task.id} {now}".encode()).hexdigest()
            result["resultUrls"] = [f"{url}?signature={signature}" for url in result["resultUrls"]]
            status["resultJson"] = json.dumps(result)


class ForgottenAfterAnHour(Liar):
    """A task is not found an hour after its end."""

    contradicts = 27

    def _status(self, call: Call, found: Route, now: float) -> dict[str, object]:
        task = self.tasks.get(found.task_id or "")
        if task is not None and now >= task.ends + 3600:
            raise Refusal(404, "Task not found")
        return super()._status(call, found, now)


class ModelIsDown(Liar):
    """Every task fails with UPSTREAM_ERROR, or because of its image."""

    contradicts = 28

    def __init__(self) -> None:
        super().__init__()
        self.always(Fault.task_fails("UPSTREAM_ERROR", "Provider-side failure"))


class PythonInsteadOfJson(Liar):
    """The text of resultJson is the repr of a Python dict, in single quotes."""

    contradicts = 29

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "resultJson" in status:
            status["resultJson"] = repr(json.loads(status["resultJson"]))


class ThumbnailsToo(Liar):
    """The resultUrls have a thumbnail behind each image."""

    contradicts = 30

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "resultJson" in status:
            urls = json.loads(status["resultJson"])["resultUrls"]
            both = [each for url in urls for each in (url, f"{url}?width=64")]
            status["resultJson"] = json.dumps({"resultUrls": both})


class DataUrls(Liar):
    """The resultUrls are data: URLs, with the images in them."""

    contradicts = 30

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "resultJson" in status:
            urls = [
                f"data:image/{file_type};base64,"
                + base64.b64encode(self._results.content(task, index)).decode()
                for index, file_type in enumerate(task.file_types)
            ]
            status["resultJson"] = json.dumps({"resultUrls": urls})


# Times.


class IsoTimes(Liar):
    """The createTime and completeTime are texts such as 2026-01-31T12:00:00.123+00:00."""

    contradicts = 31

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        for name in ("createTime", "completeTime"):
            if name in status:
                moment = datetime.fromtimestamp(status[name] / 1000, UTC)
                status[name] = moment.isoformat(timespec="milliseconds")


class CreatedAtItsStart(Liar):
    """The createTime is when processing began, and missing before."""

    contradicts = 32

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        status["createTime"] += round((task.started - task.created) * 1000)
        if now < task.started:
            del status["createTime"]


class CompleteInWholeSeconds(Liar):
    """The completeTime is cut to whole seconds, and the createTime is not."""

    contradicts = 33

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "completeTime" in status:
            status["completeTime"] -= status["completeTime"] % 1000


class CostOfTheProvider(Liar):
    """The costTime is the provider's time alone, two fifths of the whole."""

    contradicts = 34

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "costTime" in status:
            status["costTime"] = round(0.4 * status["costTime"])


def _fast_each_second_time() -> Callable[[str, dict[str, object], random.Random], float]:
    turns = itertools.cycle((45.0, 22.0))
    return lambda _model, _input, _source: next(turns)


class FastEachSecondTime(Liar):
    """Every second image takes 22 s, made by the faster of two machines."""

    contradicts = 35

    def __init__(self) -> None:
        super().__init__(durations=_fast_each_second_time())


# Money.


class DearerNow(Liar):
    """An image costs $0.024, by a new list of prices."""

    contradicts = 36

    def _submit(
        self, call: Call, model: str, account: Account, fault: Fault, now: float
    ) -> SimulatedTask:
        task = super()._submit(call, model, account, fault, now)
        if task.kind == "gpt-image-2/1k":
            account.balance -= Decimal("0.004")
        return task


class ChargedAtTheEnd(Liar):
    """An image is charged at its end."""

    contradicts = 36

    def _balance(self, account: Account, now: float) -> Decimal:
        running = (task.price for task in self.tasks.values() if now < task.ends)
        return super()._balance(account, now) + sum(running)


class PaidBackLater(Liar):
    """The price of a failed task is paid back five minutes after its end."""

    contradicts = 44

    def _balance(self, account: Account, now: float) -> Decimal:
        failed = (task for task in self.tasks.values() if task.fail_code is not None)
        due = (task.price for task in failed if now >= task.ends + 300)
        return super()._balance(account, now) + sum(due)


class HalfPaidBack(Liar):
    """Half of the price of a failed task is paid back at its end."""

    contradicts = 44

    def _balance(self, account: Account, now: float) -> Decimal:
        failed = (task for task in self.tasks.values() if task.fail_code is not None)
        due = (task.price / 2 for task in failed if now >= task.ends)
        return super()._balance(account, now) + sum(due)


class OnCredit(Liar):
    """A submit beyond the balance is carried out, and the balance is below zero then."""

    contradicts = 58

    def __init__(self) -> None:
        super().__init__(balance=Decimal("0.05"))

    def _submit(
        self, call: Call, model: str, account: Account, fault: Fault, now: float
    ) -> SimulatedTask:
        account.balance += 100
        try:
            return super()._submit(call, model, account, fault, now)
        finally:
            account.balance -= 100


class ErrorsThatBuy(Liar):
    """Every third submit that makes a task is answered 504."""

    contradicts = 57

    def _submit(
        self, call: Call, model: str, account: Account, fault: Fault, now: float
    ) -> SimulatedTask:
        task = super()._submit(call, model, account, fault, now)
        if self.created % 3 == 0:
            raise Refusal(504)
        return task


# Models and files.


class OneFamily(Liar):
    """A task of one gpt-image model is found under the other's name."""

    contradicts = 37

    def _status(self, call: Call, found: Route, now: float) -> dict[str, object]:
        task = self.tasks.get(found.task_id or "")
        family = "gpt-image-"
        named = found.model or ""
        if task is not None and task.model.startswith(family) and named.startswith(family):
            found = replace(found, model=task.model)
        return super()._status(call, found, now)


class FilesNeedTheKey(Liar):
    """A file is answered 403 without the key."""

    contradicts = 38

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "download" and not _has_key(call):
            body = b"<Error><Code>AccessDenied</Code></Error>"
            return Reply(403, body, {"content-type": "application/xml"})
        return reply


class RangesPromised(Liar):
    """A file has accept-ranges, and is answered whole all the same."""

    contradicts = 39

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind == "download" and "range" in call.headers:
            headers = {name: value for name, value in call.headers.items() if name != "range"}
            return self.download(replace(call, headers=headers), self.now())
        return reply


class TwoWeeks(Liar):
    """Files live two weeks."""

    contradicts = 40

    def __init__(self) -> None:
        super().__init__(result_lifetime=14 * 24 * 3600.0)


# Failures.


class FailureWithoutMessage(Liar):
    """The failMsg of a failed task is null."""

    contradicts = 41

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "failMsg" in status:
            status["failMsg"] = None


class FailureIsNoSuccess(Liar):
    """The envelope of a failed task has the message "task failed"."""

    contradicts = 41

    def says(self, call: Call, found: Route, reply: Reply) -> Reply:
        if found.kind != "poll" or reply.status != 200:
            return reply
        has_failed = json.loads(reply.body)["data"]["state"] == "failed"
        return _changed(reply, message="task failed") if has_failed else reply

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        envelope = json.loads(request.content)
        if envelope["data"]["state"] == "failed":
            envelope["message"] = "task failed"
        request = _with_body(request, json.dumps(envelope).encode())
        return await receiver.handle_async_request(request)


class CodesOfTheOtherPage(Liar):
    """The failCode of a task of gpt-image-2 is spelled as on a page of gpt-image-1."""

    contradicts = 42

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if "failCode" in status:
            spelled = {"INVALID_IMAGE_URL": "ImageNotAccess", "TIMEOUT": "Timeout"}
            status["failCode"] = spelled.get(status["failCode"], "SensitiveContent")


class FailureIsNotComplete(Liar):
    """The completeTime of a failed task is null."""

    contradicts = 43

    def tells(self, status: dict[str, Any], task: SimulatedTask, now: float) -> None:
        if status["state"] == "failed":
            status["completeTime"] = None


# Callbacks.


class CallbackNamesItsModel(Liar):
    """The data of a callback has the model."""

    contradicts = 45

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        envelope = json.loads(request.content)
        envelope["data"]["model"] = self.tasks[envelope["data"]["taskId"]].model
        request = _with_body(request, json.dumps(envelope).encode())
        return await receiver.handle_async_request(request)


class CallbackWithoutResult(Liar):
    """A callback has no resultJson: it is the hint that a poll will have one."""

    contradicts = 45

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        envelope = json.loads(request.content)
        envelope["data"].pop("resultJson", None)
        request = _with_body(request, json.dumps(envelope).encode())
        return await receiver.handle_async_request(request)


class CallbackFromTheQueueAgain(Liar):
    """A callback that was answered 200 is posted again after 40 s, by a queue."""

    contradicts = 46

    def __init__(self) -> None:
        super().__init__()
        self._posted: set[bytes] = set()

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        is_first = request.content not in self._posted
        self._posted.add(request.content)
        response = await receiver.handle_async_request(request)
        if is_first and response.status_code == 200:
            self.post_later(40.0, receiver, request)
        return response


class AnsweredAfterTheCallback(Liar):
    """A submit in callback mode is answered once its callback was posted, 40 s later."""

    contradicts = 47

    def __init__(self) -> None:
        super().__init__(early_callbacks=1.0)
        self.always(Fault.task_lasts(40.0))


class CallbackWithHmac(Liar):
    """A callback has the HMAC of its body in a header."""

    contradicts = 48

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        digest = hmac.digest(b"secret", request.content, "sha256")
        request.headers["x-apixo-hmac-sha256"] = base64.b64encode(digest).decode()
        return await receiver.handle_async_request(request)


class OneMoreAfterAnHour(Liar):
    """A callback that all redeliveries failed with comes once more, an hour later."""

    contradicts = 49

    def __init__(self) -> None:
        super().__init__()
        self._posted: Counter[bytes] = Counter()

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        self._posted[request.content] += 1
        response = await receiver.handle_async_request(request)
        if self._posted[request.content] == 4 and response.status_code != 200:
            self.post_later(3600.0, receiver, request)
        return response


class AnySuccessWillDo(Liar):
    """A callback that is answered 201, 202 or 204 does not come again."""

    contradicts = 49

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        response = await receiver.handle_async_request(request)
        return httpx2.Response(200) if response.is_success else response


class TwoRedeliveries(Liar):
    """A callback that is not answered 200 comes again twice, and not after 10 min."""

    contradicts = 49

    def __init__(self) -> None:
        super().__init__()
        self._posted: Counter[bytes] = Counter()

    async def posts(
        self, receiver: httpx2.AsyncBaseTransport, request: httpx2.Request
    ) -> httpx2.Response:
        self._posted[request.content] += 1
        response = await receiver.handle_async_request(request)
        return httpx2.Response(200) if self._posted[request.content] == 3 else response


# Limits.


class FewerRequests(Liar):
    """The account has 50 requests in 60 s where its plan has 60."""

    contradicts = 50

    def __init__(self) -> None:
        super().__init__(requests_per_minute=50)


class _BurstAccount(Account):
    def requests_that_count(self, now: float) -> int:
        in_last_second = sum(arrival > now - 1 for arrival in self._arrivals)
        return REQUESTS_PER_MINUTE if in_last_second >= 20 else self.requests(now)


class NoBursts(Liar):
    """No more than 20 requests are answered in one second."""

    contradicts = 50
    account = _BurstAccount


class BalanceIsFree(Liar):
    """Polls count against the limit of requests, and requests for the balance do not."""

    contradicts = 51

    def _counts(self, found: Route, reply: Reply) -> bool:
        return found.kind != "balance" and super()._counts(found, reply)


class _ExpiringAccount(Account):
    begun = -math.inf

    def requests_that_count(self, now: float) -> int:
        self.requests(now)  # forgets what is older than 60 s
        if now >= self.begun + 60:
            return 0
        return sum(arrival >= self.begun for arrival in self._arrivals)

    def count_request(self, now: float) -> None:
        if now >= self.begun + 60:
            self.begun = now
        super().count_request(now)


class ExpiringCounter(Liar):
    """Requests are counted for 60 s from the first, and from 0 again then."""

    contradicts = 52
    account = _ExpiringAccount


class _BucketAccount(Account):
    tokens = float(REQUESTS_PER_MINUTE)
    filled = -math.inf

    def requests_that_count(self, now: float) -> int:
        earned = (now - self.filled) * REQUESTS_PER_MINUTE / 60
        self.tokens = min(float(REQUESTS_PER_MINUTE), self.tokens + earned)
        self.filled = now
        return REQUESTS_PER_MINUTE - math.floor(self.tokens)

    def count_request(self, now: float) -> None:
        self.tokens -= 1
        super().count_request(now)


class TokenBucket(Liar):
    """Requests take from a bucket of 60, which gets one more each second."""

    contradicts = 52
    account = _BucketAccount


class RefusedTasksCount(Liar):
    """A submit that is answered 429 for the tasks that run counts against the requests."""

    contradicts = 53

    def _submit(
        self, call: Call, model: str, account: Account, fault: Fault, now: float
    ) -> SimulatedTask:
        try:
            return super()._submit(call, model, account, fault, now)
        except Refusal as refusal:
            if refusal.code == 429:
                account.count_request(now)
            raise


class RetryAfterForTasks(Liar):
    """A 429 for the tasks that run has a Retry-After, and one for the requests has none."""

    contradicts = 54

    def _throttle(self, message: str | None = None) -> Refusal:
        if message is None:
            return super()._throttle()
        date = formatdate(self.wall_clock() + 30, usegmt=True)
        return Refusal(429, message, {"retry-after": date})


class MoreTasks(Liar):
    """Ten tasks run at once where the plan has three."""

    contradicts = 55

    def __init__(self) -> None:
        super().__init__(concurrent_tasks=10)


class CrowdIsUnavailable(Liar):
    """A submit beyond the tasks that may run is answered 503."""

    contradicts = 55

    def _throttle(self, message: str | None = None) -> Refusal:
        return super()._throttle() if message is None else Refusal(503, message)


class _SweptAccount(Account):
    def buy(self, price: Decimal, ends: float, now: float, refund: Decimal = Decimal(0)) -> None:
        super().buy(price, ends + 10, now, refund)


class SweptPlaces(Liar):
    """The place of a task is free 10 s after its end."""

    contradicts = 56
    account = _SweptAccount
