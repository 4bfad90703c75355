"""The framework of the benchmarks: the table, the questions, and processes that end."""

from __future__ import annotations

import asyncio
import json
import operator
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

# Behind everything that is installed, so that the package stays the installed one.
sys.path.append(str(Path(__file__).parents[1]))

import benchmarks.__main__ as command
from apixo_async._polling.schedule import Capacity
from benchmarks import Options, Row, by_hand, journal, otel, scale, tasks_at_once
from benchmarks.measuring import (
    TurnSelector,
    cpu_of,
    in_child,
    interleaved,
    median,
    metered,
    received,
    serving,
)
from benchmarks.peers.clients import PEERS
from benchmarks.schedules import Candidate
from benchmarks.tasks_at_once import Outcome

OPTIONS = Options(tasks=10)
SLOW = journal.Sample(rate=949.0, cpu=0.002, freeze=0.11)
QUICK = journal.Sample(rate=1000.0, cpu=0.001, freeze=0.05)
FLAT = journal.Growth(early=50, end=60, cpu=10.0, wall=12.0, freeze=0.1)
GOOD = Outcome(
    returned=10,
    created=10,
    requests=30,
    submitted=0.5,
    wall=21.0,
    cpu=1.0,
    freeze=0.05,
    server_cpu=1.0,
    errors="",
)

BY_HAND = by_hand.Outcome(
    results=10,
    bought_twice=0,
    lost=0,
    wall=40.0,
    opening=0.1,
    cpu=0.004,
    freeze=0.05,
    work=0.04,
    refused=0,
    requests=4.0,
    delays=[1.0, 2.0],
)
CROWD = scale.Crowd(cpu=2.0, collecting=0.1, freeze=0.15, work=0.1, requests=1000, wall=30.0)
MAPPED = scale.Mapped(inputs=200, cpu=2.0, wall=3.0, peak=100, journal=400)


def question(*rows: Row, **names: object) -> SimpleNamespace:
    """Return a question that answers with these rows, and notes how it was asked."""
    asked: list[Options] = []

    def run(options: Options) -> Iterator[Row]:
        asked.append(options)
        yield from rows

    return SimpleNamespace(run=run, asked=asked, **names)


def test_table() -> None:
    """A question is told once, a bar is escaped, and what was not reached stands out."""
    rows = [
        Row("Fast?", "a | b", "0.5x", "1 against 2 s", "at most 1x", True),
        Row("Fast?", "c", "2.0x", "4 against 2 s", "at most 1x", False),
        Row("Small?", "d", "-", "3 kB"),
    ]
    lines = list(command.table(rows))
    assert lines[0].count("|") == lines[1].count("|") == 7
    assert lines[2:] == [
        "| Fast? | a \\| b | 0.5x | 1 against 2 s | at most 1x | yes |",
        "|  | c | 2.0x | 4 against 2 s | at most 1x | **no** |",
        "| Small? | d | - | 3 kB |  |  |",
    ]


def test_an_unknown_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A name that is no question ends at once, and tells those that are."""
    with pytest.raises(SystemExit, match="2"):
        command.main(["nothing", "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert "there is no nothing" in said
    assert "tasks_at_once" in said.rpartition("there is")[2]


@pytest.mark.parametrize("option", ["--rounds=-1", "--rounds=0", "--tasks=0", "--seconds=0"])
def test_a_number_that_makes_no_sense(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured zero times."""
    monkeypatch.setattr(command, "find_questions", dict)
    with pytest.raises(SystemExit, match="2"):
        command.main([option])
    assert "above zero" in capsys.readouterr().err


