"""Asking a service what the contract is about: what is free first, what costs money last."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import httpx2

from apixo_async._catalog import WINDOW, timing
from apixo_async._config import Secret
from apixo_async._http.wire import SPEED_HEADER, parse_speed
from apixo_async._text import dollars
from apixo_async._types import Limits, TaskRef
from apixo_async.inputs import GptImage2
from apixo_async.testing.callbacks import REDELIVERY
from apixo_async.testing.contract.evidence import (
    Evidence,
    Flood,
    ReceivedCallback,
    SeenAnswer,
    Unknown,
    result_urls,
)
from apixo_async.testing.contract.listener import Listener
from apixo_async.testing.open_points import ERRORS_THAT_MAY_BUY
from apixo_async.testing.submissions import NO_HOST, NO_MODEL

MODEL: Final = "gpt-image-2"
PRICE: Final = GptImage2.price_of_resolution["1k"]
PROMPT: Final = "a plain grey square"
_OTHER_MODEL: Final = "flux-kontext"
#: An image there cannot be fetched.
_UNREACHABLE: Final = f"https://images{NO_HOST}/none.png"

_TIMES: Final = timing(f"{MODEL}/1k")
_NO_TASK: Final = "task_that_does_not_exist"
_WRONG_KEY: Final = Secret("no-key-of-any-account")
_TEXT: Final = {"input": {"mode": "text-to-image"}}
#: Submits that the documents have answered 400, by what is wrong with each.
_WRONG: Final[Mapping[str, dict[str, Any]]] = {
    "callback without URL": {"request_type": "callback", "input": {"mode": "text-to-image"}},
    "request type": {"request_type": "later", "input": {"mode": "text-to-image"}},
    "no input": {"request_type": "async"},
    "resolution": {"input": {"mode": "text-to-image", "resolution": "8k"}},
    "aspect ratio": {"input": {"mode": "text-to-image", "aspect_ratio": "7:3"}},
    "long prompt": {"input": {"mode": "text-to-image", "prompt": "x" * 20_001}},
    "no images": {"input": {"mode": "image-to-image", "image_urls": []}},
}
WRONG: Final = tuple(_WRONG)

#: Seconds between two polls, before `speed`; and after which a task is given up.
_POLL_EVERY: Final = 5.0
_PATIENCE: Final = 300.0
#: Seconds in which another callback of a task that is over may follow, before `speed`.
_MORE_CALLBACKS: Final = 20.0
_STAGES: Final = (
    "old",
    "poor",
    "wrong",
    "task",
    "failing",
    "callback",
    "redelivery",
    "flood",
    "crowd",
)

_SECONDS_FOR_CALLBACK: Final = 30
#: Attempts to deliver a callback that are refused.
_MOST_ATTEMPTS: Final = 20
#: Requests in flight in a flood.
_AT_ONCE: Final = 50
_TIMEOUT: Final = 30.0
#: Bytes of an answer or a file that are read.
_LONGEST_BODY: Final = 32 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What may be asked.

    Attributes:
        max_cost: USD that may be spent.
        limits: Those of the account.
        floods: Whether to send more requests than a minute allows, which takes two minutes.
        crowds: Whether to submit one task more than are allowed at once.
        waits: Whether to wait for redeliveries of a callback, for 13 minutes.
        old_task: One whose result is older than a day.
    """

    max_cost: Decimal = Decimal(0)
    limits: Limits = field(default_factory=Limits)
    floods: bool = False
    crowds: bool = False
    waits: bool = False
    old_task: TaskRef | None = None


