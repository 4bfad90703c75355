"""What `map` returns: the outcomes of many inputs, to be iterated over."""

from __future__ import annotations

import asyncio
import warnings
from types import TracebackType
from typing import Self

from apixo_async._map.buyer import MapClient
from apixo_async._map.items import Inputs, Outcome, check_inputs
from apixo_async._map.options import Amount, Options
from apixo_async._map.progress import Progress
from apixo_async._map.reconciliation import Reconciliation
from apixo_async._map.runner import MapRunner, MapState
from apixo_async._validation import check_amount
from apixo_async.errors import ApixoError


class Outcomes:
    """The outcomes of many inputs: an async iterator, and an async context manager.

    ::

        async with client.map(inputs) as outcomes:
            async for outcome in outcomes:
                ...

    Each input that is read has one outcome. Inputs are read as slots come free and as outcomes are
    taken: the outcomes of at most twice the client's tasks at once, plus 32, are to come or not
    taken yet. Several coroutines may take from one `Outcomes`.

    Leaving the context, by `break` too, stops the buying and waits until every bought task is over;
    an exception in its body waits only for the POSTs under way. In either case the outcomes that
    were not taken can still be iterated over; those that are not are handed to `on_orphan` when
    this object is collected. A cancellation of that wait ends it at once, and leaves the POSTs to
    the client, which hands what they bought to `on_orphan`.

    Without the context, iterate to the end.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, map_client: MapClient, inputs: Inputs, options: Options) -> None:
        self._run = MapRunner(map_client, check_inputs(inputs), options)

    @property
    def progress(self) -> Progress:
        """The counts of this instant."""
        return self._run.progress

    @property
    def ended_by(self) -> ApixoError | None:
        """What ended the buying early, such as an empty account, or None."""
        return self._run.ended_by

    def stop(self) -> None:
        """Read and buy no more; the outcomes of what was bought still come."""
        self._run.stop()

    async def reconcile(self, before: Amount | None = None) -> Reconciliation:
        """Compare the fall of the balance with what was bought: what became of uncertain submits?

        That is advice, and buys nothing. It holds if nothing else used the key meanwhile, this
        client included, and nothing was refunded or added. Call it when all outcomes are taken, and
        before the client is closed.

        Args:
            before: What `client.balance()` was before the map began; for a map without a journal.
                One with a journal asks by itself, and compares from the run on that began last
                before the oldest uncertain submit.

        Raises:
            ConfigurationError: The map is not over, or `before` is missing, or too many.
            JournalError: The journal cannot be read.
            ApixoError: The balance cannot be had; as `client.balance` says.
        """
        return await self._run.reconcile(None if before is None else check_amount("before", before))

    def _start(self) -> MapRunner:
        self._run.start()
        self._loop = asyncio.get_running_loop()
        return self._run

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """Wait for the next outcome.

        Raises:
            ApixoError: What ended the buying, such as a wrong key or an empty account; raised
                once, after the outcomes of all that was bought, unless `raise_at_end` is False.
            ConfigurationError: The map goes on, or ended, on another event loop.
            Exception: What the iterable of the inputs raised, likewise.
        """
        return await self._start().take()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run = self._run
        run.stop()
        try:
            if exc_type is None:
                await run.drained()
        finally:
            await run.close()

    def __del__(self) -> None:
        loop = self._loop
        if loop is None or self._run.is_taken:
            return
        if loop.is_closed():
            self._run.hand_over_untaken()
            return
        loop.call_soon_threadsafe(self._run.give_away)
        if self._run.state < MapState.STOPPED:
            warnings.warn(
                f"{self!r} was dropped before its end: use it as a context manager",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        counts = self._run.progress
        return (
            f"<Outcomes {counts.read} read, {counts.in_progress} in progress, "
            f"{counts.succeeded} succeeded>"
        )