def test_questions_are_the_modules_that_run() -> None:
    """A module of the package is a question when it has a `run`."""
    assert "tasks_at_once" in command.find_questions()
    assert not {"measuring", "plots", "peers", "__main__"} & command.find_questions().keys()


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The named question is asked, its rows are printed, and the file holds the same."""
    asked, other = question(Row("Fast?", "a", "1x", "1 s")), question()
    monkeypatch.setattr(command, "find_questions", lambda: {"asked": asked, "other": other})
    command.main(["asked", "--rounds", "3", "--out", str(tmp_path / "new")])
    printed = capsys.readouterr()
    assert "| Fast? | a | 1x | 1 s |" in printed.out
    assert (tmp_path / "new" / "table.md").read_text("utf-8") == printed.out
    assert asked.asked == [Options(rounds=3, out=tmp_path / "new")]
    assert other.asked == []
    assert "asked: 0 s" in printed.err


def test_rounds() -> None:
    """A question has its own number of rounds until another is asked for."""
    short, usual = question(ROUNDS=1), question()
    list(command.answers({"short": short, "usual": usual}, OPTIONS, None))
    list(command.answers({"short": short}, OPTIONS, 7))
    assert [options.rounds for options in short.asked + usual.asked] == [1, 7, 5]


def test_a_module_that_is_missing() -> None:
    """What is not installed gives a row that says so, and the next question is asked."""

    def run(_options: Options) -> Iterator[Row]:
        yield Row("Fast?", "a", "1x", "1 s")
        raise ModuleNotFoundError("No module named 'peer'", name="peer")

    after = question(Row("Small?", "b", "1x", "1 kB"))
    rows = list(command.answers({"fast": SimpleNamespace(run=run), "small": after}, OPTIONS, None))
    assert [row.measured for row in rows] == ["a", "peer is not installed", "b"]
    assert rows[1].reached is None


def test_a_peer_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are measured without it; targets are judged against those that are there."""
    outcomes = {"ours": [GOOD], "fal-client": [replace(GOOD, cpu=4.0, returned=0)]}
    monkeypatch.setattr(
        tasks_at_once, "is_installed", lambda module: module in ("apixo_async", "fal_client")
    )
    monkeypatch.setattr(tasks_at_once.importlib.metadata, "version", lambda _name: "1.0")
    monkeypatch.setattr(tasks_at_once, "interleaved", lambda _rounds, asked: pick(outcomes, asked))
    monkeypatch.setattr(tasks_at_once, "_draw", lambda *_args: None)
    rows = list(tasks_at_once.run(OPTIONS))
    assert [row.reached for row in rows[:4]] == [True, True, True, True]
    assert [row.ratio for row in rows[:4]] == ["1.00x", "1.05x", "0.50x", "0.25x"]
    assert [row.measured for row in rows[4:6]] == [
        "httpx-aiohttp is not installed",
        "openai is not installed",
    ]
    assert (rows[6].ratio, rows[6].reached) == ("-", None)


def pick(outcomes: dict[str, list[Outcome]], asked: dict[str, object]) -> dict[str, list[Outcome]]:
    """Return the outcomes of those that were asked, and of no others."""
    assert outcomes.keys() == asked.keys() <= PEERS.keys()
    return outcomes