class Probe:
    """Ask one service.

    Args:
        client: Makes the requests, with any base URL.
        base_url: Where the API is, with `/api/v1`.
        key: The key.
        plan: What may be asked.
        listener: Receives callbacks; without one there is no task in callback mode.
        say: Takes a line on what comes next, and what it costs.
        clock: The time in seconds since the Unix epoch.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        base_url: str,
        key: Secret,
        plan: Plan,
        *,
        listener: Listener | None = None,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.evidence = Evidence(secrets={PROMPT})
        self.spent = Decimal(0)
        self._price = PRICE
        self._task_id = ""  # of the one task, for polls
        self._client = client
        self._base = base_url
        self._key = key
        self._plan = plan
        self._listener = listener
        self._say = say
        self._clock = clock
        self._counted: deque[float] = deque()  # when requests were sent that the limit may count

    async def run(self) -> Evidence:
        """Ask all that the plan allows; whatever cannot be asked is skipped with a reason."""
        skipped = self.evidence.skipped
        await self._free()
        balance = self.evidence.answers.get("balance")
        if balance is None or balance.error in (401, 403):
            skipped |= dict.fromkeys(_STAGES, "the key was refused, or the service is down")
            return self.evidence
        await self._old()
        await self._poor()
        for stage, tasks, run in (
            ("wrong", 1, self._wrong),
            ("task", 1, self._task),
            ("failing", 1, self._failing),
            ("callback", 1, self._callback),
            ("redelivery", 1, self._redelivery),
            ("flood", 0, self._flood),
            ("crowd", self._plan.limits.concurrent_tasks + 2, self._crowd),
        ):
            if reason := self._obstacle(stage, tasks * self._price):
                skipped[stage] = reason
            else:
                await run()
        # Now, since some callbacks come late.
        self.evidence.callbacks = self._received("callback")
        self.evidence.refused_callbacks = self._received("redelivery")
        return self.evidence

    def _obstacle(self, stage: str, cost: Decimal) -> str | None:
        """Return why a stage cannot be run, or None."""
        if stage in ("callback", "redelivery") and self._listener is None:
            return "no URL for callbacks was given"
        if stage == "redelivery" and not self._plan.waits:
            return "waits of 13 minutes were not asked for"
        if stage == "flood" and not self._plan.floods:
            return "floods were not asked for"
        if stage == "crowd" and not self._plan.crowds:
            return f"more tasks than are allowed at once, for {dollars(cost)}, were not asked for"
        if "poor" in self.evidence.answers and cost:
            return "the balance does not last for a task"
        if self.spent + cost > self._plan.max_cost and cost:
            left = self._plan.max_cost - self.spent
            return f"it may cost {dollars(cost)}, and {dollars(left)} may still be spent"
        return None

    # --- requests ------------------------------------------------------------------------

    def _has(self, name: str) -> bool:
        return name in self.evidence.answers

    async def _ask(
        self,
        name: str,
        method: str,
        path: str,
        *,
        key: Secret | None = None,
        is_keyless: bool = False,
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> SeenAnswer | None:
        """Make a request of the API, and keep its answer under a name; None without one."""
        headers = [] if is_keyless else [(key or self._key).authorization()]
        url = f"{self._base}/{path}"
        request = httpx2.Request(method, url, headers=headers, params=params, json=body)
        answer = await self._send(request)
        if answer is not None and name:
            self.evidence.answers[name] = answer
        return answer

    async def _send(self, request: httpx2.Request) -> SeenAnswer | None:
        began = self._clock()
        try:
            async with asyncio.timeout(_TIMEOUT):
                response = await self._client.send(request, stream=True)
                content = await _beginning(response)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError):
            return None
        headers = {name.lower(): value for name, value in response.headers.items()}
        if speed := parse_speed(headers.get(SPEED_HEADER.lower())):
            self.evidence.speed = speed
        content = self._key.hidden_in(content)
        return SeenAnswer(began, self._clock(), response.status_code, headers, content)

    async def _balance(self, name: str) -> SeenAnswer | None:
        return await self._ask(name, "GET", "apikeys/current-balance")

    async def _poll(self, name: str, task_id: str, model: str = MODEL) -> SeenAnswer | None:
        return await self._ask(name, "GET", f"statusTask/{model}", params={"taskId": task_id})

    async def _submit(self, name: str, body: Mapping[str, Any], model: str = MODEL) -> str | None:
        """Submit a task, and return its id; what it may have cost counts as spent."""
        fields = {"prompt": PROMPT, "resolution": "1k"} | body.get("input", {})
        sent = {"request_type": "async"} | dict(body) | {"input": fields}
        if "input" not in body:
            del sent["input"]
        answer = await self._ask(name, "POST", f"generateTask/{model}", body=sent)
        task_id = None if answer is None else answer.status_object.get("taskId")
        if isinstance(task_id, str) and re.fullmatch(r"[\x21-\x7e]{1,256}", task_id):
            self.evidence.secrets.add(task_id)
        else:
            task_id = None
        if answer is None or answer.error is None or answer.error in (503, *ERRORS_THAT_MAY_BUY):
            self.spent += self._price
        return task_id

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.evidence.speed)

    # --- stages --------------------------------------------------------------------------

    async def _free(self) -> None:
        self._say("free: the balance, wrong keys, a task that does not exist")
        await self._balance("balance")
        await self._ask("no key", "GET", "apikeys/current-balance", is_keyless=True)
        await self._ask("wrong key", "GET", "apikeys/current-balance", key=_WRONG_KEY)
        path, query = f"statusTask/{MODEL}", {"taskId": _NO_TASK}
        await self._ask("wrong key: poll", "GET", path, key=_WRONG_KEY, params=query)
        await self._poll("unknown task", _NO_TASK)
        await self._ask("no task id", "GET", path)
        body = {"request_type": "async", "input": {"mode": "text-to-image", "prompt": PROMPT}}
        path = f"generateTask/{MODEL}"
        await self._ask("wrong key: submit", "POST", path, key=_WRONG_KEY, body=body)

    async def _old(self) -> None:
        ref = self._plan.old_task
        if ref is None:
            self.evidence.skipped["old"] = "no task that is older than a day was given"
            return
        self.evidence.secrets.add(ref.task_id)
        await self._poll("old", ref.task_id, ref.model)
        if self._has("old"):
            await self._download("old: file", self.evidence["old"])

    async def _poor(self) -> None:
        """Submit a task that cannot be paid for."""
        self.evidence.skipped["poor"] = "the balance lasts for a task, or is no number"
        with suppress(Unknown):
            if self.evidence.money("balance") < PRICE:
                await self._submit("poor", _TEXT)

    async def _wrong(self) -> None:
        self._say(f"submits that are to be refused: free, or {dollars(PRICE)} if one is not")
        await self._submit("wrong: model", _TEXT, model=NO_MODEL)
        for name, body in _WRONG.items():
            if self._obstacle("wrong", self._price):
                break  # Some were taken after all.
            await self._submit(f"wrong: {name}", body)

    async def _task(self) -> None:
        self._say(f"one task of {MODEL}, for {dollars(PRICE)}")
        await self._balance("task: before")
        task_id = await self._submit("task: submit", _TEXT)
        await self._balance("task: after")
        with suppress(Unknown):  # It may cost more than the documents have.
            fell = self.evidence.money("task: before") - self.evidence.money("task: after")
            self.spent, self._price = self.spent + max(fell - PRICE, Decimal(0)), max(fell, PRICE)
        if task_id is None:
            return
        self._task_id = task_id
        await self._poll("task: other model", task_id, _OTHER_MODEL)
        await self._until_over("task: end", task_id, self.evidence.polls)
        await self._poll("task: again", task_id)
        if self._has("task: end"):
            await self._download("task: file", self.evidence["task: end"])

    async def _failing(self) -> None:
        self._say(f"one task that fails, as its image cannot be fetched, for {dollars(PRICE)}")
        await self._balance("failing: before")
        fields = {"mode": "image-to-image", "image_urls": [_UNREACHABLE]}
        task_id = await self._submit("failing: submit", {"input": fields})
        await self._balance("failing: charged")
        if task_id is not None:
            await self._until_over("failing: end", task_id)
        await self._balance("failing: after")

    async def _callback(self) -> None:
        listener = self._listener
        assert listener is not None  # Else there was an obstacle.
        self._say(f"one task in callback mode, for {dollars(PRICE)}")
        self.evidence.secrets.add(listener.url)
        await self._call_back("callback", listener)

    async def _redelivery(self) -> None:
        listener = self._listener
        assert listener is not None
        minutes = sum(REDELIVERY) / 60
        self._say(
            f"one task whose callback is refused, for {dollars(PRICE)}, and {minutes:.0f} minutes "
            "for its redeliveries"
        )
        listener.answers.extend([500, 204] * _MOST_ATTEMPTS)  # Only 200 is to end them.
        await self._call_back("redelivery", listener, sum(REDELIVERY))
        listener.answers.clear()

    async def _call_back(self, stage: str, listener: Listener, more: float = 0.0) -> None:
        """Have a task in callback mode, and wait for its callbacks until it is over, and longer."""
        body = {"request_type": "callback", "callback_url": listener.url}
        task_id = await self._submit(f"{stage}: submit", body | _TEXT)
        if task_id is None:
            return
        await self._until_over(f"{stage}: end", task_id)
        for _ in range(_SECONDS_FOR_CALLBACK):  # A machine may be busy, however fast its simulator.
            if self._received(stage):
                await self._pause(more)
                break
            await asyncio.sleep(1)
        await asyncio.sleep(max(1.0, _MORE_CALLBACKS / self.evidence.speed))

    def _received(self, stage: str) -> list[ReceivedCallback]:
        """Return the callbacks that name the task of a stage."""
        submit = self.evidence.answers.get(f"{stage}: submit")
        task_id = "" if submit is None else str(submit.status_object.get("taskId") or "")
        if self._listener is None or not task_id:
            return []
        wanted = task_id.encode("utf-8", "surrogatepass")
        return [one for one in self._listener.received if wanted in one.content]

    async def _until_over(
        self,
        name: str,
        task_id: str,
        polls: list[SeenAnswer] | None = None,
        every: float = _POLL_EVERY,
    ) -> None:
        """Poll a task until it is over, and keep the last answer under a name."""
        give_up_at = self._clock() + _PATIENCE / self.evidence.speed
        while True:
            answer = await self._poll("", task_id)
            if answer is not None and polls is not None:
                polls.append(answer)
            if answer is not None and answer.is_over:
                self.evidence.answers[name] = answer
                return
            if self._clock() >= give_up_at:
                self.evidence.skipped[name.partition(":")[0]] = "the task took too long"
                return
            await self._pause(every)

    async def _download(self, name: str, end: SeenAnswer) -> None:
        """Get the first file of a task twice: without the key, then its first bytes only."""
        url = next(iter(result_urls(end)), "")
        if not url.startswith(("http://", "https://")):
            return
        with suppress(httpx2.InvalidURL):
            whole = await self._send(httpx2.Request("GET", url))
            part = await self._send(httpx2.Request("GET", url, headers={"range": "bytes=0-9"}))
            found = {name: whole, f"{name}: part": part}
            self.evidence.answers |= {
                key: answer for key, answer in found.items() if answer is not None
            }

    # --- limits --------------------------------------------------------------------------

    async def _flood(self) -> None:
        """Send requests until one is answered 429, wait until one is accepted, and do it again."""
        limit, loop = self._plan.limits.requests_per_minute, asyncio.get_running_loop()
        self._say(f"more than {limit:,} requests in a minute, and until they are allowed again")
        await asyncio.sleep(WINDOW)  # What was sent before is in no window then.
        self._counted.clear()
        started = loop.time()
        flood = Flood(self._kind_of_flood, self._clock(), 0)
        accepted, refusal = await self._burst(math.ceil(limit * 1.02) + 2 * _AT_ONCE)
        self.evidence.flood = flood = replace(flood, accepted=accepted, refusal=refusal)
        if refusal is None:
            return
        sent = tuple(self._counted)
        # Half a minute later, so that they are in the window when the accepted ones have left it.
        await asyncio.sleep(max(0.0, started + WINDOW / 2 - loop.time()))
        for number in itertools.count():
            answer = await self._one()
            if answer is not None and answer.error != 429:
                flood = replace(flood, back_at=answer.ended, refused=number)
                break
            if loop.time() > started + 3 * WINDOW:
                return
            if number > limit // 20:
                # Far below the limit: where refused requests count, they would fill the window.
                await asyncio.sleep(max(0.5, 4 * WINDOW / limit))
        await asyncio.sleep(1)  # So that a part of the window is free, not its first request only.
        again, refusal = await self._burst(limit * 2)
        since = loop.time() - WINDOW
        freed = None if refusal is None else sum(at <= since for at in sent)
        self.evidence.flood = replace(flood, freed=freed, again=again + 1)

    @property
    def _kind_of_flood(self) -> str:
        return "polls" if self._task_id else "requests for the balance"

    async def _one(self) -> SeenAnswer | None:
        """Send one request of a flood."""
        if not self._task_id:
            return await self._balance("")
        return await self._poll("", self._task_id)

    async def _burst(self, most: int) -> tuple[int, SeenAnswer | None]:
        """Send requests until one is refused; return how many were accepted, and that refusal."""
        left, accepted, refusal = most, 0, None

        async def send() -> None:
            nonlocal left, accepted, refusal
            while left > 0 and refusal is None:
                left -= 1
                sent = asyncio.get_running_loop().time()
                answer = await self._one()
                if answer is not None and answer.error == 429:
                    refusal = answer
                elif answer is not None:
                    accepted += 1
                    self._counted.append(sent)

        await asyncio.gather(*(send() for _ in range(min(_AT_ONCE, most))))
        return accepted, refusal

    async def _crowd(self) -> None:
        """Submit one task more than are allowed at once; and one more when the first has ended."""
        most = self._plan.limits.concurrent_tasks
        self._say(f"{most + 1:,} tasks at once and one more, for {dollars(PRICE * (most + 2))}")
        if self.evidence.flood is not None:
            await asyncio.sleep(WINDOW)  # Else they would be refused for its requests.
        first: str | None = None
        for _ in range(most + 1):
            task_id = await self._submit("crowd: last", _TEXT)
            first = first or task_id
            if self._has("crowd: last"):
                self.evidence.crowd.append(self.evidence["crowd: last"])
            if self.evidence.crowd and self.evidence.crowd[-1].error == 429:
                break
        if first is not None:
            await self._until_over("crowd: end", first, every=1.0)
            await self._submit("crowd: after", _TEXT)


async def _beginning(response: httpx2.Response) -> bytes:
    """Return the body of an answer, or its first bytes where it is longer than any should be."""
    body = bytearray()
    try:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _LONGEST_BODY:
                break
    finally:
        await response.aclose()
    return bytes(body)
