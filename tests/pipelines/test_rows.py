"""Rows, bought as an engine does it: from any event loop, in any process, and again."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from apixo_async import ConfigurationError
from apixo_async.pipelines import RowBuyer
from apixo_async.testing import Fault, Simulator, serve_thread
from apixo_async.testing.memory_store import MemoryStore

pytestmark = pytest.mark.realtime

FIELDS = {"prompt": "caption"}


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(seed=1, speed=1000.0, key="test-key")


@pytest.fixture
def buyers(simulator: Simulator) -> Iterator[Any]:
    """Make buyers of this simulator, which are closed in the end."""
    made: list[RowBuyer] = []
    store = MemoryStore()

    def buyer(run: str = "run", **options: Any) -> RowBuyer:
        given = {"model": "gpt-image-2", "fields": FIELDS, "key": "id", "store": store, **options}
        given |= {"transport": simulator.transport(), "polling": simulator.polling}
        made.append(RowBuyer(run, api_key="test-key", **given))
        return made[-1]

    yield buyer
    for each in made:
        each.close()


def rows(count: int) -> list[dict[str, object]]:
    return [{"id": number, "caption": f"castle {number}"} for number in range(count)]


def bought(buyer: RowBuyer, *given: Mapping[str, object]) -> list[dict[str, Any]]:
    """Buy rows on an event loop that ends then."""
    return asyncio.run(buyer.buy_all(given))


def test_a_row_is_bought_once(simulator: Simulator, buyers: Any) -> None:
    """Again, by another process or in another loop, it is the same task; another run buys anew."""
    buyer, other = buyers(), buyers()
    first = bought(buyer, *rows(3))
    assert {row["state"] for row in first} == {"success"}
    assert [row["key"] for row in first] == ["run/0", "run/1", "run/2"]
    assert bought(buyer, *rows(3)) == bought(other, *rows(3)) == first
    assert simulator.created == 3
    assert bought(buyers("tuesday"), *rows(3)) != first
    assert simulator.created == 6


def test_the_columns_are_those_that_were_announced(buyers: Any) -> None:
    """Of success and failure alike, each of its type or None."""
    buyer = buyers(read=True, prefix="image_")
    for row in bought(buyer, rows(1)[0], {"id": 7, "caption": ""}):
        assert row.keys() == buyer.adds.keys()
        for name, kind in buyer.adds.items():
            assert row[name] is None or isinstance(row[name], getattr(kind, "__origin__", kind))
    assert {"image_urls", "image_cost", "image_category", "image_data"} <= buyer.adds.keys()


def test_files_are_read_or_saved(buyers: Any, tmp_path: Path) -> None:
    """Their bytes are a column, their paths another; a second time they are there already."""
    buyer = buyers(read=True, download_to=tmp_path)
    for _ in range(2):
        [row] = bought(buyer, rows(1)[0])
        assert [Path(path).read_bytes() for path in row["paths"]] == row["data"]
        assert len(row["data"]) == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": 1, "caption": ""}, "prompt: string should have at least 1 character"),
        ({"id": 1, "caption": None}, "prompt: is required"),
        ({"id": 1, "caption": float("nan")}, "prompt: is required"),
        ({"id": 1, "caption": [1]}, "prompt: "),
        ({"id": None, "caption": "a"}, "id: None given; a key is a str or an int"),
        ({"id": 1.5, "caption": "a"}, "id: 1.5 given"),
        ({"id": True, "caption": "a"}, "id: True given"),
        ({"id": "", "caption": "a"}, "id: '' given"),
        ({"id": "x" * 300, "caption": "a"}, "key: 304 characters given"),
        ({"id": "a\0b", "caption": "a"}, "character that no database keeps"),
    ],
)
def test_what_is_wrong_with_a_row_is_data(
    simulator: Simulator, buyers: Any, row: dict[str, object], words: str
) -> None:
    """It is not bought, and the others are."""
    wrong, good = bought(buyers(), row, rows(10)[9])
    assert (wrong["state"], wrong["category"], wrong["cost"]) == ("unbought", "configuration", 0.0)
    assert words in wrong["error"]
    assert (good["state"], good["error"]) == ("success", None)
    assert simulator.created == 1


def test_failures_are_data(simulator: Simulator, buyers: Any) -> None:
    """What becomes of a task, or of its submit, is in the columns, and stays so."""
    simulator.faults.submit(Fault.task_fails("NSFW"), Fault.lost_answer(), Fault.status(402))
    buyer = buyers()
    [failed], [doubted], [unpaid] = (bought(buyer, row) for row in rows(3))
    assert (failed["state"], failed["category"]) == ("failed", "content")
    assert failed["task_id"]
    assert (doubted["state"], doubted["category"], doubted["cost"]) == (
        *("uncertain", "uncertain", None),
    )
    assert (unpaid["state"], unpaid["category"]) == ("unbought", "balance")
    again = [bought(buyer, row)[0]["state"] for row in rows(3)]
    assert again == ["failed", "uncertain", "success"]


def test_equal_inputs_without_a_key(simulator: Simulator, buyers: Any) -> None:
    """They are one purchase, whatever the order of their fields."""
    buyer = buyers(key=None, values={"resolution": "2k"})
    one, other, third = bought(buyer, *({"caption": word} for word in ("a", "a", "b")))
    assert one == other != third
    assert simulator.created == 2


def test_what_is_wrong_with_all_rows_is_raised(simulator: Simulator, buyers: Any) -> None:
    """Before anything is bought."""
    with pytest.raises(ConfigurationError, match=r"no column 'caption'; there are \['id'\]"):
        bought(buyers(), {"id": 1})
    with pytest.raises(ConfigurationError, match="a column 'urls' is there already"):
        bought(buyers(), {"id": 1, "caption": "a", "urls": []})
    with pytest.raises(ConfigurationError, match="unsafe_without_store=True"):
        RowBuyer("run", model="gpt-image-2", fields=FIELDS)
    with pytest.raises(ConfigurationError, match="run: 0 characters given"):
        buyers("")
    with pytest.raises(ConfigurationError, match="run: 'a/b' given; it has no '/'"):
        buyers("a/b")
    assert simulator.created == 0


class Broken:
    """A cell of which nothing can be known."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def tolist(self) -> object:
        raise RuntimeError("no list")


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    "cell", [10**5000, deep(100_000), Broken(), ValueError("bad utf8")], ids=lambda cell: type(cell)
)
@pytest.mark.parametrize("column", ["id", "caption"])
def test_a_cell_that_is_anything(
    simulator: Simulator, buyers: Any, column: str, cell: object
) -> None:
    """It is the affair of its row only."""
    wrong, good = bought(buyers(), rows(1)[0] | {column: cell}, rows(10)[9])
    assert (wrong["state"], wrong["category"]) == ("unbought", "configuration")
    assert good["state"] == "success"
    assert simulator.created == 1


