"""Answer every question, or those named: one Markdown table, and plots beside it."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import benchmarks
from benchmarks import Options, Row, unanswered
from benchmarks.measuring import progress

REACHED = {True: "yes", False: "**no**", None: ""}


class Question(Protocol):
    """A module that answers a question; one without ``ROUNDS`` takes those of `Options`."""

    def run(self, options: Options) -> Iterator[Row]:
        """Yield the rows of the table."""
        ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, print the rows as they come, write the table."""
    questions = find_questions()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(questions)}")
    parser.add_argument("--rounds", type=int, help="instead of each question's own number")
    parser.add_argument("--out", type=Path, default=Options.out, help="directory of the results")
    parser.add_argument("--tasks", type=int, default=Options.tasks, help="tasks at once")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="of each task")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - questions.keys()):
        parser.error(f"there is no {', '.join(unknown)}; there is {', '.join(questions)}")
    rounds: int = Options.rounds if given.rounds is None else given.rounds
    if min(given.tasks, rounds, given.seconds) <= 0:
        parser.error("--rounds, --tasks and --seconds are above zero")
    options = Options(out=given.out, tasks=given.tasks, seconds=given.seconds)
    asked = {name: questions[name] for name in given.names or questions}
    write(table(answers(asked, options, given.rounds)), options.out / "table.md")


def find_questions() -> dict[str, Question]:
    """Return the modules of this package that have a ``run``, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(benchmarks.__path__))
    names.remove("__main__")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    return {
        name: cast("Question", module) for name, module in modules.items() if hasattr(module, "run")
    }


def answers(
    questions: Mapping[str, Question], options: Options, rounds: int | None
) -> Iterator[Row]:
    """Yield the rows of each question, one question after the other."""
    for name, question in questions.items():
        own: int = getattr(question, "ROUNDS", options.rounds)
        progress(f"{name} ...")
        started = time.monotonic()
        try:
            yield from question.run(replace(options, rounds=rounds or own))
        except ModuleNotFoundError as missing:
            yield unanswered(name, missing.name or str(missing))
        progress(f"{name}: {time.monotonic() - started:.0f} s")


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a Markdown table; a question is told once."""
    machine = f"{platform.python_implementation()} {platform.python_version()}"
    measured = f"measured ({machine}, {os.cpu_count()} cores)"
    yield f"| question | {measured} | ratio | figures | to reach | reached |"
    yield "|---|---|---|---|---|---|"
    told = ""
    for row in rows:
        question = "" if row.question == told else row.question
        told = row.question
        cells = (question, row.measured, row.ratio, row.figures, row.target, REACHED[row.reached])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write(lines: Iterable[str], path: Path) -> None:
    """Print the lines as they come, and keep in a file those that came."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as kept:
        for line in lines:
            print(line, flush=True)
            print(line, file=kept, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
