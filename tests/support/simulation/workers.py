"""Callbacks on their way: odd, forged or lost, to one of the processes behind one public URL."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

import httpx2

from apixo_async.testing import Callback, SimulatedTask, Simulator
from apixo_async.testing.callbacks import REDELIVERY
from apixo_async.testing.exchanges import Call
from apixo_async.webhooks import WebhookReceiver

from .clocks import WallClock
from .oddities import TEXTS

URL: Final = "https://app.example.com/apixo"
SECRET: Final = "a secret of sixteen bytes or more"
MODEL: Final = "flux-kontext"

#: Seconds for which a token holds at least, whatever the timeouts.
_TOKEN_LIFE: Final = 1_800.0

#: How a load balancer without workers answers.
_DOWN: Final = (None, 502, 503, 504)

#: What a callback with a right token may be answered with; 503 has the service send it again.
_HEALTHY: Final = (200, 503)
_ODD: Final = (200, 400, 413, 503)


def new_receiver() -> WebhookReceiver:
    """Return the receiver of a process; all processes have one URL and one secret."""
    return WebhookReceiver(URL, SECRET)


def task_before(simulator: Simulator, rng: random.Random, now: float) -> None:
    """Have somebody else buy a task on the same account, an hour or so before `now`."""
    body = {"request_type": "async", "input": {"mode": "pro", "prompt": "somebody else's"}}
    call = Call(
        "POST",
        f"/api/v1/generateTask/{MODEL}",
        headers={"authorization": "Bearer test-key"},
        body=json.dumps(body).encode(),
    )
    at = now - rng.uniform(600, 7_200)
    simulator.arrive(call, simulator.begin(call, at), at)


class Balancer(httpx2.AsyncBaseTransport):
    """Carry each callback to one of the workers, when there are any, and do odd things with some.

    Args:
        simulator: Whose callbacks these are.
        rng: Decides everything.
        clock: The workers' wall clock.
        problems: The rules that were broken.
        met: How often what happened.

    Attributes:
        workers: The receivers of the processes that live.
    """

    def __init__(
        self,
        simulator: Simulator,
        rng: random.Random,
        clock: WallClock,
        problems: list[str],
        met: Counter[str],
    ) -> None:
        self.workers: list[WebhookReceiver] = []
        self._simulator = simulator
        self._rng = rng
        self._clock = clock
        self._problems = problems
        self._met = met
        self._oddness = rng.choice((0.0, 0.1, 0.5))
        self._sticks_until = 0.0
        self._choice = 0
        self._outages = [
            (start, start + rng.uniform(1, rng.choice((10, 120, 900))), rng.choice(_DOWN))
            for start in (
                simulator.now() + rng.uniform(0, 400) for _ in range(rng.choice((0, 0, 1, 3)))
            )
        ]

    def mend(self) -> None:
        """Be an honest carrier from now on."""
        self._outages.clear()
        self._oddness = 0.0

    def script(self) -> None:
        """Decide when the callbacks of the next tasks come, if they do."""
        rng = self._rng
        kinds: tuple[Callable[[], Callback | None], ...] = (
            lambda: None,
            lambda: None,
            lambda: Callback(delay=rng.uniform(0, 20)),
            lambda: Callback(lost=True),
            lambda: Callback(early=True),
            lambda: Callback(copies=rng.randint(2, 3), delay=rng.uniform(0, 20)),
            lambda: Callback(processing=True),
            lambda: Callback(delay=rng.uniform(60, 4_000)),
        )
        if rng.random() < 0.7:
            self._simulator.callbacks.next(*(rng.choice(kinds)() for _ in range(30)))

    async def make_noise(self) -> None:
        """Post odd callbacks for tasks at any time, as the service may: again if not taken."""
        rng = self._rng
        for _ in range(rng.randint(0, 6)):
            await asyncio.sleep(rng.uniform(0, 120))
            called = [one for one in self._simulator.tasks.values() if one.callback_url]
            if not called:
                continue
            task = rng.choice(called)
            body = self._odd(task, b'{"code": 200, "message": "success", "data": {}}')
            for pause in (*REDELIVERY, 0.0):
                if self.workers and await self._deliver(task, str(task.callback_url), body) == 200:
                    break
                await asyncio.sleep(pause)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        rng, url, body = self._rng, str(request.url), await request.aread()
        await asyncio.sleep(rng.uniform(0, 0.5))
        for start, end, status in self._outages:
            if start <= self._simulator.now() < end:
                self._met["receiver down"] += 1
                return _answered(status)
        if not self.workers:
            return _answered(rng.choice(_DOWN))
        task = next(one for one in self._simulator.tasks.values() if one.callback_url == url)
        if rng.random() < 0.1:
            await self._forge(task, url, body)
        if rng.random() < self._oddness:
            odd = self._odd(task, body)
            if rng.random() < 0.5:  # Instead of the right one, else before it.
                return httpx2.Response(await self._deliver(task, url, odd))
            await self._deliver(task, url, odd)
        return httpx2.Response(await self._deliver(task, url, body, healthy=True))

    # --- one delivery ----------------------------------------------------------------------------

    async def _deliver(
        self, task: SimulatedTask, url: str, body: bytes, *, healthy: bool = False
    ) -> int:
        self._met["callback" if healthy else "odd callback"] += 1
        status = await self._post(url, body)
        expired = self._simulator.now() > task.created + _TOKEN_LIFE or self._clock.steps
        if status not in (_HEALTHY if healthy else _ODD) and not (expired and status == 404):
            self._problems.append(f"a callback of {task.id} was answered {status}: {body[:80]!r}")
        return status

    async def _forge(self, task: SimulatedTask, url: str, body: bytes) -> None:
        at = self._rng.randrange(len(URL) + 1, len(url))
        forged = url[:at] + ("A" if url[at] != "A" else "B") + url[at + 1 :]
        status = await self._post(forged, body)
        if status != 404:
            self._problems.append(f"a forged callback of {task.id} was answered {status}")

    async def _post(self, url: str, body: bytes) -> int:
        worker = self._worker()
        request = httpx2.Request("POST", url, content=body)
        try:
            response = await httpx2.ASGITransport(worker.asgi()).handle_async_request(request)
        except Exception as error:
            self._problems.append(f"the receiver raised {error!r} for {body[:80]!r}")
            return 500
        return response.status_code

    def _worker(self) -> WebhookReceiver:
        rng, now = self._rng, self._simulator.now()
        if now >= self._sticks_until:
            self._choice = rng.randrange(10)
            self._sticks_until = now + rng.choice((0, 0, rng.uniform(0, 300)))
        return self.workers[self._choice % len(self.workers)]

    # --- odd bodies ------------------------------------------------------------------------------

    def _odd(self, task: SimulatedTask, body: bytes) -> bytes:
        rng = self._rng
        # Of submits that were answered: if a callback named the task of another submit that is
        # uncertain at the same time, no client could know.
        log = self._simulator.log
        answered = [str(one.task_id) for one in log if one.kind == "submit" and one.code == 200]
        others = [one for one in answered if one != task.id]
        return rng.choice(
            (
                body + b" " * 70_000,
                b'{"more": "' + b"x" * 70_000 + b'",' + body[1:],
                b"<html><body><h1>502</h1></body></html>",
                body[: rng.randrange(len(body))],
                b"",
                b"[1]",
                b'{"status": "ok"}',
                _envelope({}),
                _envelope(None),
                _envelope({"taskId": task.id, "state": "processing"}),
                _envelope({"taskId": task.id, "state": rng.choice(TEXTS)}),
                _envelope({"taskId": rng.choice(TEXTS), "state": "success"}),
                _envelope({"taskId": task.id, "error": "x"}, code=500),
                _envelope({"taskId": f"task_{rng.randrange(10**8):08d}", "state": "success"}),
                _envelope({"taskId": rng.choice(others or ["task_1"]), "state": "success"}),
                _envelope({"taskId": (answered or ["task_1"])[0], "state": "failed"}),
            )
        )


def _envelope(data: object, code: int = 200) -> bytes:
    return json.dumps({"code": code, "message": "success", "data": data}).encode()


def _answered(status: int | None) -> httpx2.Response:
    if status is None:
        raise httpx2.ConnectError("nobody listens")
    return httpx2.Response(status)
