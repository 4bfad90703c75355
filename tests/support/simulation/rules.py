"""The rules that the service's own log decides: what callers were told too soon, or not in full."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from apixo_async import ApixoError, Event, Result
from apixo_async._catalog import IMAGE_AGE_LIMIT, TIMINGS
from apixo_async.testing import Exchange, SimulatedTask, Simulator
from apixo_async.testing.exchanges import RESULT_HOST

#: Codes which, in an envelope, say that there is no such task, or that the key may not ask.
MISSING: Final = (400, 404, 410, 422)
DENIED: Final = (401, 403)

#: Seconds for which the service has to say nothing else of a task that was seen, or was not.
_GONE_AFTER: Final = {True: 120.0, False: 10.0}
_MISSES: Final = 5

#: Seconds before a task is given up, in which it has to be found running.
LAST_STRETCH: Final = 300.0

#: Faults which take the URLs of a result away.
_WITHOUT_URLS: Final = ("result_json", "no_result_urls")

#: Seconds of a slot's hold: after an uncertain submit, and at most.
HOLD: Final = TIMINGS["flux-kontext"].longest


@dataclass(frozen=True, slots=True)
class Settled:
    """A client's word that a task is over; `was_met`: it had bought it, or found it running."""

    at: float
    client: int
    task_id: str
    outcome: str
    was_met: bool


@dataclass
class Witness:
    """What the events of the clients told, client by client.

    Attributes:
        settled: What ended, in order.
    """

    _met: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    settled: list[Settled] = field(default_factory=list)

    def note(self, client: int, event: Event, at: float) -> None:
        """Take down an event of a client."""
        task_id = getattr(event, "task_id", None)
        match type(event).__name__:
            case "TaskSubmitted" | "TaskPolled" | "TaskPolled":
                self._met[client].add(str(task_id))
            case "TaskSettled":
                met, name = self._met[client], str(task_id)
                outcome = str(getattr(event, "outcome", None))
                self.settled.append(Settled(at, client, name, outcome, name in met))
                met.discard(name)  # A client forgets what is over.

    def ended(self, outcome: str, simulator: Simulator) -> Iterable[Settled]:
        """Yield the ends of this kind of tasks that the service has."""
        for one in self.settled:
            if one.outcome == outcome and one.task_id in simulator.tasks:
                yield one


def gone_too_soon(simulator: Simulator, witness: Witness) -> list[str]:
    """Return the tasks that were not found although the service did not say so for long enough."""
    found: list[str] = []
    for end in witness.ended("not found", simulator):
        polls = [e for e in _polls(simulator, end) if e.code is not None]
        misses = [*takewhile(lambda e: e.code in MISSING, reversed(polls))]
        needed = _GONE_AFTER[end.was_met]
        span = misses[0].at - misses[-1].at if misses else 0.0
        if len(misses) < _MISSES or span < needed - 1:
            said = f"{len(misses)} answers over {span:.0f} s, {needed:.0f} s needed"
            found.append(f"not found too soon, after {said}: {end}")
    return found


def given_up_too_soon(simulator: Simulator, witness: Witness) -> list[str]:
    """Return the tasks that were abandoned although nobody had found them running of late."""
    found: list[str] = []
    for end in witness.ended("abandoned", simulator):
        told = [e for e in _polls(simulator, end) if e.code is not None]
        running = [e.at for e in told if e.status == e.code == 200]
        last = running[-1] if running else None
        if told and told[-1].code in DENIED:
            continue
        if last is None or last < end.at - LAST_STRETCH:
            found.append(f"abandoned, and last found running at {last}: {end}")
    return found


def _polls(simulator: Simulator, end: Settled) -> list[Exchange]:
    return [
        e
        for e in simulator.log
        if e.kind == "poll" and e.task_id == end.task_id and e.at <= end.at and e.answered_at
    ]


def incomplete(simulator: Simulator, results: Iterable[Result]) -> list[str]:
    """Return the results that lack a URL which the service told."""
    spoilt = {e.task_id for e in simulator.log if e.fault in _WITHOUT_URLS}
    found: list[str] = []
    for result in results:
        made = simulator.tasks.get(result.task_id)
        if made is None or result.task_id in spoilt:
            continue
        urls = tuple(RESULT_HOST + path for path in made.result_paths())
        if result.urls != urls:
            found.append(f"{result.task_id}: {result.urls} reported, not {urls}")
    return found


def excused(
    simulator: Simulator, uncertain: Mapping[str, int], witness: Witness
) -> dict[str, float]:
    """Return from when on the slot of a task may be another's, though the task goes on.

    That is so after the longest time of a submit that was uncertain, at the age limit, and when
    the service had said that there is no such task.
    """
    # A doubt that a callback has ended by now held its slot no longer than the others.
    told = {e.task_id for e in simulator.log if e.kind == "submit" and e.status == e.code == 200}
    found = {
        task.id: task.created
        + (HOLD if uncertain[task.prompt] or task.id not in told else IMAGE_AGE_LIMIT)
        for task in simulator.tasks.values()
    }
    for end in witness.settled:
        if end.task_id in found:
            found[end.task_id] = min(found[end.task_id], end.at)
    return {task_id: at for task_id, at in found.items() if at < simulator.tasks[task_id].ends}


def most_at_once(tasks: Iterable[SimulatedTask], excused: Mapping[str, float]) -> int:
    """Return the most tasks that went on at once, without those whose slot was another's."""
    moments: list[tuple[float, int]] = []
    for task in tasks:
        end = min(task.ends, excused.get(task.id, task.ends))
        if end > task.created:
            moments += (task.created, 1), (end, -1)
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def denied_too_soon(simulator: Simulator, denied: Iterable[tuple[str, ApixoError]]) -> list[str]:
    """Return the tasks whose waiters heard that the key may not ask, when only a page said so."""
    said = {e.task_id for e in simulator.log if e.kind == "poll" and e.code in DENIED}
    return [f"denied by no envelope: {one}: {error!r}" for one, error in denied if one not in said]


def told_of(simulator: Simulator, prompt: str) -> list[SimulatedTask]:
    """Return the tasks of a purchase, without those whose callbacks the service kept to itself.

    The documents promise callbacks: who heard of none, and is told that nothing was bought, was
    not told so against better knowledge.
    """
    posted = {attempt.task_id for attempt in simulator.callbacks.log}
    return [
        task for task in simulator.tasks.values() if task.prompt == prompt and task.id in posted
    ]
