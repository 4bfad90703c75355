"""A bar is drawn where somebody sees it, by whichever library is there, and it always ends."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import AsyncIterator, Iterable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from apixo_async import ApixoError, AsyncClient, AuthenticationError, ConfigurationError, Progress
from apixo_async._map import bar
from apixo_async._map.bar import check_progress, open_bar
from apixo_async.testing import Simulator

from ..support.maps import castle, castles, until_raised


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


class Drawn:
    """Stands for tqdm: what it was asked to draw."""

    made: list[Drawn]

    def __init__(self, **options: object) -> None:
        self.options = options
        self.n = 0
        self.words = ""
        self.closed = 0
        Drawn.made.append(self)

    def set_postfix_str(self, words: str, *, refresh: bool) -> None:
        assert not refresh  # `update` draws, when it is time to.
        self.words = words

    def update(self, more: int) -> None:
        self.n += more

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have a function that leaves only these libraries installed."""

    def leave(*names: str) -> None:
        def find_spec(name: str) -> ModuleSpec | None:
            return ModuleSpec(name, None) if name in names else None

        monkeypatch.setattr(bar, "find_spec", find_spec)

    return leave


@pytest.fixture
def tqdm(monkeypatch: pytest.MonkeyPatch, only: Any) -> list[Drawn]:
    """Have tqdm only, and what it was asked for."""
    only("tqdm")
    Drawn.made = []
    module = ModuleType("tqdm.auto")
    module.__dict__["tqdm"] = Drawn
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return Drawn.made


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    """Have a client of a simulator."""
    async with AsyncClient("test-key", transport=Simulator(seed=1).transport()) as client:
        yield client


def test_without_a_library_it_says_which(only: Any) -> None:
    """A bar that nothing can draw is refused at the call, naming both libraries."""
    only()
    assert check_progress(False) is False
    with pytest.raises(ConfigurationError, match=r"rich or tqdm: .*apixo-async\[cli\].* tqdm"):
        check_progress(True)
    with pytest.raises(ConfigurationError, match="progress: 1 given; True or False"):
        check_progress(1)


@pytest.mark.parametrize(
    ("installed", "notebook", "drawn_by"),
    [
        (("rich", "tqdm"), False, "rich"),
        (("rich", "tqdm"), True, "tqdm"),
        (("rich",), True, "rich"),
        (("tqdm",), False, "tqdm"),
    ],
)
def test_which_library(
    only: Any,
    monkeypatch: pytest.MonkeyPatch,
    installed: Iterable[str],
    notebook: bool,
    drawn_by: str,
) -> None:
    """Rich draws in terminals, above what is printed; tqdm in notebooks; either for the other."""
    only(*installed)
    monkeypatch.setattr(bar, "in_notebook", lambda: notebook)
    assert bar._drawn_by() == drawn_by


@pytest.mark.parametrize("terminal", [True, False])
def test_rich_draws_in_a_terminal_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """Counts, failures and money are drawn to stderr; where that is a file, not a byte is."""
    written = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("TERM", "xterm")
    one = open_bar(20)
    one.show(Progress(read=9, in_progress=2, succeeded=6, failed=1, spent=castle(1).price * 9))
    one.close()
    one.close()
    shown = written.getvalue()
    assert bool(shown) == terminal
    assert terminal == ("7/20" in shown) == ("1 without a result, $0.27" in shown)


@pytest.mark.parametrize("notebook", [True, False])
def test_tqdm_draws_in_terminals_and_notebooks(
    tqdm: list[Drawn], monkeypatch: pytest.MonkeyPatch, notebook: bool
) -> None:
    """Outside of notebooks tqdm is asked to look for a terminal itself."""
    monkeypatch.setattr(bar, "in_notebook", lambda: notebook)
    one = open_bar(None)
    one.show(Progress(read=9, in_progress=2, succeeded=7, unpriced=7))
    one.show(Progress(read=9, succeeded=9, unpriced=9))
    assert tqdm[0].options == {
        "total": None,
        "unit": "input",
        "disable": False if notebook else None,
    }
    assert (tqdm[0].n, tqdm[0].words) == (9, "9 of unknown price")


async def test_a_map_draws_one_bar(client: AsyncClient, tqdm: list[Drawn]) -> None:
    """The bar counts the outcomes, of as many as the inputs say, and is closed with the last."""
    outcomes = client.map(castles(5), progress=True)
    assert tqdm == []  # Nothing is drawn before the first input is read.
    async for _ in outcomes:
        pass
    (drawn,) = tqdm
    assert (drawn.options["total"], drawn.n, drawn.closed) == (5, 5, 1)
    assert drawn.words == "$0.15"
    async with client.map((castle(n) for n in range(2)), progress=True) as unknown:
        async for _ in unknown:
            pass
    assert (tqdm[1].options["total"], tqdm[1].n, tqdm[1].closed) == (None, 2, 1)
    async for _ in client.map(castles(2)):
        pass
    assert len(tqdm) == 2


async def test_an_early_leave_closes_it(client: AsyncClient, tqdm: list[Drawn]) -> None:
    """An exception in the block, a break and what ends the buying leave no bar open."""

    async def leave() -> None:
        async with client.map(castles(9), progress=True) as outcomes:
            await anext(outcomes)
            raise LookupError

    with pytest.raises(LookupError):
        await leave()
    assert tqdm[-1].closed == 1
    async with client.map(castles(9), progress=True) as outcomes:
        async for _ in outcomes:
            break
    assert tqdm[-1].closed == 1
    simulator = Simulator(seed=1)
    async with AsyncClient("wrong-key", transport=simulator.transport()) as stranger:
        _, error = await until_raised(stranger.map(castles(9), progress=True))
    assert isinstance(error, AuthenticationError)
    assert tqdm[-1].closed == 1
    outcomes = client.map(castles(9), progress=True)
    await anext(outcomes)
    outcomes._run.give_away()
    assert tqdm[-1].closed == 1


async def test_a_closed_client_opens_none(tqdm: list[Drawn]) -> None:
    """A map that cannot begin draws nothing."""
    client = AsyncClient("test-key", transport=Simulator().transport())
    await client.aclose()
    with pytest.raises(ApixoError):
        await anext(client.map(castles(1), progress=True))
    assert tqdm == []


async def test_a_bar_that_fails_ends_nothing(
    client: AsyncClient,
    tqdm: list[Drawn],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the library raises, such as a closed stderr, is logged; the outcomes come."""

    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Drawn, "update", broken)
    monkeypatch.setattr(Drawn, "close", broken)
    with caplog.at_level(logging.ERROR, "apixo_async"):
        taken = [outcome async for outcome in client.map(castles(3), progress=True)]
    assert [outcome.ok for outcome in taken] == [True] * 3
    assert len(tqdm) == 1
    assert "progress raised" in caplog.text
