"""Run every benchmark, or those named, and print one Markdown table."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
from collections.abc import Iterable, Iterator

import benchmarks
from benchmarks import Answer, Options


def main() -> None:
    """Read the options, measure, print."""
    names = sorted(found.name for found in pkgutil.iter_modules(benchmarks.__path__))
    names.remove("__main__")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--tasks", type=int, default=Options.tasks, help="tasks at once")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="of each task")
    given = parser.parse_args()
    if unknown := set(given.names) - set(names):
        parser.error(f"there is no {', '.join(unknown)}; there is {', '.join(names)}")
    for line in table(measured(given.names or names, Options(given.tasks, given.seconds))):
        print(line, flush=True)


def measured(names: Iterable[str], options: Options) -> Iterator[Answer]:
    """Yield what each benchmark measures, one after the other."""
    for name in names:
        yield from importlib.import_module(f"benchmarks.{name}").run(options)


def table(answers: Iterable[Answer]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    yield f"| question | figure | measured ({machine}) |"
    yield "|---|---|---|"
    for answer in answers:
        question = answer.question
        for name, value in answer.figures.items():
            yield f"| {question} | {name} | {value} |"
            question = ""


if __name__ == "__main__":
    main()
