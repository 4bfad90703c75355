"""The script of faults: queues that requests of one kind consume turn by turn, and outages."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace

from apixo_async.testing.faults import HEALTHY, Fault
from apixo_async.testing.replies import Kind

API: frozenset[Kind] = frozenset(("submit", "look", "balance"))


@dataclass(frozen=True, slots=True)
class _Outage:
    start: float
    end: float
    fault: Fault
    kinds: frozenset[Kind]


class Script:
    """Decide the fault of each request: the script's next turn, else an outage, else none.

    Each method appends turns, one a request of that kind, in the order in which requests begin;
    None or ``Fault.none()`` is a healthy turn.
    """

    def __init__(self) -> None:
        self._turns: defaultdict[tuple[Kind, str | None], deque[Fault]] = defaultdict(deque)
        self._outages: list[_Outage] = []

    def submit(self, *turns: Fault | None) -> None:
        """Script the next submits."""
        self._add("submit", None, turns)

    def look(self, *turns: Fault | None, task_id: str | None = None) -> None:
        """Script the next looks, of one task if given; that task's own turns come first."""
        self._add("look", task_id, turns)

    def balance(self, *turns: Fault | None) -> None:
        """Script the next requests for the balance."""
        self._add("balance", None, turns)

    def download(self, *turns: Fault | None) -> None:
        """Script the next requests for result files."""
        self._add("download", None, turns)

    def during(self, start: float, end: float, fault: Fault, kind: Kind | None = None) -> None:
        """Have ``fault`` from ``start`` until ``end`` of the service's clock.

        It meets requests of ``kind`` that have no turn of their own; without one, every request
        to the API, but no download. ``-math.inf`` and ``math.inf`` have it always.
        """
        kinds: frozenset[Kind] = API if kind is None else frozenset((kind,))
        self._outages.append(_Outage(start, end, fault, kinds))

    @property
    def left(self) -> int:
        """Say how many scripted turns no request has taken yet."""
        return sum(fault.turns for queue in self._turns.values() for fault in queue)

    def clear(self) -> None:
        """Forget all turns and outages."""
        self._turns.clear()
        self._outages.clear()

    def take(self, kind: Kind, task_id: str | None, now: float) -> Fault:
        """Return the fault of the request that begins now, and use its turn up."""
        own = (kind, task_id)
        queue = self._turns.get(own) or self._turns.get((kind, None))
        if queue:
            return _next_turn(queue)
        for outage in self._outages:
            if kind in outage.kinds and outage.start <= now < outage.end:
                return outage.fault
        return HEALTHY

    def _add(self, kind: Kind, task_id: str | None, turns: tuple[Fault | None, ...]) -> None:
        self._turns[kind, task_id].extend(turn or HEALTHY for turn in turns)


def _next_turn(queue: deque[Fault]) -> Fault:
    fault = queue.popleft()
    if fault.turns > 1:
        queue.appendleft(replace(fault, turns=fault.turns - 1))
    return fault
