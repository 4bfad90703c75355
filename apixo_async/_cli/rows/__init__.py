"""The input side of `apixo run`: rows are read, checked, added up, and agreed to.

rows = open_rows(given, out=out, form=form, defaults=Defaults(model, parse_sets(sets)))
survey = check(rows, is_bought=journal_knows)
show(rows.source, survey.priced(terms.prices), screen)
carry_out(decide(survey, terms, standing), screen)
client.map(rows.entries(), ...)
"""

from __future__ import annotations

from apixo_async._cli.rows.cells import parse_amount, parse_prices
from apixo_async._cli.rows.formats import Format
from apixo_async._cli.rows.question import AccountState, Terms, carry_out, decide, is_attended, show
from apixo_async._cli.rows.rows import Defaults, Rows, open_rows
from apixo_async._cli.rows.survey import RowsReport, check

__all__ = [
    "AccountState",
    "Defaults",
    "Format",
    "Rows",
    "RowsReport",
    "Terms",
    "carry_out",
    "check",
    "decide",
    "is_attended",
    "open_rows",
    "parse_amount",
    "parse_prices",
    "show",
]
