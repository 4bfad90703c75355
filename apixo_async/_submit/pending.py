"""The waits of a client's calls that its close ends, such as for a slot, a permit or a download."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from weakref import WeakSet

from apixo_async._sync import Bound, Signal, bound_after, fresh
from apixo_async.errors import ClientClosedError

#: Seconds that a close waits for the calls that it ends.
PATIENCE: Final = 5.0


class PendingCall(Bound):
    """A part of a call: it ends at its deadline, or when the client is closed.

    Raises:
        TimeoutError: The deadline has passed.
        ClientClosedError: The client was closed.
    """

    __slots__ = ("_calls",)

    def __init__(self, calls: PendingCalls, when: float | Callable[[], float] | None) -> None:
        super().__init__(when)
        self._calls = calls

    def __enter__(self) -> Self:
        self._calls.check()
        super().__enter__()
        self._calls.entered(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._calls.left(self)
        try:
            super().__exit__(exc_type, exc, traceback)
        except TimeoutError:
            self._calls.check()  # A close ends a call by the same timeout as its deadline.
            raise


class PendingCalls:
    """The open calls that a close ends: waits for a slot or permit, a balance, downloads.

    A POST is not among them: from its first byte on it ends by itself (invariant 8).

    Args:
        whole: The calls of which these are a part: ending it ends these, and not the reverse.
    """

    def __init__(self, whole: PendingCalls | None = None) -> None:
        self._open: set[PendingCall] = set()
        # Weak: each map is a part, and a client outlives many of them.
        self._parts: WeakSet[PendingCalls] = WeakSet()
        self._left: Signal = Signal() if whole is None else whole._left
        self._reason: ClientClosedError | None = None if whole is None else whole._reason
        if whole is not None:
            whole._parts.add(self)

    def open(self, deadline: float | Callable[[], float] | None = None) -> PendingCall:
        """Return the context in which a part of a call runs; see `Bound` for its deadline."""
        return PendingCall(self, deadline)

    def entered(self, call: PendingCall) -> None:
        """Note that a call has begun."""
        self._open.add(call)

    def left(self, call: PendingCall) -> None:
        """Note that a call is over."""
        self._open.discard(call)
        self._left.fire()

    def check(self) -> None:
        """Raise what closed the client, if it is closed."""
        if self._reason is not None:
            raise fresh(self._reason)

    def end(self, reason: ClientClosedError) -> None:
        """End the open calls, each with an error of its own, and refuse later ones.

        The first reason stays.
        """
        self._reason = self._reason or reason
        for call in self._open:
            call.expire()
        for part in self._parts:
            part.end(reason)

    async def aclose(self, reason: ClientClosedError, patience: float = PATIENCE) -> None:
        """End the open calls, and wait at most `patience` seconds until they have ended."""
        self.end(reason)
        with suppress(TimeoutError), bound_after(patience):
            while self._is_busy():
                await self._left.wait()

    def _is_busy(self) -> bool:
        return bool(self._open) or any(part._is_busy() for part in self._parts)
