"""Deliveries: the posts to receivers, each at its time on the running loop, again if need be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import httpx2

from apixo_async.testing.callbacks import LIMIT, REDELIVERY, SHORTEST_LIMIT, Attempt, CallbackLog
from apixo_async.testing.lifecycles import SimulatedTask

_HEADERS = {"content-type": "application/json", "user-agent": "apixo-simulator"}


@dataclass(frozen=True, slots=True, eq=False)
class _Delivery:
    """One callback on its way; ``tried`` is set after the first attempt."""

    task_id: str
    url: str
    state: str
    content: bytes
    copy: int
    tried: asyncio.Event | None
    number: int = 1


class Deliveries:
    """Post callbacks until each is delivered or given up.

    Between two attempts there is nothing but a timer of the loop that was running at the submit,
    so that nothing keeps that loop, or is left behind when it ends: what it still had to deliver
    ends with it.

    Args:
        callbacks: What becomes of them, and where they are logged.
        speed: Divides delays, and the receivers' limit down to 5 s.
        clock: The service's clock in seconds.

    Attributes:
        carrier: What carries posts; None posts nothing, unless `on_sockets` is entered.
    """

    def __init__(self, callbacks: CallbackLog, speed: float, clock: Callable[[], float]) -> None:
        self.carrier: httpx2.AsyncBaseTransport | None = None
        self._callbacks = callbacks
        self._speed = speed
        self._clock = clock
        self._limit = max(SHORTEST_LIMIT, LIMIT / speed)
        self._timers: dict[_Delivery, asyncio.TimerHandle] = {}
        self._posts: set[asyncio.Task[None]] = set()
        self._sockets: _Sockets | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_paused = False

    @property
    def waiting(self) -> int:
        """How many posts are due or under way."""
        return len(self._timers) + len(self._posts)

    def start(
        self, task: SimulatedTask, content: Callable[[float], bytes], now: float
    ) -> asyncio.Event | None:
        """Set the timers of a task that is created now.

        Args:
            task: The task, as its submit made it.
            content: Returns the body of a callback that tells of the task at a given time.
            now: The service's time.

        Returns:
            For an early callback, what is set after its first attempt.

        Raises:
            RuntimeError: No event loop is running.
        """
        callback, carried = task.callback, self.carrier or self._sockets
        if callback is None or callback.lost or carried is None:
            return None
        self._forget_other_loops()
        shift = asyncio.get_running_loop().time() - now  # 0 where the service has its clock
        tried = asyncio.Event() if callback.early else None
        for moment, copy in _moments(task):
            over = moment == task.ends
            parcel = _Delivery(
                task_id=task.id,
                url=task.callback_url or "",
                state=task.state(moment),
                content=content(moment),
                copy=copy,
                tried=tried if over else None,
            )
            delay = self._callbacks.delay_of(callback) / self._speed
            self._post_at(shift + moment + delay, parcel)
        return tried

    def pause(self) -> None:
        """Begin no more posts on the running loop, as it is about to end: `go_on` takes them up."""
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
        left = [(timer.when(), parcel) for parcel, timer in self._timers.items()]
        self._forget_other_loops()
        for when, parcel in left:
            due, again = when, parcel
            while due < now and again.number <= len(REDELIVERY):
                due += REDELIVERY[again.number - 1] / self._speed
                again = replace(again, number=again.number + 1)
            if due >= now:
                self._post_at(due, again)

    @contextlib.asynccontextmanager
    async def on_sockets(self) -> AsyncGenerator[None, None]:
        """Post over real sockets where there is no carrier; at the end, drop what is not over."""
        before, self._sockets = self._sockets, _Sockets()
        sockets = self._sockets
        try:
            yield
        finally:
            self._sockets = before
            await self._drop()
            await sockets.aclose()

    async def _drop(self) -> None:
        self._forget_other_loops()
        for post in self._posts:
            post.cancel()
        if self._posts:
            await asyncio.wait(self._posts)
        for parcel, timer in self._timers.items():
            timer.cancel()
            _release(parcel)
        self._timers.clear()

    def _forget_other_loops(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what the last one had to do ended with it
            self._loop = loop
            self._timers.clear()
            self._posts.clear()

    def _post_at(self, when: float, parcel: _Delivery) -> None:
        loop = asyncio.get_running_loop()
        self._timers[parcel] = timer = loop.call_at(when, self._post_now, when, parcel)
        if self._is_paused:
            timer.cancel()

    def _post_now(self, when: float, parcel: _Delivery) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < when:
            # A loop may run a timer earlier by the resolution of its clock. A receiver that looks
            # at the task at once would find it running.
            self._post_at(when, parcel)
            return
        del self._timers[parcel]
        post = loop.create_task(self._attempt(parcel))
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)

    async def _attempt(self, parcel: _Delivery) -> None:
        at = self._clock()
        status: int | None = None
        error: str | None = None
        try:
            carrier = self._carrier()  # may take a while at first, which is not the receiver's
            async with asyncio.timeout(self._limit):
                status = await _post(carrier, parcel)
        except TimeoutError:
            error = f"no answer within {self._limit:g} s"
        except asyncio.CancelledError:
            self._again(parcel)  # for `go_on`, where it is the loop that ends
            raise
        except Exception as exc:  # whatever a receiver in process raises: it did not answer
            error = f"{type(exc).__name__}: {exc}"
        finally:
            _release(parcel)
        self._callbacks.add(_record(parcel, at, self._clock(), status, error))
        if status != 200:
            self._again(parcel)

    def _again(self, parcel: _Delivery) -> None:
        if parcel.number <= len(REDELIVERY):
            delay = REDELIVERY[parcel.number - 1] / self._speed
            again = replace(parcel, number=parcel.number + 1)
            self._post_at(asyncio.get_running_loop().time() + delay, again)

    def _carrier(self) -> httpx2.AsyncBaseTransport:
        if self.carrier is not None:
            return self.carrier
        if self._sockets is None:
            raise RuntimeError("nothing carries callbacks any more")
        return self._sockets.transport()


class _Sockets:
    """Sockets that are there from the first post on: their TLS settings take a while to load."""

    def __init__(self) -> None:
        self._transport: httpx2.AsyncHTTPTransport | None = None

    def transport(self) -> httpx2.AsyncHTTPTransport:
        if self._transport is None:
            # Receivers that hang must not keep callbacks from others that answer.
            # A connection that rested is given up before receivers do so, which take 5 s: one that
            # is closed just then would cost the callback an attempt.
            limits = httpx2.Limits(
                max_connections=None, max_keepalive_connections=100, keepalive_expiry=2.0
            )
            self._transport = httpx2.AsyncHTTPTransport(limits=limits)
        return self._transport

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()


def _moments(task: SimulatedTask) -> Iterator[tuple[float, int]]:
    """Yield what moment of the task is told of, and as which copy."""
    assert task.callback is not None
    if task.callback.processing and task.started < task.ends:
        yield task.started, 1
    for copy in range(1, task.callback.copies + 1):
        yield task.ends, copy


async def _post(carrier: httpx2.AsyncBaseTransport, parcel: _Delivery) -> int:
    request = httpx2.Request("POST", parcel.url, headers=_HEADERS, content=parcel.content)
    response = await carrier.handle_async_request(request)
    try:
        # An answer is there when all of it is, whatever it says.
        async for _ in cast("AsyncIterable[bytes]", response.stream):
            pass
    finally:
        await response.aclose()
    return response.status_code


def _record(
    parcel: _Delivery, at: float, ended_at: float, status: int | None, error: str | None
) -> Attempt:
    return Attempt(
        at=at,
        ended_at=ended_at,
        task_id=parcel.task_id,
        state=parcel.state,
        copy=parcel.copy,
        number=parcel.number,
        url=parcel.url,
        status=status,
        error=error,
    )


def _release(parcel: _Delivery) -> None:
    if parcel.tried is not None:
        parcel.tried.set()
