"""Deliveries: the posts of callbacks to receivers, each at its time on the running loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Final, cast

import httpx2

from apixo_async.testing.callbacks import LIMIT, REDELIVERY, SHORTEST_LIMIT, Attempt, CallbackLog
from apixo_async.testing.options import SimulatorOptions
from apixo_async.testing.tasks import SimulatedTask

_HEADERS: Final = {"content-type": "application/json", "user-agent": "apixo-simulator"}


@dataclass(frozen=True, slots=True, eq=False)
class _Delivery:
    """One callback to be posted; ``tried`` is set after the first attempt."""

    task_id: str
    url: str
    content: Callable[[], Awaitable[bytes]]
    copy: int
    tried: asyncio.Event | None
    number: int = 1


class Deliveries:
    """Post callbacks until each is delivered or given up.

    Between two attempts there is nothing but a timer of the loop that was running at the submit:
    it does not keep that loop from ending, and what was still to be posted ends with the loop.

    Args:
        callbacks: What becomes of them, and where they are logged.
        options: Their ``speed`` divides delays, and the receivers' limit down to 5 s.
        clock: The service's clock in seconds.

    Attributes:
        transport: What posts go through; None posts nothing, unless `on_sockets` is entered.
    """

    def __init__(
        self, callbacks: CallbackLog, options: SimulatorOptions, clock: Callable[[], float]
    ) -> None:
        self.transport: httpx2.AsyncBaseTransport | None = None
        self._callbacks = callbacks
        self._speed = options.speed
        self._is_signed = options.open_points.signed_callbacks
        self._clock = clock
        self._limit = max(SHORTEST_LIMIT, LIMIT / options.speed)
        self._timers: dict[_Delivery, asyncio.TimerHandle] = {}
        self._posts: set[asyncio.Task[None]] = set()
        self._sockets: _Sockets | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_paused = False

    @property
    def waiting(self) -> int:
        """How many posts are due or in progress."""
        return len(self._timers) + len(self._posts)

    def start(
        self, task: SimulatedTask, content: Callable[[float], Awaitable[bytes]], now: float
    ) -> asyncio.Event | None:
        """Set the timers of a task that is created now.

        Args:
            task: The task, as its submit created it.
            content: Returns, when it is posted, the body of a callback as of a given time.
            now: The service's time.

        Returns:
            For an early callback, what is set after its first attempt.

        Raises:
            RuntimeError: No event loop is running.
        """
        callback = task.callback
        if callback is None or callback.lost or (self.transport or self._sockets) is None:
            return None
        self._forget_other_loops()
        shift = asyncio.get_running_loop().time() - now  # 0 where the service has its clock
        tried = asyncio.Event() if callback.early else None
        moments = [(task.ends, copy) for copy in range(1, callback.copies + 1)]
        if callback.processing and task.started < task.ends:
            moments.insert(0, (task.started, 1))
        for moment, copy in moments:
            delivery = _Delivery(
                task_id=task.id,
                url=task.callback_url or "",
                content=partial(content, moment),
                copy=copy,
                tried=tried if moment == task.ends else None,
            )
            delay = self._callbacks.delay_of(callback) / self._speed
            self._post_at(shift + moment + delay, delivery)
        return tried

    def pause(self) -> None:
        """Begin no more posts on the running loop, which is about to end; see `go_on`."""
        self._is_paused = True
        for timer in self._timers.values():
            timer.cancel()

    def go_on(self) -> None:
        """Take up, on the running loop, what was left when the last one ended.

        The clocks of both must be one. What was due meanwhile did not arrive, and is due again.
        """
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        now = loop.time()
        self._is_paused = False
        left = [(timer.when(), delivery) for delivery, timer in self._timers.items()]
        self._forget_other_loops()
        for when, delivery in left:
            due, again = when, delivery
            while due < now and again.number <= len(REDELIVERY):
                due += REDELIVERY[again.number - 1] / self._speed
                again = replace(again, number=again.number + 1)
            if due >= now:
                self._post_at(due, again)

    @contextlib.asynccontextmanager
    async def on_sockets(self) -> AsyncGenerator[None, None]:
        """Post over real sockets where there is no transport; at the end, drop what is left."""
        before, self._sockets = self._sockets, _Sockets()
        sockets = self._sockets
        try:
            yield
        finally:
            self._sockets = before
            self._forget_other_loops()
            for post in self._posts:
                post.cancel()
            if self._posts:
                await asyncio.wait(self._posts)
            for delivery, timer in self._timers.items():
                timer.cancel()
                if delivery.tried is not None:
                    delivery.tried.set()
            self._timers.clear()
            await sockets.aclose()

    def _forget_other_loops(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._timers.clear()
            self._posts.clear()

    def _post_at(self, when: float, delivery: _Delivery) -> None:
        loop = asyncio.get_running_loop()
        self._timers[delivery] = timer = loop.call_at(when, self._post_now, when, delivery)
        if self._is_paused:
            timer.cancel()

    def _post_now(self, when: float, delivery: _Delivery) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < when:
            # A loop may run a timer earlier by the resolution of its clock. A receiver that polls
            # the task at once would find it running.
            self._post_at(when, delivery)
            return
        del self._timers[delivery]
        post = loop.create_task(self._attempt(delivery))
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    async def _attempt(self, delivery: _Delivery) -> None:
        at = self._clock()
        status: int | None = None
        error: str | None = None
        state = ""
        try:
            content = await delivery.content()
            body = json.loads(content)
            state = body.get("data", body)["state"]
            # Made before the limit begins: loading TLS settings takes time that no receiver took.
            transport = self.transport
            if transport is None and self._sockets is not None:
                transport = self._sockets.transport
            if transport is None:
                raise RuntimeError("no receiver any more: deliver_to was given None")
            async with asyncio.timeout(self._limit):
                status = await _post(transport, delivery.url, content, is_signed=self._is_signed)
        except TimeoutError:
            error = f"no answer within {self._limit:g} s"
        except asyncio.CancelledError:
            self._again(delivery)  # for `go_on`, where it is the loop that ends
            raise
        except Exception as exc:  # whatever a receiver in process raises: it did not answer
            error = f"{type(exc).__name__}: {exc}"
        finally:
            if delivery.tried is not None:
                delivery.tried.set()
        self._callbacks.add(
            Attempt(
                at=at,
                ended_at=self._clock(),
                task_id=delivery.task_id,
                state=state,
                copy=delivery.copy,
                number=delivery.number,
                url=delivery.url,
                status=status,
                error=error,
            )
        )
        if status != 200:
            self._again(delivery)

    def _again(self, delivery: _Delivery) -> None:
        if delivery.number <= len(REDELIVERY):
            delay = REDELIVERY[delivery.number - 1] / self._speed
            again = replace(delivery, number=delivery.number + 1)
            self._post_at(asyncio.get_running_loop().time() + delay, again)


class _Sockets:
    """Sockets that are opened at the first post: loading their TLS settings takes 0.1 s."""

    @cached_property
    def transport(self) -> httpx2.AsyncHTTPTransport:
        # Receivers that hang must not keep callbacks from others that answer. An idle connection
        # is closed before receivers close it, which they do after 5 s: one that is closed in the
        # moment of a post would cost the callback an attempt.
        limits = httpx2.Limits(
            max_connections=None, max_keepalive_connections=100, keepalive_expiry=2.0
        )
        return httpx2.AsyncHTTPTransport(limits=limits)

    async def aclose(self) -> None:
        if "transport" in vars(self):
            await self.transport.aclose()


async def _post(
    transport: httpx2.AsyncBaseTransport, url: str, content: bytes, *, is_signed: bool
) -> int:
    headers = _HEADERS
    if is_signed:
        headers = _HEADERS | {"x-signature": hashlib.sha256(content).hexdigest()}
    request = httpx2.Request("POST", url, headers=headers, content=content)
    response = await transport.handle_async_request(request)
    try:
        # An answer counts once its whole body is there; the body itself is ignored.
        async for _ in cast("AsyncIterable[bytes]", response.stream):
            pass
    finally:
        await response.aclose()
    return response.status_code
