"""What to do after a run, each with the command that does it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Final, NamedTuple

from apixo_async import BudgetExceededError
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.run.order import Order
from apixo_async._cli.run.trip import Trip

#: Of rows that ended so, the same command tries again what is free.
_FREE: Final = (ExitCode.NOT_SAVED, ExitCode.NO_ANSWER)
_CENT: Final = Decimal("0.01")


class Step(NamedTuple):
    """One thing that can be done next.

    Attributes:
        why: What it is for.
        command: The command that does it, ready to be pasted.
    """

    why: str
    command: str


def steps(order: Order, rows: Path, estimated: Decimal, trip: Trip) -> Iterator[Step]:
    """Yield what can be done after a run.

    Args:
        order: The run.
        rows: The file of its rows.
        estimated: USD that all rows cost.
        trip: What it came to.
    """
    if isinstance(trip.error, BudgetExceededError):
        enough = order.terms._replace(max_cost=estimated.quantize(_CENT, ROUND_UP))
        yield Step("To buy all rows:", order._replace(terms=enough).command_to_go_on(rows))
    elif trip.is_cut_short:
        yield Step("To go on where this ended, run the same again:", order.command_to_go_on(rows))
    else:
        yield from _after_all_rows(order, rows, trip)
    if uncertain := trip.codes[ExitCode.UNCERTAIN]:
        why = (
            f"{count(uncertain)} may have been bought, and nobody can know: look at your account."
            " To buy what is uncertain anew, at the risk of paying twice:"
        )
        yield Step(why, order._replace(resubmit_uncertain=True).command(rows))


def _after_all_rows(order: Order, rows: Path, trip: Trip) -> Iterator[Step]:
    if any(trip.codes[code] for code in _FREE):
        why = "To fetch what was not saved or not over, at no cost, run the same again:"
        yield Step(why, order.command_to_go_on(rows))
    if trip.retryable:
        more = order._replace(attempts=order.attempts + 1)
        why = f"To buy {count(trip.retryable)} again whose failure may pass:"
        yield Step(why, more.command_to_go_on(rows))


def count(rows: int) -> str:
    """Write a number of rows."""
    return "1 row" if rows == 1 else f"{rows:,} rows"
