"""Every check of the project: ``python -m pip install nox && nox``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
#: Where the wheel is. CI builds it once, and names the folder into which it was downloaded.
DIST = Path(os.environ.get("APIXO_DIST") or ROOT / ".nox" / "dist")
SITE = ROOT / ".nox" / "site"  # of the API reference and the guides
COVERED = 95.0  # percent of the package's lines, and percent of its branches

#: What checks the files of GitHub: schemas that check-jsonschema comes with, so no network.
SCHEMAS = {
    "github-workflows": "workflows/*.yml",
    "github-issue-forms": "ISSUE_TEMPLATE/*_*.yml",
    "github-issue-config": "ISSUE_TEMPLATE/config.yml",
}

#: Nothing around the run decides which package is tested, or how: it is the installed wheel.
ENVIRONMENT = {"PYTHONPATH": None, "PYTHONSAFEPATH": "1", "PYTEST_ADDOPTS": None}

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
# Which interpreters there are is found out below; one that is missing is skipped in CI too.
nox.options.error_on_missing_interpreters = False


def candidates(version: str) -> Iterator[str]:
    """Yield what may be an interpreter of a version such as 3.12."""
    yield sys.executable
    yield shutil.which(f"python{version}") or sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))


def runs(interpreter: str, version: str) -> bool:
    """Say whether an interpreter really runs and has the version; a shim of pyenv may not."""
    program = (
        "import ssl, sys, sysconfig; free = sysconfig.get_config_var('Py_GIL_DISABLED');"
        "print('%d.%d' % sys.version_info[:2] + 't' * bool(free))"
    )
    command = [interpreter, "-c", program]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.stdout.strip() == version


def installed() -> dict[str, str]:
    """Return an interpreter for each supported version that this machine has."""
    found = {
        version: next((path for path in candidates(version) if runs(path, version)), None)
        for version in nox.project.python_versions(PROJECT)
    }
    return {version: path for version, path in found.items() if path is not None}


PYTHONS = installed()
#: The version that runs everything and checks types; the others run what may differ.
CHOSEN = next(iter(PYTHONS), None)
#: What `nox -t more` runs beyond `nox`: other Pythons, the lines that run, the API reference.
MORE = ("more",)
QUICK = "not heavy and not realtime"
#: What the other versions run: stories through public names, and what leans on SQLite and asyncio.
ELSEWHERE = tuple(f"tests/{name}" for name in ("stories", "journal", "map", "testing", "webhooks"))
PYTEST = ("pytest", "-q", "-rs")
#: Tests in virtual time know no clock to disturb: they run on several cores.
PARALLEL = ("-n", "auto", "--maxprocesses", "4")
#: Those in real time mostly wait, for processes and for each other's answers.
WAITING = ("-n", "4", "--durations", "12")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel that users get, by way of the source distribution, and check what it says.

    Where APIXO_DIST names a folder, the wheel in it is taken as it is.
    """
    missing = set(nox.project.python_versions(PROJECT)) - PYTHONS.keys()
    session.log(f"Pythons: {', '.join(PYTHONS)}; not installed: {', '.join(sorted(missing))}")
    if os.environ.get("APIXO_DIST"):
        session.log(f"not built, but taken from APIXO_DIST: {wheel()}")
        return
    shutil.rmtree(DIST, ignore_errors=True)
    session.install(*nox.project.dependency_groups(PROJECT, "build"))
    session.run("python", "-m", "build", "--outdir", str(DIST), silent=True)
    session.run("twine", "check", "--strict", *map(str, DIST.iterdir()))


def wheel() -> str:
    """Return the path of the wheel that `build` made."""
    (built,) = DIST.glob("*.whl")
    return str(built)


def install(session: nox.Session, group: str, *more: str) -> None:
    """Install the wheel with all extras, and a group of tools."""
    session.install(f"{wheel()}[all]", *nox.project.dependency_groups(PROJECT, group), *more)
    # In an environment of an earlier run the version is the same, the content may not be.
    session.install("--force-reinstall", "--no-deps", wheel())


