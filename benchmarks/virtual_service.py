"""A service in virtual time which only takes time: for questions of when to poll, not of HTTP.

Tasks last what a workload says; every exchange takes the same latency; nothing is validated.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import multiprocessing
import random
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx2

from apixo_async.testing import VirtualTimeLoop
from apixo_async.webhooks import WebhookReceiver
from benchmarks.counting_service import mark_sent

#: Seconds of one exchange.
LATENCY = 0.1

#: The service's clock when the loop's says 0, in Unix seconds.
EPOCH = 1_800_000_000.0

T = TypeVar("T")
A = TypeVar("A")
Draw = Callable[[random.Random], float]


@dataclass(frozen=True)
class Workload:
    """How long tasks take, and how often the documents would poll such tasks.

    Attributes:
        name: What it is, in few words.
        first: Seconds to the first poll of the plan.
        interval: Seconds from one poll of the plan to the next.
        draw: Draws a duration in seconds.
    """

    name: str
    first: float
    interval: float
    draw: Draw


def _lognormal(mean: float, sigma: float, rng: random.Random) -> float:
    return rng.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)


def _delayed(rng: random.Random) -> float:
    return 12 + rng.expovariate(1 / 18)


def _mixed(rng: random.Random) -> float:
    return _lognormal(22 if rng.random() < 0.7 else 60, 0.12, rng)


def _uniform(rng: random.Random) -> float:
    return rng.uniform(100, 260)


def lognormal(mean: float, sigma: float) -> Draw:
    """Return what draws durations whose logarithm has the given spread."""
    return partial(_lognormal, mean, sigma)


#: Slots or requests are scarce, with an endless queue of such tasks.
SATURATING = (
    Workload("30 s, sigma 0.35, plan 20 + 3", 20, 3, lognormal(30, 0.35)),
    Workload("30 s, sigma 0.12, plan 20 + 3", 20, 3, lognormal(30, 0.12)),
    Workload("12 s, sigma 0.30, plan 8 + 3", 8, 3, lognormal(12, 0.30)),
    Workload("12 s, sigma 0.30, plan 20 + 3", 20, 3, lognormal(12, 0.30)),
    Workload("6 s, sigma 0.30, plan 5 + 3", 5, 3, lognormal(6, 0.30)),
)

#: Neither is scarce, and the news should come early.
VARIED = (
    Workload("30 s, sigma 0.12, plan 20 + 3", 20, 3, lognormal(30, 0.12)),
    Workload("30 s, sigma 0.35, plan 20 + 3", 20, 3, lognormal(30, 0.35)),
    Workload("12 s + exponential 18 s, plan 20 + 3", 20, 3, _delayed),
    Workload("70 % 22 s, 30 % 60 s, plan 20 + 3", 20, 3, _mixed),
    Workload("100-260 s, plan 120 + 10", 120, 10, _uniform),
)


@dataclass(slots=True)
class Work:
    """One task at the service: when it was created, and when it is over."""

    created: float
    over: float


class VirtualService(httpx2.AsyncBaseTransport):
    """Answer submits and polls after a latency, on the running loop's clock.

    Args:
        draw: Draws the duration of each task.
        seed: Seeds the draws.
        latency: Seconds of one exchange, of which half passes before it is seen here.
        receiver: What takes the callbacks, or None where there are none.
        lost: The share of the callbacks that are never posted.
    """

    phase_aware = True

    def __init__(
        self,
        draw: Draw,
        seed: int,
        latency: float = LATENCY,
        *,
        receiver: WebhookReceiver | None = None,
        lost: float = 0.0,
    ) -> None:
        self._draw = draw
        self._latency = latency
        self._rng = random.Random(seed)
        self._receiver = None if receiver is None else httpx2.ASGITransport(receiver.asgi())
        self._lost = lost
        self._losing = random.Random(seed)  # apart, so that tasks last as without callbacks
        self._posts: set[asyncio.Task[None]] = set()
        self.works: list[Work] = []
        self.polls = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        mark_sent(request)
        await asyncio.sleep(self._latency / 2)
        data = self._submitted if request.method == "POST" else self._polled_at
        body = json.dumps({"code": 200, "message": "success", "data": data(request, loop.time())})
        await asyncio.sleep(self._latency / 2)
        return httpx2.Response(200, content=body.encode())

    def _submitted(self, request: httpx2.Request, now: float) -> dict[str, object]:
        task_id, over = str(len(self.works)), now + self._draw(self._rng)
        self.works.append(Work(now, over))
        if self._receiver is not None and self._losing.random() >= self._lost:
            url = str(json.loads(request.content)["callback_url"])
            body = json.dumps({"code": 200, "data": {"taskId": task_id, "state": "success"}})
            post = httpx2.Request("POST", url, content=body)
            asyncio.get_running_loop().call_at(
                over + self._latency / 2, self._post, self._receiver, post
            )
        return {"taskId": task_id}

    def _post(self, receiver: httpx2.ASGITransport, post: httpx2.Request) -> None:
        async def answered() -> None:
            await receiver.handle_async_request(post)

        task = asyncio.get_running_loop().create_task(answered())
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    def _polled_at(self, request: httpx2.Request, now: float) -> dict[str, object]:
        self.polls += 1
        task_id = request.url.params["taskId"]
        work = self.works[int(task_id)]
        if now < work.over:
            return {"taskId": task_id, "state": "processing"}
        return {
            "taskId": task_id,
            "state": "success",
            "resultJson": '{"resultUrls": []}',
            "createTime": int(1000 * (EPOCH + work.created)),
            "completeTime": int(1000 * (EPOCH + work.over)),
        }


def run_virtually(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine function to its end on a loop whose waiting costs nothing."""
    logging.getLogger("apixo_async").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def in_parallel(function: Callable[[A], T], jobs: Sequence[A]) -> list[T]:
    """Call a function of a module once a job, in a process for each core: time is virtual."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=spawn) as pool:
        return list(pool.map(function, jobs))