WRONG: dict[str, dict[str, Any]] = {
    "prmpt: is no field": {"fields": {"prmpt": "caption"}},
    "prompt: is required": {"fields": {"resolution": "caption"}},
    "resolution: ": {"values": {"resolution": "9k"}},
    "zzz: is no field": {"values": {"zzz": 1}},
    "prompt: it is in `fields` and in `values`": {"values": {"prompt": "a castle"}},
    "fields: 'prompt' given": {"fields": "prompt"},
    "columns by field": {"fields": {"prompt": ["caption"]}},
    "fields: {} given": {"fields": {}},
    "model: 'GPT image 2!' given": {"model": "GPT image 2!"},
    "model: 5 given": {"model": 5},
    "provider: 'nope' given": {"provider": "nope"},
    "no option 'retries'": {"retries": 3},
    "100 characters at most": {"run": "x" * 101},
}


@pytest.mark.parametrize("words", WRONG)
def test_what_makes_no_buyer(words: str) -> None:
    """What is the same for all rows is checked before any is seen."""
    given: dict[str, Any] = {"run": "run", "model": "gpt-image-2", "fields": FIELDS, "store": "x"}
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        RowBuyer(**given | WRONG[words])


def test_a_folder_that_cannot_be_written(simulator: Simulator, buyers: Any) -> None:
    """Nothing is bought that could not be saved."""
    with pytest.raises(ConfigurationError, match="download_to: /proc/nope"):
        bought(buyers(download_to="/proc/nope"), rows(1)[0])
    assert simulator.created == 0


