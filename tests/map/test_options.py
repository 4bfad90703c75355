"""The options of a map: what is taken, and what is refused with the value in the message."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import AsyncClient, ConfigurationError
from apixo_async._map.options import Options
from apixo_async.errors import FAILURE_CATEGORIES


def test_defaults() -> None:
    """Without options nothing is journalled, bounded or saved."""
    options = Options.checked()
    assert (options.journal, options.target, options.attempts) == (None, None, 1)
    assert (options.ordered, options.resubmit_uncertain) == (False, False)
    assert options.budget.usd is None


@pytest.mark.parametrize(
    ("given", "amount"),
    [(25, "25"), (0.1, "0.1"), ("0.35", "0.35"), (Decimal("1.5"), "1.5"), (0, "0")],
)
def test_amounts(given: Any, amount: str) -> None:
    """USD are read by their digits."""
    options = Options.checked(max_cost=given, prices={"sora-2": given})
    assert options.budget.usd == Decimal(amount)
    assert options.prices == {"sora-2": Decimal(amount)}


def test_paths() -> None:
    """Paths may be of either kind."""
    options = Options.checked(journal=Path("a/run.db"), download_to="out")
    assert (options.journal, options.target) == (str(Path("a/run.db")), Path("out"))


@pytest.mark.parametrize(
    ("given", "retried"),
    [
        ((), set()),
        (False, set()),
        (True, set(FAILURE_CATEGORIES)),
        (["timeout", "content", "timeout"], {"timeout", "content"}),
        ({"unknown"}, {"unknown"}),
    ],
)
def test_what_is_retried(given: Any, retried: set[str]) -> None:
    """True stands for every category of a failed task, a list for those in it."""
    assert Options.checked(retry=given).retry == retried


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_cost": -1}, "max_cost: -1 given; USD"),
        ({"max_cost": True}, "max_cost: True given"),
        ({"max_cost": float("nan")}, "max_cost: nan given"),
        ({"max_cost": "much"}, "max_cost: 'much' given"),
        ({"max_cost": [1]}, r"max_cost: \[1\] given"),
        ({"prices": 0.5}, r"prices: 0\.5 given; a mapping"),
        ({"prices": {"sora-2": -1}}, r"prices\['sora-2'\]: -1 given"),
        ({"prices": {"no model": 1}}, "prices: "),
        ({"prices": {7: 1}}, "prices: "),
        ({"journal": 7}, "journal: 7 given; a path"),
        ({"journal": b"run.db"}, "journal: b'run.db' given"),
        ({"journal": ""}, "journal: '' given"),
        ({"journal": "a\0b"}, "journal: "),
        ({"download_to": ""}, "download_to: '' given"),
        ({"name": "{row}"}, "name: .*give both"),
        ({"name": "{rows}", "download_to": "out"}, "name: {rows} .* is no field"),
        ({"name": "../{row}", "download_to": "out"}, "name: '../{row}' holds '/'"),
        ({"name": "", "download_to": "out"}, "name: '' given"),
        ({"resubmit_uncertain": 1}, "resubmit_uncertain: 1 given"),
        ({"resubmit_uncertain": "key"}, "True, False, or keys of items"),
        ({"retry": "timeout"}, "retry: 'timeout' given; True, or a list"),
        ({"retry": 1}, "retry: 1 given"),
        ({"retry": ["timeout", "uncertain"]}, "retry: 'uncertain' given; a task fails for content"),
        ({"raise_at_end": None}, "raise_at_end: None given"),
    ],
)
def test_wrong_options(given: dict[str, Any], said: str) -> None:
    """A wrong option is refused when the map is made, with its value."""
    client = AsyncClient("test-key")
    with pytest.raises(ConfigurationError, match=said):
        client.map([], **given)
