"""What coroutines of one event loop wait for: a time, a turn in a queue, a signal, a deadline."""

from __future__ import annotations

import asyncio
import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from apixo_async.errors import ApixoError


class Alarm:
    """Let one coroutine sleep until a time of the loop's clock, or until it is needed earlier.

    Half the cost of an event under a timeout: a future and at most one timer; and `need` costs
    nothing where the sleeper wakes early enough anyway.
    """

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[None] | None = None
        self._wakes_at = math.inf

    async def sleep(self, until: float) -> None:
        """Sleep until a time, for ever if it is infinity, or until `need` or `wake`."""
        loop = asyncio.get_running_loop()
        self._sleeper, self._wakes_at = loop.create_future(), until
        timer = loop.call_at(until, self.wake) if until < math.inf else None
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    def need(self, due: float) -> None:
        """Wake the sleeper if it would oversleep that time."""
        if due < self._wakes_at:
            self.wake()

    def wake(self) -> None:
        """Wake the sleeper, if there is one."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)


class Bound:
    """End what runs inside at a time of the loop's clock, with a TimeoutError.

    Args:
        when: That time; None for no bound but `expire`. Where it may move, a callable, which is
            called again at each time that it has returned.
    """

    __slots__ = ("_before", "_expired", "_task", "_timer", "_when")

    def __init__(self, when: float | Callable[[], float] | None) -> None:
        self._when = math.inf if when is None else when
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.Handle | None = None
        self._expired = False
        self._before = 0

    def expired(self) -> bool:
        """Return True if the time has come while it ran."""
        return self._expired

    def expire(self) -> None:
        """End what runs inside now, unless it was ended already."""
        if not self._expired:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_soon(self._cancel)

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None  # A coroutine that awaits runs in one.
        self._before = self._task.cancelling()
        self._watch(self._due())
        return self

    def _due(self) -> float:
        return self._when() if callable(self._when) else self._when

    def _watch(self, due: float) -> None:
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_at(due, self._come)

    def _come(self) -> None:
        due = self._due()
        if due > asyncio.get_running_loop().time():
            self._watch(due)
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._expired = True
            self._task.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_timer()
        # Not kept: an error that is raised here holds this object through its traceback, and the
        # task holds the error; that cycle would live until the garbage collector runs.
        task, self._task = self._task, None
        # `asyncio.timeout` compares with 0 in early releases of Python 3.11: in a task that was
        # cancelled once and went on, as after a TaskGroup that failed, it never raises.
        ours = self._expired and task is not None and task.uncancel() <= self._before
        del task
        if ours and exc_type is asyncio.CancelledError:
            raise TimeoutError from exc


class SharedBounds:
    """Bounds of one length, each as `Bound`, which have one timer together.

    The oldest ends first: so a bound costs an entry of a dict, and not a timer of the loop.

    Args:
        seconds: The length of each.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._dues: dict[Bound, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Bound:
        """Return a bound that is to be entered now."""
        return _SharedBound(self)

    def watch(self, bound: Bound) -> None:
        """Expire a bound after the seconds, unless it is left before."""
        self._dues[bound] = asyncio.get_running_loop().time() + self.seconds
        if self._timer is None:
            self._arm()

    def leave(self, bound: Bound) -> None:
        """Forget a bound."""
        self._dues.pop(bound, None)
        if not self._dues and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(
            next(iter(self._dues.values())), self._come
        )

    def _come(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._dues and next(iter(self._dues.values())) <= now:
            next(iter(self._dues)).expire()
        self._timer = None
        if self._dues:
            self._arm()


class _SharedBound(Bound):
    __slots__ = ("_shared",)

    def __init__(self, shared: SharedBounds) -> None:
        super().__init__(None)
        self._shared = shared

    def _watch(self, due: float) -> None:
        del due
        self._shared.watch(self)

    def _stop_timer(self) -> None:
        self._shared.leave(self)
        super()._stop_timer()


def bound_after(seconds: float | None) -> Bound:
    """Return a bound that ends what runs inside after `seconds`; None as for `Bound`."""
    return Bound(None if seconds is None else asyncio.get_running_loop().time() + seconds)


T = TypeVar("T")


class Waiters(Generic[T]):
    """A queue of coroutines, served in order, each of which may be cancelled at any time.

    What is handed over in the instant of a cancellation is given back, and so never lost.
    """

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: OrderedDict[asyncio.Future[T], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._futures)

    def __bool__(self) -> bool:
        # A cancelled waiter is queued until its coroutine runs again. Dropping it here changes no
        # answer, and keeps this cheap where thousands were cancelled at once.
        while self._futures and next(iter(self._futures)).done():
            self._futures.popitem(last=False)
        return bool(self._futures)

    async def join(self, arrange: Callable[[], None], give_back: Callable[[T], None]) -> T:
        """Wait in the queue.

        Args:
            arrange: Serves the queue; called once this waiter is queued, unless another one waits
                already: what cannot be handed to the first cannot be handed to the last.
            give_back: Takes what was handed over in the instant in which the waiter was cancelled.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        is_first = not self
        self._futures[future] = None
        try:
            if is_first:
                arrange()
            return await future
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())
            raise
        finally:
            self._futures.pop(future, None)
            # An error that was set on it holds this frame through its traceback. Without this the
            # frame would hold the error in turn.
            del future

    def hand(self, value: T) -> None:
        """Hand something to the first waiter. Only if there is one, that is, if this is true."""
        self._futures.popitem(last=False)[0].set_result(value)

    def fail(self, error: Exception) -> None:
        """Raise an error in each waiter, because nothing will be handed over any more."""
        while self:
            self._futures.popitem(last=False)[0].set_exception(error)


class Turns:
    """Let a bounded number of coroutines pass in one turn of the loop, in order.

    Thousands that begin together, as in a `gather`, would hold the loop up for all of them.

    Args:
        most: How many pass in one turn.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed = 0
        self._waiting: Waiters[None] = Waiters()

    def try_pass(self) -> bool:
        """Pass if fewer than that have passed in this turn, and none waits."""
        is_free = self._passed < self._most and not self._waiting
        if is_free:
            self._pass()
        return is_free

    async def wait(self) -> None:
        """Pass in a later turn."""
        await self._waiting.join(lambda: None, lambda _: None)

    def _pass(self) -> None:
        if not self._passed:
            asyncio.get_running_loop().call_soon(self._next)
        self._passed += 1

    def _next(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < self._most:
            self._pass()
            self._waiting.hand(None)


class Signal:
    """Wake all waiters at once; unlike an `asyncio.Event` it stays unset."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        # A dict, so that they wake in order; none before the first waiter, since most tasks have
        # none, and there may be thousands of them.
        self._futures: dict[asyncio.Future[None], None] | None = None

    async def wait(self) -> None:
        """Wait for the next `fire`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._futures is None:
            self._futures = {}
        self._futures[future] = None
        try:
            await future
        finally:
            self._futures.pop(future, None)

    def fire(self) -> None:
        """Wake the coroutines that wait now."""
        for future in tuple(self._futures or ()):
            if not future.done():
                future.set_result(None)


def fresh(error: ApixoError) -> ApixoError:
    """Return a copy without a traceback: each waiter that raises a shared one would add to it."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin
