"""Change the rules one place at a time, and count how many changes their own tests notice.

Usage: python tests/mutation/run.py RESULTS [--mutants N] [--seed S] [--jobs J] [--least PERCENT]

RESULTS is a file of JSON Lines. What is in it is not run again: a killed mutant until its module
changes, a survivor until its module or its tests do.

mutmut changes no code outside of functions, such as the tables and the SQL here, and cosmic-ray
starts an interpreter for each mutant and changes the installed files; neither samples. Here a
mutant is a fork of a process that has run the tests once, so that nothing is imported again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final, NamedTuple

import anyio  # noqa: F401 - what takes long to import and is not changed is imported before forks
import httpx2  # noqa: F401
import hypothesis
import pydantic  # noqa: F401
import pytest
from mutants import Mutant, mutants

TESTS: Final = Path(__file__).parents[1]

#: The modules, and the tests that are to notice what is changed in them.
TABLE: Final = {
    "_limits.slots": ("limits/test_slots.py",),
    "_limits.breaker": ("limits/test_breaker.py",),
    "_polling.outages": (
        *("polling/test_outages.py", "polling/test_outages_outage.py"),
        *("polling/test_outages_shares.py", "polling/test_registry.py"),
    ),
    "_limits.adaptive": ("limits/test_adaptive.py",),
    "_http.retry": ("http/test_retry.py",),
    "webhooks._tokens": ("webhooks/test_tokens.py",),
    "_http.wire": ("http/test_wire.py", "http/test_wire_oddities.py"),
    "journal._moves": ("journal/test_moves.py",),
    "_http.verdicts": ("http/test_verdicts.py", "http/test_verdicts_of_polls.py"),
    "_limits.window": ("limits/test_window.py",),
}
#: Survivors that no test can kill, or that none should: why, by module and changed text.
SPARED: Final[dict[str, str]] = json.loads((Path(__file__).parent / "spared.json").read_text())

#: A mutant that takes so much longer than the unchanged module hangs: that is noticed, too.
SLOWER, SECONDS = 4, 5  # of the processor
EXAMPLES: Final = 100  # that a test draws at most
MEMORY: Final = 4 << 30  # bytes

KILLED: Final = frozenset({"killed", "hung"})
ANEW: Final = 42  # a status with which no run of pytest ends


class Job(NamedTuple):
    """A mutant, and what its result depends on."""

    module: str
    source: str
    tests: str
    mutant: Mutant

    @property
    def name(self) -> str:
        """What it is called in lists, the same as long as its line is."""
        line = self.source.splitlines()[self.mutant.line - 1].strip()
        return f"{self.module}: {line} [{self.mutant.column}] {self.mutant.words}"

    @property
    def key(self) -> str:
        """What is changed: a result holds for this, and for these tests."""
        whole = f"{self.source}\0{self.mutant.number}\0{self.mutant.words}"
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


class _Changed(SourceFileLoader):
    """Loads one module with a change in it; also the finder that knows it."""

    def __init__(self, name: str, code: CodeType) -> None:
        super().__init__(name, code.co_filename)
        self.code = code

    def get_code(self, fullname: str) -> CodeType:
        assert fullname == self.name
        return self.code

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)


def test(module: str) -> int:
    """Run the tests of a module in this process; return 0 if they notice nothing."""
    # Only the plugins that these tests need: all of them take seconds to import.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugins = ("-p", "anyio", "-p", "_hypothesis_pytestplugin", "--hypothesis-profile=mutation")
    given = ("-x", "-q", "--tb=no", "-W", "ignore::pytest.PytestAssertRewriteWarning", *plugins)
    files = [str(TESTS / file) for file in TABLE[module]]
    return int(pytest.main([*given, *files], plugins=[_QuickFirst()]))


class _QuickFirst:
    """A plugin: what draws examples runs last, as most mutants are noticed without."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        drawn = "is_hypothesis_test"
        items.sort(key=lambda item: hasattr(getattr(item, "obj", None), drawn))
        for item in items:
            test = getattr(item, "obj", None)
            if hasattr(test, drawn):
                own = test._hypothesis_internal_use_settings
                fewer = hypothesis.settings(own, max_examples=min(own.max_examples, EXAMPLES))
                test._hypothesis_internal_use_settings = fewer


def swap(module: str, code: CodeType, mutant: Mutant) -> bool:
    """Give the function that a mutant changes its new code; False if it changes none."""
    found: object = sys.modules[f"apixo_async.{module}"]
    for name in mutant.within:
        names = (one for one in code.co_consts if isinstance(one, CodeType))
        fitting = [one for one in names if one.co_name == name]
        if len(fitting) != 1 or name not in vars(found):
            return False
        code, found = fitting[0], vars(found)[name]
        for wrapper in ("fget", "__func__", "__wrapped__"):
            found = getattr(found, wrapper, found)
    if not isinstance(found, FunctionType) or found.__code__.co_freevars != code.co_freevars:
        return False
    found.__code__ = code
    return True


