"""The run itself: rows go into `map`, outcomes come out, and signals end it without a loss."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from types import FrameType, MappingProxyType
from typing import Final

from apixo_async import ApixoError, AsyncClient, Outcomes
from apixo_async._cli.console import Screen
from apixo_async._cli.report.samples import RunSample
from apixo_async._cli.rows.question import RowsReport
from apixo_async._cli.rows.rows import Rows
from apixo_async._cli.run.board import Rate, RunSnapshot, span, watched
from apixo_async._cli.run.closing import count
from apixo_async._cli.run.history import JournalHistory
from apixo_async._cli.run.news import Notices
from apixo_async._cli.run.order import RunOptions
from apixo_async._cli.run.service import open_client
from apixo_async._cli.run.trip import RunResult

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def first_signal(told: Callable[[signal.Signals], None]) -> Generator[None]:
    """Give the first Ctrl-C or SIGTERM to a function; the next one does what it did before.

    Args:
        told: Called on the running event loop.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _NUMBERS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(told, signal.Signals(number))

    for number in _NUMBERS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


#: Seconds for which bought tasks are waited for when a signal has ended the buying. A person
#: presses Ctrl-C again when it takes too long; whoever sends SIGTERM sends SIGKILL soon.
DRAIN: Final[Mapping[signal.Signals, float]] = MappingProxyType(
    {signal.SIGINT: 300.0, signal.SIGTERM: 5.0}
)


class Runner:
    """Buy the rows of a file, and take what comes of it.

    Args:
        order: The run.
        rows: The rows, all of them checked.
        survey: What the check has found.
        history: What the journal knew before.
        screen: Where to show it.
    """

    def __init__(
        self,
        order: RunOptions,
        rows: Rows,
        survey: RowsReport,
        history: JournalHistory,
        screen: Screen,
    ) -> None:
        self._order = order
        self._rows = rows
        self._survey = survey
        self._history = history
        self._screen = screen
        self._news = Notices(screen)
        self._pace = Rate()
        self._ending = ""
        self._title = f"apixo run: {count(survey.rows)} of {rows.source.name} into {order.out}"
        if order.simulate:
            self._title += ", simulated"

    async def buy(self, balance: Decimal | None) -> RunResult:
        """Buy until all rows are over, something ends it, or a signal does.

        Args:
            balance: USD on the account before.

        Raises:
            ApixoError: The client cannot be opened.
        """
        trip = RunResult(self._survey.rows, self._history.lines, balance)
        async with open_client(self._order, self._screen, self._news.event) as client:
            await self._take_all(client, self._map(client), trip)
            trip.balance_after = await _balance(client)
        return trip

    def _map(self, client: AsyncClient) -> Outcomes:
        order = self._order
        return client.map(
            self._rows.entries(),
            attempts=order.attempts,
            provider=order.provider,
            journal=order.journal,
            resubmit_uncertain=order.resubmit_uncertain,
            max_cost=order.terms.max_cost,
            prices=order.terms.prices,
            download_to=order.out.absolute(),
        )

    async def _take_all(self, client: AsyncClient, outcomes: Outcomes, trip: RunResult) -> None:
        began = asyncio.get_running_loop().time()

        def look() -> RunSnapshot:
            return self._look(client, outcomes, trip, began)

        async with watched(look, self._news, self._screen):
            try:
                await self._take(outcomes, trip)
            except ApixoError as error:
                trip.error = error
            except TimeoutError:
                pass  # The time to drain is over: what goes on is for the next run.
            except OSError as error:
                trip.error = error

    async def _take(self, outcomes: Outcomes, trip: RunResult) -> None:
        async with outcomes, asyncio.timeout(None) as patience:

            def told(number: signal.Signals) -> None:
                self._stop(number, outcomes, patience, trip)

            with first_signal(told):
                async for outcome in outcomes:
                    trip.note(outcome, self._news)

    def _stop(
        self, number: signal.Signals, outcomes: Outcomes, patience: asyncio.Timeout, trip: RunResult
    ) -> None:
        trip.signal = number
        outcomes.stop()
        patience.reschedule(asyncio.get_running_loop().time() + DRAIN[number])
        name = "Ctrl-C" if number is signal.SIGINT else number.name
        self._ending = (
            f"{name}: buying has ended. Bought tasks are waited for, {span(DRAIN[number])} at most;"
            " Ctrl-C leaves at once, and loses nothing."
        )
        if not self._screen.live:
            self._screen.note(self._ending, style="yellow")

    def _look(
        self, client: AsyncClient, outcomes: Outcomes, trip: RunResult, began: float
    ) -> RunSnapshot:
        counts, progress = client.statistics(), outcomes.progress
        seconds = asyncio.get_running_loop().time() - began
        trip.progress = progress
        self._pace.add(seconds, trip.finished)
        trip.recorder.add(
            RunSample(
                seconds=seconds,
                finished=trip.finished,
                in_flight=counts.slots_used,
                slots_limit=counts.slots_limit,
                requests=counts.requests_in_window,
                requests_limit=counts.requests_limit,
                spent=max(Decimal(0), progress.spent - self._history.spent),
            )
        )
        left = progress.in_progress
        if not self._ending:
            left += self._survey.rows - progress.read
        return RunSnapshot(
            title=self._title,
            rows=self._survey.rows,
            progress=progress,
            statistics=counts,
            max_cost=self._order.terms.max_cost,
            per_minute=self._pace.per_minute,
            left=self._pace.left(left),
            ending=self._ending,
        )


async def _balance(client: AsyncClient) -> Decimal | None:
    """Return the balance, where it can be had: the run is over, whatever is said of it."""
    try:
        return await client.balance()
    except ApixoError:
        return None