def tests(session: nox.Session, *, everything: bool) -> None:
    """Run the tests against the installed wheel: all of them, or a quick part."""
    install(session, "tests")
    env = ENVIRONMENT | {"APIXO_WHEEL": wheel()}
    if everything and not session.posargs:
        session.run(*PYTEST, *PARALLEL, "-m", "not realtime", env=env)
        session.run(*PYTEST, *WAITING, "-m", "realtime", env=env)
    else:
        session.run(*PYTEST, *(session.posargs or (*PARALLEL, "-m", QUICK, *ELSEWHERE)), env=env)


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False, tags=MORE)
def coverage(session: nox.Session) -> None:
    """Fail where too few lines, or too few branches, of the package run."""
    install(session, "tests")
    report = Path(session.create_tmp()) / "coverage.json"
    env = ENVIRONMENT | {
        "APIXO_WHEEL": wheel(),
        "COVERAGE_FILE": str(Path(session.create_tmp()) / "coverage"),
    }
    traced = ("coverage", "run", "-m", *PYTEST)
    session.run("coverage", "erase", env=env)
    # Tracing makes the heavy tests slow, and they run no line that the others do not.
    session.run(*traced, *PARALLEL, "-m", QUICK, env=env)
    session.run(*traced, *WAITING, "-m", "realtime and not heavy", env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    session.run("coverage", "report", env=env)
    session.run("coverage", "json", "--quiet", "-o", str(report), env=env)
    totals = json.loads(report.read_text("utf-8"))["totals"]
    lines = 100 * totals["covered_lines"] / totals["num_statements"]
    branches = 100 * totals["covered_branches"] / totals["num_branches"]
    session.log(f"covered: {lines:.1f} % of the lines, {branches:.1f} % of the branches")
    if min(lines, branches) < COVERED:
        session.error(f"at least {COVERED:.0f} % of the lines and of the branches are to run")


def tests_on(version: str, interpreter: str) -> None:
    """Define the session of one Python."""

    @nox.session(
        name=f"tests-{version}",
        python=interpreter,
        requires=["build"],
        default=version == CHOSEN,
        tags=() if version == CHOSEN else MORE,
    )
    def session_of_tests(session: nox.Session) -> None:
        """Run the tests on this Python against the wheel."""
        tests(session, everything=version == CHOSEN)


for number, path in PYTHONS.items():
    tests_on(number, path)

if not PYTHONS:

    @nox.session(name="tests", python=False)
    def no_python(session: nox.Session) -> None:
        """Fail, as there is nothing to run the tests on."""
        session.error("no supported Python is installed: 3.11 or later")


def lower_bounds() -> dict[str, str]:
    """Return the lowest version of each library that the package says it runs on, with `[all]`."""
    extras: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    named = [*chain(*(extras[name] for name in Requirement(extras["all"][0]).extras))]
    wanted = map(Requirement, [*PROJECT["project"]["dependencies"], *named])
    return {
        one.name: spec.version for one in wanted for spec in one.specifier if spec.operator == ">="
    }


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False)
def lowest(session: nox.Session) -> None:
    """Run the quick tests with the lowest version of every library that is allowed."""
    wanted = lower_bounds()
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("".join(f"{name}=={wanted[name]}\n" for name in wanted), "utf-8")
    install(session, "tests", "-c", str(constraints))
    program = (
        "import sys, importlib.metadata as m;"
        "print(*(f'{name}=={m.version(name)}' for name in sys.argv[1:]))"
    )
    told = session.run("python", "-c", program, *wanted, env=ENVIRONMENT, silent=True)
    installed = dict(line.split("==") for line in str(told).split())
    other = {
        name: found for name, found in installed.items() if Version(found) != Version(wanted[name])
    }
    if other:
        session.error(f"not the lowest versions: {other}")
    # click comes with typer, as its newest version, which warns of what the lowest typer imports.
    click = ("-W", "ignore::DeprecationWarning:typer")
    session.run(*PYTEST, *click, *(session.posargs or (*PARALLEL, "-m", QUICK)), env=ENVIRONMENT)


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"])
def types(session: nox.Session) -> None:
    """Check types: the package, and a file that uses all of its public names."""
    install(session, "types")
    session.run("mypy", env=ENVIRONMENT)
    session.run("pyright", env=ENVIRONMENT)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format, and what GitHub would read of `.github` by its schemas."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    for schema, pattern in SCHEMAS.items():
        files = sorted(map(str, (ROOT / ".github").glob(pattern)))
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False, tags=MORE)
def docs(session: nox.Session) -> None:
    """Write the API reference and the guides, a warning an error, and read them in a browser."""
    install(session, "docs")
    shutil.rmtree(SITE, ignore_errors=True)
    session.run("python", "-W", "error", "tests/docs/build.py", str(SITE), env=ENVIRONMENT)
    session.run(*PYTEST, "tests/docs", env=ENVIRONMENT | {"APIXO_SITE": str(SITE)})


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False)
def frameworks(session: nox.Session) -> None:
    """Run what needs other people's frameworks: pytest-asyncio, Django, pandas, OpenTelemetry's."""
    install(session, "frameworks")
    # pytest-asyncio must not take part in the tests that anyio runs.
    run = (*PYTEST, "-p", "no:asyncio", *PARALLEL, "tests/frameworks", *session.posargs)
    session.run(*run, env=ENVIRONMENT | {"APIXO_WHEEL": wheel()})


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False)
def pipelines(session: nox.Session) -> None:
    """Run what needs the engines of data pipelines: Ray Data, Daft, DBOS, Celery, polars."""
    install(session, "pipelines")
    env = ENVIRONMENT | {"APIXO_WHEEL": wheel(), "RAY_USAGE_STATS_ENABLED": "0"}
    session.run(*PYTEST, "-n", "2", "tests/pipelines", *session.posargs, env=env)


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False)
def soak(session: nox.Session) -> None:
    """Run the long forms: of faults, cancelled requests, kills, seeds, forgeries and callbacks."""
    install(session, "tests")
    rounds = {"APIXO_FAULT_ROUNDS": "20", "APIXO_CANCELLED": "10000", "APIXO_SEEDS": "3000"}
    rounds |= {"APIXO_LONG": "1", "APIXO_ALLOWANCE_LIVES": "10000"}
    kills = {"APIXO_KILLS": "200", "APIXO_MAP_KILLS": "40", "APIXO_MAP_ITEMS": "12000"}
    webhooks = {"APIXO_FORGERIES": "10000", "APIXO_WEBHOOK_TASKS": "1000"}
    suites = {
        "limits": ("allowance",),
        "realtime": (
            *("download_kills", "fault_server", "map_fail_points", "map_kills", "shutdown"),
            *("webhook_forgeries", "webhook_servers", "webhook_tasks"),
        ),
        "stories": ("ceilings", "map_lives", "simulation"),
        "webhooks": ("servers_asgi",),
    }
    files = [f"tests/{place}/test_{name}.py" for place in suites for name in suites[place]]
    others = ("-m", "long", *(f"--ignore={file}" for file in files))
    long = {**rounds, **kills, **webhooks}
    env = ENVIRONMENT | long | {"APIXO_WHEEL": wheel()}
    # Most of it waits for processes and timeouts.
    for selected in (files, others):
        session.run("pytest", "-q", "-n", "6", *selected, *session.posargs, env=env)


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz what reads foreign bytes, each target for APIXO_FUZZ_SECONDS (Linux)."""
    if sys.platform != "linux":
        session.skip("atheris is there for Linux")
    install(session, "fuzz")
    seconds = os.environ.get("APIXO_FUZZ_SECONDS", "60")
    seed = os.environ.get("APIXO_FUZZ_SEED", "1")
    findings = Path(session.create_tmp()) / "findings"
    targets = sorted(path.name for path in (ROOT / "tests/fuzz/corpus").iterdir())
    for target in session.posargs or targets:
        program = ("python", "tests/fuzz/run.py", target, seconds, seed, str(findings))
        session.run(*program, env=ENVIRONMENT | {"PYTHONPATH": "tests/fuzz"})


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False)
def mutation(session: nox.Session) -> None:
    """Change the rules one place at a time: their own tests are to notice 90 % (resumes)."""
    install(session, "mutation")
    results = ROOT / ".nox" / "mutants.jsonl"
    program = ("python", "tests/mutation/run.py", str(results))
    session.run(*program, *session.posargs, env=ENVIRONMENT | {"PYTHONPATH": "tests/mutation"})


@nox.session(python=PYTHONS.get(CHOSEN or ""), requires=["build"], default=False)
def instructions(session: nox.Session) -> None:
    """Count the instructions of a poll under valgrind, which has to be installed."""
    if shutil.which("valgrind") is None:
        session.skip("valgrind is not installed")
    install(session, "benchmarks")
    # What benchmarks measure is the package that lies beside them.
    env = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    session.run("python", "-m", "benchmarks", "instructions", *session.posargs, env=env)
