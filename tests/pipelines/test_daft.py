"""Daft: errors of rows are columns, and a query that is run again buys nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import daft
import pytest

from apixo_async import ConfigurationError
from apixo_async.pipelines import RowBuyer
from apixo_async.pipelines.daft import buy_rows
from apixo_async.testing import Simulator, serve_thread

from ..support.row_buyers import buyer_of

pytestmark = [pytest.mark.realtime, pytest.mark.heavy]

ROWS = 2_000


def test_a_query_that_is_run_again(tmp_path: Path) -> None:
    """One row in twenty fails; all have the same outcome again, and none is bought twice."""
    simulator = Simulator(seed=1, key="test-key", speed=50, failure_rate=0.05)
    captions = [f"castle {number}" for number in range(ROWS)]
    frame = daft.from_pydict({"id": [*range(ROWS)], "caption": captions})
    with serve_thread(simulator) as url, buyer_of(url, tmp_path) as buyer:
        first, again = (buy_rows(frame, buyer).sort("id").to_pydict() for _ in range(2))
    assert first == again
    assert first["caption"] == captions
    states = Counter(first["state"])
    assert states.keys() == {"success", "failed"}
    assert 50 <= states["failed"] <= 150
    assert simulator.created == simulator.count("submit") == ROWS
    assert all(error is None or "task_" in error for error in first["error"])


def test_a_table_that_does_not_fit() -> None:
    """It is refused before anything runs."""
    buyer = RowBuyer(
        *("run",), model="gpt-image-2", fields={"prompt": "caption"}, unsafe_without_store=True
    )
    with pytest.raises(ConfigurationError, match="no column 'caption'"):
        buy_rows(daft.from_pydict({"prompt": ["a castle"]}), buyer)
    with pytest.raises(ConfigurationError, match="give the new ones a `prefix=`"):
        buy_rows(daft.from_pydict({"caption": ["a castle"], "state": ["new"]}), buyer)
