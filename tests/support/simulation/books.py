"""Who paid for what in a simulated life, and who was told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from apixo_async import (
    ApixoError,
    PresumedNotBoughtError,
    Result,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    TaskRef,
)
from apixo_async.testing import SimulatedTask, Simulator

from .rules import told_of

#: Seconds from the creation of a task to the word that its submit is uncertain, and more.
_ONE_SUBMIT: Final = 120.0


class Books:
    """Compare the tasks that the service made with what the callers know.

    Every purchase has a prompt of its own, so that each task is laid to the submit that made it.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._prompts = 0
        self._lies: list[str] = []
        self._uncertain_at: dict[str, float] = {}
        self.submits: Counter[str] = Counter()
        self.uncertain: Counter[str] = Counter()
        self.unbought: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.found: set[str] = set()

    def new_prompt(self) -> str:
        """Return a prompt that no other purchase has."""
        self._prompts += 1
        return f"castle {self._prompts}"

    def told(self, prompt: str, told: Task | Result | ApixoError | None) -> None:
        """Note what the caller of a submit was told."""
        if isinstance(told, SubmitUncertainError):
            self.uncertain[prompt] += 1
            self._uncertain_at[prompt] = self._simulator.now()
        elif isinstance(told, ApixoError) and told.bought is False:
            self.unbought[prompt] += 1
        elif isinstance(told, Task):
            self.known[told.id] += 1
        elif (task_id := getattr(told, "task_id", None)) is not None:
            self.known[task_id] += 1
        elif isinstance(told, ApixoError) and told.bought:
            self._lies.append(f"bought, without a task: {told!r}")

    def resolved(self, prompt: str, told: Result | ApixoError | None) -> None:
        """Note what became of the task of an uncertain submit, as whoever awaited it was told."""
        if isinstance(told, PresumedNotBoughtError):
            lost = not told_of(self._simulator, prompt)
            self.unbought[prompt] += told.bought is False and not lost
        elif isinstance(told, Result | TaskFailedError):
            self.found.add(told.task_id)
            made = self._simulator.tasks.get(told.task_id)
            if made is None or (made.prompt != prompt and self._is_known_as_wrong(prompt, made)):
                self._lies.append(f"{told.task_id} was taken for the task of {prompt!r}: {made}")

    def _is_known_as_wrong(self, prompt: str, made: SimulatedTask) -> bool:
        """Say whether the service told that a task is no purchase of that time."""
        polls = [e for e in self._simulator.log if e.task_id == made.id and e.kind == "poll"]
        at = self._uncertain_at[prompt]
        return abs(made.created - at) > _ONE_SUBMIT and all(e.fault is None for e in polls)

    def orphan(self, orphan: Task | SubmitUncertainError) -> None:
        """Note what the hook for orphans was given."""
        uncertain = isinstance(orphan, SubmitUncertainError)
        self.told(prompt_of(orphan) if uncertain else "", orphan)

    def problems(self, left: Iterable[TaskRef]) -> list[str]:
        """Return the tasks that were lost, bought twice, told of twice or made up.

        Args:
            left: The refs that clients kept when they were closed.
        """
        made: dict[str, list[str]] = {}
        for task in self._simulator.tasks.values():
            made.setdefault(task.prompt, []).append(task.id)
        known = self.known.keys() | self.found | {ref.task_id for ref in left}
        unknown = self.known.keys() - self._simulator.tasks.keys()
        found = [f"{task_id} was told {n} times" for task_id, n in self.known.items() if n > 1]
        found += [f"{task_id} does not exist" for task_id in unknown]
        for prompt, submits in self.submits.items():
            ids = made.get(prompt, [])
            lost = [task_id for task_id in ids if task_id not in known]
            if len(lost) > self.uncertain[prompt]:
                found.append(f"lost: {lost} of {prompt!r}")
            if len(ids) > submits:
                found.append(f"bought twice: {ids} of {prompt!r}")
            elif len(ids) > submits - self.unbought[prompt]:
                found.append(f"bought, and told that it was not: {ids} of {prompt!r}")
        return [*found, *self._lies]

    def lies(self, told: Iterable[Task]) -> list[str]:
        """Return the tasks whose handles say another end than they had."""
        found: list[str] = []
        for task in told:
            made = self._simulator.tasks.get(task.id)
            if made is None or not task.done():
                continue
            error, failed = task.exception(), made.fail_code is not None
            if isinstance(error, TaskFailedError | None) and failed != (error is not None):
                found.append(f"{task} ended with {error!r}, at the service with {made.fail_code}")
        return found


def prompt_of(error: object) -> str:
    """Return the prompt of what was submitted, as an uncertain submit's error has it."""
    return str(getattr(getattr(error, "input", None), "prompt", ""))