def load(module: str, code: CodeType) -> None:
    """Forget all that was imported of the package and its tests; load the module with new code."""
    for name, loaded in [*sys.modules.items()]:
        of_tests = str(getattr(loaded, "__file__", None)).startswith(str(TESTS))
        if name.partition(".")[0] == "apixo_async" or (of_tests and name != "__main__"):
            del sys.modules[name]
    sys.meta_path.insert(0, _Changed(f"apixo_async.{module}", code))


def outcome(job: Job, seconds: int, *, anew: bool) -> str | None:
    """Run the tests with a mutant in a fork of this process; None if it has to be loaded anew."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
            return "hung"
        return {0: "survived", ANEW << 8: None}.get(status, "killed")
    status = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        # Both signals end the process, wherever it is; a busy machine is no endless loop.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.alarm(20 * seconds)
        code = compile(job.mutant.tree(job.source), _path(job.module), "exec")
        if anew:
            load(job.module, code)
        status = test(job.module) if anew or swap(job.module, code, job.mutant) else ANEW
    finally:
        os._exit(status)


def work(module: str, jobs: list[Job], file: Path) -> None:
    """Run the mutants of a module, and note the results. Runs in a process of its own."""
    silent = os.open(os.devnull, os.O_WRONLY)
    told = os.dup(1)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    begun = time.process_time()
    if status := test(module):  # Which also imports all that the mutants need.
        os.write(told, f"{module}: its tests fail where nothing is changed ({status})\n".encode())
        os._exit(1)
    seconds = int(SECONDS + SLOWER * (time.process_time() - begun))
    for job in jobs:
        # What is computed where modules are imported was computed without the change: so what
        # seems to survive is loaded anew.
        result = outcome(job, seconds, anew=False)
        if result in (None, "survived"):
            result = outcome(job, seconds, anew=True)
        row = {"key": job.key, "tests": job.tests, "result": result, "name": job.name}
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    os._exit(0)


def _path(module: str) -> Path:
    spec = importlib.util.find_spec("apixo_async")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / f"{module.replace('.', '/')}.py"


def sample(count: int, seed: int) -> Iterator[Job]:
    """Yield so many mutants, chosen among those of all modules, in the order of the table."""
    jobs = []
    for module, files in TABLE.items():
        source = _path(module).read_text("utf-8")
        tests = hashlib.sha256(b"\0".join((TESTS / file).read_bytes() for file in files))
        digest = tests.hexdigest()[:16]
        jobs += [Job(module, source, digest, mutant) for mutant in mutants(source)]
    chosen = random.Random(seed).sample(range(len(jobs)), min(count, len(jobs)))
    return (jobs[index] for index in sorted(chosen))


def known(file: Path) -> dict[str, str]:
    """Return the results in a file: of killed mutants, and of survivors of certain tests."""
    rows = map(json.loads, file.read_text("utf-8").splitlines() if file.exists() else ())
    return {
        row["key"] if row["result"] in KILLED else f"{row['key']} {row['tests']}": row["result"]
        for row in rows
    }


def result_of(job: Job, results: dict[str, str]) -> str | None:
    """Return the result of a mutant, or None if it has none yet."""
    return results.get(job.key) or results.get(f"{job.key} {job.tests}")


def run(file: Path, jobs: list[Job], workers: int) -> None:
    """Run what has no result yet, so many modules at a time."""
    results = known(file)
    waiting = [job for job in jobs if result_of(job, results) is None]
    print(f"{len(jobs)} mutants, {len(waiting)} to run", flush=True)
    running: set[int] = set()
    for module in TABLE:
        own = [job for job in waiting if job.module == module]
        if not own:
            continue
        if len(running) == workers:
            running.discard(_ended())
        if child := os.fork():
            running.add(child)
        else:
            work(module, own, file)
    for _ in running:
        _ended()


def _ended() -> int:
    child, status = os.wait()
    if status:
        sys.exit("a worker failed")
    return child


def main() -> None:
    """Run the sample, list the survivors, and fail where there are too many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--mutants", type=int, default=1_000)  # All of them.
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--least", type=float, default=90.0)
    given = parser.parse_args()
    # Each example of each run is the same, and none is remembered from one mutant to the next.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # Nobody reads the example.
    hypothesis.settings.register_profile(
        "mutation", derandomize=True, database=None, deadline=None, phases=phases
    )
    given.results.parent.mkdir(parents=True, exist_ok=True)
    jobs = [*sample(given.mutants, given.seed)]
    run(given.results, jobs, given.jobs)
    results = known(given.results)
    found = {job.key: result_of(job, results) for job in jobs}
    for module in TABLE:
        own = [job for job in jobs if job.module == module]
        print(f"{module}: {sum(found[job.key] in KILLED for job in own)} of {len(own)} killed")
    survivors = [job for job in jobs if found[job.key] not in KILLED]
    for job in survivors:
        print(f"survived, line {job.mutant.line}: {job.name}")
        print(f"    {SPARED.get(job.name, 'KILL IT, or say why not in spared.json')}")
    share = 100 * (1 - len(survivors) / len(jobs))
    print(f"{len(jobs) - len(survivors)} of {len(jobs)} killed: {share:.1f} %")
    if share < given.least:
        sys.exit(f"at least {given.least:.0f} % are to be killed")


if __name__ == "__main__":
    main()