def test_after_it_was_closed(simulator: Simulator, buyers: Any) -> None:
    """It opens again; closing twice is closing once."""
    buyer = buyers()
    for _ in range(2):
        [row] = bought(buyer, rows(1)[0])
        buyer.close()
        buyer.close()
    assert row["state"] == "success"
    assert simulator.created == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads
def test_a_fork(simulator: Simulator, buyers: Any) -> None:
    """In the child it says so, and a new one works; the parent's goes on."""
    buyer = buyers()
    bought(buyer, rows(1)[0])
    child = os.fork()
    if child == 0:
        status = 1
        with pytest.raises(ConfigurationError, match="before the process forked"):
            bought(buyer, rows(2)[1])
        status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert bought(buyer, rows(2)[1])[0]["state"] == "success"
    assert simulator.created == 2


def test_without_a_store_each_run_buys(simulator: Simulator, buyers: Any) -> None:
    """As was accepted."""
    buyer = buyers(store=None, unsafe_without_store=True)
    assert [bought(buyer, rows(1)[0])[0]["state"] for _ in range(2)] == ["success"] * 2
    assert simulator.created == 2


def test_it_is_sent_without_its_client() -> None:
    """A copy in another process makes its own; what is shown of it holds no API key."""
    buyer = RowBuyer("run", model="gpt-image-2", fields=FIELDS, store="x.db", api_key="sk-secret")
    copy = pickle.loads(pickle.dumps(buyer))
    assert (copy.reads, copy.adds) == (buyer.reads, buyer.adds)
    assert repr(copy) == "<RowBuyer 'run' of gpt-image-2>"


def test_a_caller_that_is_cancelled(simulator: Simulator, buyers: Any) -> None:
    """What was bought is found by the next one."""
    simulator.faults.submit(Fault.task_lasts(700.0))
    buyer = buyers()

    async def cancelled() -> None:
        buying = asyncio.create_task(buyer.buy_all(rows(1)))
        while not simulator.created:  # noqa: ASYNC110  # another thread counts it
            await asyncio.sleep(0.01)
        buying.cancel()
        await asyncio.wait([buying])
        assert buying.cancelled()

    asyncio.run(cancelled())
    assert bought(buyer, rows(1)[0])[0]["state"] == "success"
    assert simulator.created == 1


PROGRAM = """
import asyncio, sys
from apixo_async.pipelines import RowBuyer

buyer = RowBuyer("run", model="gpt-image-2", fields={"prompt": "caption"}, key="id",
                 store=sys.argv[2], api_key="test-key", base_url=sys.argv[1],
                 on_event=lambda event: print(type(event).__name__))
row = {"id": 1, "caption": "a castle"}
print(asyncio.run(buyer.buy(row))["task_id"])
"""


def test_the_end_of_a_process_closes_its_client(simulator: Simulator, tmp_path: Path) -> None:
    """Nobody has to think of it, and nothing is written to stderr."""
    found: list[str] = []
    with serve_thread(simulator) as url:
        for _ in range(2):
            ran = subprocess.run(
                [sys.executable, "-c", PROGRAM, url, str(tmp_path / "apixo.db")],
                capture_output=True,
                text=True,
                timeout=90,
                check=True,
            )
            assert ran.stderr == ""
            task_id, closed = ran.stdout.split()[-2:]
            assert closed == "ClientClosed"
            found.append(task_id)
    assert found[0] == found[1]
    assert simulator.created == 1