def test_targets_that_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One lost result, a late one, a long freeze and more CPU than a peer are each a miss."""
    bad = replace(GOOD, returned=9, wall=22.1, freeze=0.11, cpu=4.1)
    outcomes = {name: [bad, GOOD, bad] for name in PEERS}
    outcomes["openai"] = outcomes["fal-client"] = [replace(GOOD, cpu=4.0)]
    monkeypatch.setattr(tasks_at_once, "is_installed", lambda _module: True)
    monkeypatch.setattr(tasks_at_once.importlib.metadata, "version", lambda _name: "1.0")
    monkeypatch.setattr(tasks_at_once, "interleaved", lambda _rounds, asked: pick(outcomes, asked))
    monkeypatch.setattr(tasks_at_once, "_draw", lambda *_args: None)
    rows = list(tasks_at_once.run(OPTIONS))
    assert [row.reached for row in rows] == [False] * 8 + [None] * 2


@pytest.mark.parametrize(
    ("kept", "growth", "reached"),
    [
        (QUICK, FLAT, [True, True, None, True, True, True]),
        (SLOW, FLAT._replace(end=61, freeze=0.11), [False, False, None, False, False, False]),
    ],
)
def test_the_cost_of_a_journal(
    kept: journal.Sample,
    growth: journal.Growth,
    reached: list[bool | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Throughput, freezes and memory have targets; beyond the machine there is none."""
    monkeypatch.setattr(journal, "interleaved", lambda *_: {"with": [kept], "without": [QUICK]})
    monkeypatch.setattr(journal, "in_child", lambda *_: growth)
    rows = list(journal.run(replace(OPTIONS, out=tmp_path / "new")))
    assert [row.reached for row in rows] == reached
    assert rows[0].ratio == f"{kept.rate / 1000:.3f}x"
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("task", "poll", "without", "reached"), [(155.0, 11.0, 1.0, True), (156.0, 12.0, 1.1, False)]
)
def test_the_cost_of_a_hook(
    task: float, poll: float, without: float, reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What events cost without a hook is not the hook's; the SDK's part stands beside it."""
    took = {"task": task, "task without": 5, "poll": poll, "poll without": 1}
    took |= {"submit without": without, "span": 30, "value": 10}

    def measured(rounds: int, candidates: dict[str, object]) -> dict[str, list[float]]:
        assert candidates.keys() == took.keys()
        return {name: [value] * rounds for name, value in took.items()}

    monkeypatch.setattr(otel, "interleaved", measured)
    rows = list(otel.run(OPTIONS))
    assert [row.reached for row in rows] == [reached] * 3
    assert rows[0].ratio == f"{(task - 5) / 90:.2f}x"
    made = otel.telemetry()
    for number in range(3):
        otel.task(made.hook, number)
        otel.poll(made.hook)
        made.span(number)
        made.value(number)
    otel.asked(made.hook)


@pytest.mark.parametrize(
    ("found", "reached"),
    [
        (BY_HAND._replace(cpu=0.005), [True, None, None, True]),
        (BY_HAND._replace(cpu=0.0051, bought_twice=1), [False, None, None, False]),
    ],
)
def test_against_a_client_by_hand(found: by_hand.Outcome, reached: list[bool | None]) -> None:
    """What is bought twice and the CPU have targets; both clients' figures are shown."""
    clients = {"ours": found, "by hand": BY_HAND}
    rows = list(by_hand.rows("10 tasks", by_hand.Case("{} tasks"), [clients]))
    assert [row.reached for row in rows] == reached
    assert rows[2].figures.endswith("; p50 1.50 against 1.50 s; p99 1.99 against 1.99 s")


def test_what_is_paid_and_lost(tmp_path: Path) -> None:
    """What was bought is compared with the lines; of a task's lines the first one counts."""
    results = tmp_path / "results.jsonl"
    lines = [("one", 12.0), ("two", 15.0), ("one", 99.0)]
    results.write_text("".join(json.dumps({"task_id": of, "at": at}) + "\n" for of, at in lines))
    load = by_hand.Load("", ["a", "b"], by_hand.Limits(), 1.0, results, None)
    life = by_hand.Life(opening=0.0, ended=20.0, cpu=1.0, freeze=0.1, work=0.1)
    bought = [("one", "a", 11.0), ("two", "b", 13.0), ("three", "b", 13.0)]
    seen = by_hand.Seen([by_hand.Bought(*one) for one in bought], refused=1, requests=8)
    found = by_hand.compare(load, 5.0, life, seen)
    assert (found.results, found.bought_twice, found.lost) == (2, 1, 1)
    assert (found.wall, found.cpu, found.requests, found.delays) == (15.0, 0.5, 4.0, [1.0, 2.0])


@pytest.mark.realtime
@pytest.mark.heavy
def test_lost_answers_and_kills(tmp_path: Path) -> None:
    """By hand a lost answer is bought again; ours buys nothing twice, and loses its result."""
    pytest.importorskip("aiolimiter")
    options = Options(tasks=10, seconds=1.0, out=tmp_path)
    lossy = by_hand.Case("lossy", lost_every=5)
    found = {name: by_hand.measure(name, lossy, options) for name in by_hand.CLIENTS}
    ours, other = found.values()
    assert (ours.results, ours.bought_twice, ours.lost) == (8, 0, 2)
    assert (other.results, other.bought_twice) == (10, other.lost)
    assert other.lost >= 2  # Those that are bought again may be lost, too.
    killed = by_hand.Case("killed", is_killed=True)
    found = {name: by_hand.measure(name, killed, options) for name in by_hand.CLIENTS}
    ours, other = found.values()
    assert (ours.results, ours.bought_twice, ours.lost) == (10, 0, 0)
    assert (other.results, other.bought_twice) == (10, other.lost)


@pytest.mark.parametrize(
    ("crowd", "mapped", "reached"),
    [
        (CROWD, MAPPED, True),
        (
            CROWD._replace(cpu=2.5, collecting=0.2, freeze=0.5),
            MAPPED._replace(cpu=3, peak=121),
            False,
        ),
    ],
)
def test_the_scale(
    crowd: scale.Crowd,
    mapped: scale.Mapped,
    reached: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """What a task, an input or the memory costs more at scale is a miss; so is a long freeze."""
    crowds = {
        scale.name_of(setting, tasks): [CROWD if tasks == 10 else crowd]
        for setting in scale.SETTINGS
        for tasks in (10, 100)
    }
    monkeypatch.setattr(scale, "_crowds", lambda _: crowds)
    monkeypatch.delenv("APIXO_LONG", raising=False)

    def in_process(_: float, __: object, inputs: int, *_args: object, **_of: bool) -> scale.Mapped:
        return MAPPED if inputs == 200 else mapped

    monkeypatch.setattr(scale, "in_child", in_process)
    monkeypatch.setattr(scale, "_draw", lambda *_: None)
    rows = list(scale.run(replace(OPTIONS, out=tmp_path)))
    assert [row.reached for row in rows[:3]] == [reached, None, reached]
    assert [row.reached for row in rows[3:]] == [reached] * 12 + [None]


@pytest.mark.realtime
def test_a_crowd_and_its_service(tmp_path: Path) -> None:
    """The bare service makes every task; the map's journal has a size, and is resumed."""
    with serving(scale.serve, 0.5) as said:
        limits = scale.Limits(100, 10_000)
        found = in_child(60.0, scale.crowd, "frozen", 20, received(said), limits, 0.5)
    assert found.requests >= 40
    assert found.collecting <= found.cpu
    journal = str(tmp_path / "journal.db")
    assert scale.mapped(20, journal).journal > 0
    assert scale.mapped(20, journal, resuming=True).inputs == 20


@pytest.mark.realtime
def test_maps_with_a_journal(tmp_path: Path) -> None:
    """All inputs come out of the service once, and out of the journal as often as one likes."""
    pace = journal.BEYOND._replace(skipped=10, counted=20)
    for path in (str(tmp_path / "short.db"), None):
        assert in_child(30.0, journal.mapped, pace, path).rate > 0
    path = str(tmp_path / "long.db")
    assert journal.bought(path, 50, 10).freeze == 0
    for _ in range(2):
        assert journal.resumed(path, 50, 10).cpu > 0
    with pytest.raises(AssertionError):  # Nothing is left to be bought.
        journal.bought(path, 50, 10)


def test_a_fixed_price() -> None:
    """A candidate with a price polls by that one, whatever the adaptive one would take."""
    plenty = Capacity(166.7, submits=0.0, reserve=6.0, slots_wanted=False, latency=0.1)
    due: list[float] = []
    for price in (1.0, 2.0):
        schedule = Candidate(way="priced", price=price).schedule(random.Random(1))
        for task in range(20):
            schedule.opened("m", task)
            schedule.learn("m", task, 30.0)
        due.append(schedule.again("m", 0.0, 1.0, plenty))
    assert due == pytest.approx([30.9, 31.9])


def test_rounds_are_interleaved() -> None:
    """Each candidate is measured once a round, and another one first in each."""
    order: list[str] = []
    candidates = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    measured = interleaved(2, candidates)
    assert order == ["a", "b", "c", "b", "c", "a"]
    assert measured == {"a": [1, 6], "b": [2, 4], "c": [3, 5]}
    assert median(measured["a"]) == 3.5


def test_cpu_is_not_time() -> None:
    """CPU is what a call computes, not how long it waits."""
    assert cpu_of(lambda: time.sleep(0.1)) < 0.05
    assert cpu_of(lambda: sum(range(1_000_000))) > 0.001


def test_a_frozen_loop() -> None:
    """The meter tells how long the event loop stood still, even when nothing came after."""

    async def freeze(seconds: float) -> float:
        async with metered() as meter:
            await asyncio.sleep(0.02)
            time.sleep(seconds)  # noqa: ASYNC251 - a loop that stands still is the case
        return meter.freeze

    assert 0.15 <= asyncio.run(freeze(0.2)) < 2.0


def test_a_frozen_turn() -> None:
    """The selector tells the longest turn of its loop; that of the wait is none."""
    turns = TurnSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        runner.run(asyncio.sleep(0.2))
        assert turns.freeze < 0.2

        async def freeze() -> None:
            time.sleep(0.2)  # noqa: ASYNC251 - a loop that stands still is the case

        runner.run(freeze())
        assert turns.work < 0.2 <= turns.freeze
        turns.forget()
        runner.run(asyncio.sleep(0.01))
    assert turns.freeze < 0.2


@pytest.mark.realtime
def test_a_child() -> None:
    """What a function returns in a process of its own comes back; what it raises is told."""
    assert in_child(30.0, operator.add, 1, 2) == 3
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        in_child(30.0, operator.truediv, 1, 0)


@pytest.mark.realtime
def test_a_child_that_hangs() -> None:
    """A process that says nothing in time is killed."""
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        in_child(0.1, time.sleep, 60.0)
    assert time.monotonic() - started < 10.0
