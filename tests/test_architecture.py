"""The shape of the house: what may import what, what each module owes, what lies in the tree."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import apixo_async

ROOT = Path(__file__).parents[1]
PACKAGE = "apixo_async"

#: From the ground up: a module imports from its own layer and from those before it.
LAYERS = {
    "words": "_version _text _html _catalog _result_files _types errors events inputs "
    "_canonical _hosts _files _media _local_images _sync _backoff _at_exit",
    "checks": "_config _validation _reporting _budget",
    "journal": "journal.*",  # It knows nothing of clients, requests and tasks.
    "stores": "stores.*",  # Nor do these.
    "limits": "_limits.*",
    "http": "_http.*",
    "edges": "_downloads.* webhooks.* aiohttp",
    "polling": "_polling.*",
    "task": "_task",
    "submit": "_submit.*",
    "runtime": "_settings _runtime",
    "map": "_map.*",
    "client": "_client _json __init__",
    "blocking": "blocking",
    "pipelines": "pipelines.*",
    "otel": "otel.*",
    "testing": "testing.*",
    "command": "_cli.* __main__",
}

#: Rules: they take the time as `now`, and neither wait nor do I/O.
RULES = (
    "_text _html _catalog _result_files _types errors events _canonical _backoff "
    "_limits.allowance _limits.adaptive _limits.window _limits.slots _limits.breaker "
    "_limits.priority _limits.shared _limits.shared_pauses _limits.leased "
    "_http.wire _http.verdicts _http.retry _media webhooks._tokens "
    "_polling.policy _polling.schedule _polling.adaptive _polling.prices _polling.inspection "
    "_polling.durations _polling.callback_health _map.policy _map.progress "
    "_map.reconciliation"
)
#: What rules may import beside each other. `random` is there for seeded sources handed in.
PURE = (
    "abc backoff base64 bisect collections collections.abc contextlib copy dataclasses datetime "
    "decimal difflib email.utils enum fractions functools hashlib heapq hmac html ipaddress "
    "itertools json logging math operator pathlib pydantic pydantic_core random re statistics "
    "string struct sys textwrap types typing urllib.parse zlib"
)
#: `logging` is there for the names of its levels.
PURE_ONLY_IN = {"logging": {"events"}}
#: What asks a clock, or a source of chance that nobody seeded.
IMPURE_CALL = re.compile(r"(datetime|date)\.(now|utcnow|today)|random\.(?!Random$)\w+|open|print")

#: Modules whose tests have another name than theirs.
TESTED_BY = {
    "__main__": "cli/test_app.py",
    "aiohttp": "realtime/test_transports.py",
    "_at_exit": "realtime/test_blocking.py",
    "_cli.options": "cli/test_app.py",
    "_cli.simulate": "realtime/cli/test_processes.py",
    "_cli.tasks": "realtime/cli/test_tasks_and_balance.py",
    "stores._batches": "realtime/stores/test_sqlite.py",
    "stores._news": "realtime/stores/test_postgres.py",
    "stores._rows": "realtime/stores/test_postgres.py",
    "stores._sql": "realtime/stores/test_postgres.py",
    "stores._sql_store": "realtime/stores/test_postgres.py",
    "testing.__main__": "realtime/test_process.py",
    "testing.contract.callbacks": "testing/contract/test_report.py",
    "testing.contract.errors": "testing/contract/test_report.py",
    "testing.contract.evidence": "testing/contract/test_report.py",
    "testing.contract.limits": "testing/contract/test_report.py",
    "testing.contract.one_task": "testing/contract/test_report.py",
    "testing.contract.probe": "testing/contract/test_report.py",
    "testing.contract.statements": "testing/contract/test_report.py",
    "testing.store_owner_checks": "testing/test_store_contract.py",
    "testing.store_steps": "testing/test_store_contract.py",
    "testing.uvicorn_server": "realtime/test_server.py",
}
#: Modules that state facts, or say what others do, and do nothing.
WITHOUT_TESTS = {"_submit.observer", "_version", "stores._protocol"}
#: Tests of the project as a whole, and of no module.
OF_THE_PROJECT = "architecture benchmarks contributing packaging portability readme"
#: Folders of tests that mirror no package.
OF_NO_PACKAGE = "stories realtime typing docs frameworks fuzz mutation support"

LONGEST = 600  # lines of a module: subjects are not cut in two for a shorter one


@dataclass(frozen=True)
class Module:
    """One module of the package: its name within the package, its path and its tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether this is a package's own file."""
        return self.path.name == "__init__.py"

    def imports(self, *, lazy: bool) -> Iterator[str]:
        """Yield what it imports, by full name; `lazy` adds what functions import when called."""
        nodes = ast.walk(self.tree) if lazy else _at_import(self.tree)
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: a relative import"
                assert node.module is not None
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if _is_module(name) else node.module for name in whole)

    def own_imports(self, *, lazy: bool) -> set[str]:
        """Return the modules of the package that it imports, by their names within it."""
        names = {name for name in self.imports(lazy=lazy) if name.partition(".")[0] == PACKAGE}
        return {name.removeprefix(PACKAGE).removeprefix(".") or "__init__" for name in names}


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _at_import(child)


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@functools.cache
def _modules() -> dict[str, Module]:
    found: dict[str, Module] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = Module(name, path, ast.parse(path.read_text("utf-8")))
    return found


def _layer_of(name: str) -> str:
    package = name.partition(".")[0]
    entry = f"{package}.*" if (ROOT / PACKAGE / package).is_dir() else name
    layers = [layer for layer, entries in LAYERS.items() if entry in entries.split()]
    assert len(layers) == 1, f"{name}: LAYERS has it {len(layers)} times, and not once"
    return layers[0]


each_module = pytest.mark.parametrize("module", _modules().values(), ids=lambda module: module.name)
each_rule = pytest.mark.parametrize(
    "module",
    [module for name, module in _modules().items() if name in RULES.split()],
    ids=lambda module: module.name,
)


def test_there_are_modules() -> None:
    """The checks below look at the package, and not at nothing."""
    assert {"errors", "_polling.poller", "_client", "testing", "_cli.app"} <= _modules().keys()
    assert {*RULES.split()} <= _modules().keys()


@each_module
def test_layers(module: Module) -> None:
    """Imports point from the surface towards the core, those inside of functions too."""
    order = [*LAYERS]
    own = order.index(_layer_of(module.name))
    imported = module.own_imports(lazy=True)
    assert {name for name in imported if order.index(_layer_of(name)) > own} == set()


def test_no_cycles() -> None:
    """No modules import each other in a circle, not even for annotations."""
    graph = {
        name: module.own_imports(lazy=False) - {name}  # a package's file may import its modules
        for name, module in _modules().items()
    }
    TopologicalSorter(graph).prepare()


@each_module
def test_the_surface_is_imported_by_nobody(module: Module) -> None:
    """Only `__main__` imports the command, and only the command imports the simulator."""
    allowed = {"__main__": {"_cli"}, "_cli": {"_cli", "testing"}, "testing": {"testing"}}
    part = module.name.partition(".")[0]
    imported = {name.partition(".")[0] for name in module.own_imports(lazy=True)}
    assert imported & {"_cli", "testing", "__main__"} <= allowed.get(part, set())


@each_module
def test_the_command_uses_public_names(module: Module) -> None:
    """Beside words of the package, the command imports what its users can import as well."""
    if module.name.partition(".")[0] != "_cli":
        return
    words = {"_catalog", "_hosts", "_text"}
    private = {name for name in module.own_imports(lazy=True) if re.search(r"(^|\.)_[a-z]", name)}
    assert {name for name in private if name.partition(".")[0] != "_cli"} <= words


@each_rule
def test_rules_import_no_clock_and_no_network(module: Module) -> None:
    """A rule imports other rules, and what can do no I/O."""
    own = {f"{PACKAGE}.{name}" for name in RULES.split()}
    foreign = set(module.imports(lazy=True)) - own - {"__future__"}
    assert foreign - set(PURE.split()) == set()
    misplaced = {name for name in foreign if module.name not in PURE_ONLY_IN.get(name, _modules())}
    assert misplaced == set()


@each_rule
def test_rules_ask_no_clock_and_no_chance(module: Module) -> None:
    """A rule is told the time, and handed its source of chance."""
    calls = [ast.unparse(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    assert [call for call in calls if IMPURE_CALL.fullmatch(call)] == []


def test_importing_the_package_is_cheap() -> None:
    """The package imports what is asked for; a client needs no extra, and never httpx 0.x."""
    assert _loaded(f"import {PACKAGE}") & {"asyncio", "httpx2", "pydantic"} == set()
    named = _loaded(f"from {PACKAGE} import AsyncClient, GptImage1")
    assert named & {"pydantic", "httpx2", f"{PACKAGE}._runtime"} == {"pydantic"}
    loaded = _loaded(f"import {PACKAGE}; {PACKAGE}.AsyncClient('test-key')")
    assert {PACKAGE, "httpx2", "pydantic"} <= loaded
    extras = {"typer", "rich", "starlette", "uvicorn", "PIL", "aiohttp", "httpx", "psycopg"}
    few = {"testing", "_cli", "webhooks", "_map.runner", "journal", "stores"}
    assert loaded & (extras | {f"{PACKAGE}.{name}" for name in few} | {"pytest"}) == set()


def _loaded(statement: str) -> set[str]:
    """Return the modules that a new process has loaded after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(ran.stdout.split())


def test_names_are_imported_from_where_they_are() -> None:
    """What the package imports lazily is what type checkers see, and `dir` lists all of it."""
    tree = _modules()["__init__"].tree
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.target) == "_NAMES"
    )
    imported = {
        str(node.module).removeprefix(f"{PACKAGE}."): {alias.name for alias in node.names}
        for node in _at_import(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{PACKAGE}.")
    }
    del imported["_version"]
    assert {module: {*listed.split()} for module, listed in names.items()} == imported
    assert {*apixo_async.__all__} <= {*dir(apixo_async)}
    with pytest.raises(AttributeError, match="no attribute 'Client'"):
        _ = vars(apixo_async)["__getattr__"]("Client")


@pytest.mark.parametrize("name", ["errors", "events", "inputs", "journal", "webhooks"])
def test_public_modules_need_no_import_of_their_own(name: str) -> None:
    """`import apixo_async` is enough for the modules of the words that callers use."""
    assert f"{PACKAGE}.{name}" in _loaded(f"import {PACKAGE}; {PACKAGE}.{name}")


def test_threads_import_at_once() -> None:
    """Threads that first ask for names at the same time all get them."""
    program = f"""
import threading, {PACKAGE}
names = sorted({PACKAGE}.__all__)
start, done = threading.Barrier(8), []
def ask(turn):
    start.wait()
    for name in names[turn * 7:] + names[:turn * 7]:
        getattr({PACKAGE}, name)
    done.append(turn)
threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(done))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.stdout == "8\n", ran.stderr


def test_a_client_without_a_store_imports_none() -> None:
    """Not a line of what only stores need, though it buys."""
    program = f"""
import asyncio, sys
from {PACKAGE} import AsyncClient, FluxKontext
from {PACKAGE}.testing.simulator import Simulator
def stores():
    names = ("stores", "_limits.shared", "_limits.leased", "_submit.keyed", "_submit.entries")
    known = [f"{PACKAGE}.{{name}}" for name in names]
    return [name for name in sys.modules if name.startswith(tuple(known))]
before = stores()
for name in before:
    del sys.modules[name]
async def main():
    simulator = Simulator()
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        await client.submit(FluxKontext(mode="pro", prompt="a castle"))
asyncio.run(main())
print(before, stores())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.stdout.strip().endswith(" []"), ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["__init__", "journal", "testing"])
def test_public_names(name: str) -> None:
    """`__all__` is sorted, and names all that its module imports from the package."""
    tree = _modules()[name].tree
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    imported = {
        alias.asname or alias.name
        for node in _at_import(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE)
        for alias in node.names
    }
    assert listed == sorted(set(listed))
    assert set(listed) == imported


@pytest.mark.parametrize("name", ["errors", "events", "inputs", "_types"])
def test_every_public_class_is_exported(name: str) -> None:
    """Errors, events, inputs and values come from `apixo_async` itself."""
    inner = {"_types": {"Billing", "Charges", "Delivery", "TaskHandle", "TaskInput"}}
    defined = {
        node.name
        for node in _modules()[name].tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    exported = (ROOT / PACKAGE / "__init__.py").read_text("utf-8")
    missing = {one for one in defined if f'"{one}",' not in exported}
    assert missing == inner.get(name, set())


def _class_names(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
            yield ast.unparse(node.target)


def test_a_class_name_stands_for_one_thing() -> None:
    """No two modules give a class or the alias of a type the same name.

    But `blocking` names each class as the one that it stands for.
    """
    owners: dict[str, list[str]] = {}
    for name, module in _modules().items():
        if name == "blocking":
            continue
        for one in _class_names(module):
            owners.setdefault(one, []).append(name)
    assert {name: owner for name, owner in owners.items() if len(owner) > 1} == {}


@each_module
def test_a_module_says_what_it_is(module: Module) -> None:
    """Every module has a docstring, and fits a reader's patience."""
    assert ast.get_docstring(module.tree)
    assert len(module.path.read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize(
    "module",
    [
        module
        for name, module in _modules().items()
        if not module.is_package and name not in WITHOUT_TESTS
    ],
    ids=lambda module: module.name,
)
def test_a_module_has_tests_of_its_own(module: Module) -> None:
    """tests/ mirrors the package; what is tested elsewhere says where."""
    *folders, last = module.name.split(".")
    folder = ROOT.joinpath("tests", *(folder.lstrip("_") for folder in folders))
    name = f"test_{last.strip('_')}"
    if named := TESTED_BY.get(module.name):
        assert (ROOT / "tests" / named).exists()
        assert not (folder / f"{name}.py").exists(), "TESTED_BY is not needed"
    else:
        places = [*folder.glob(f"{name}*.py"), *(ROOT / "tests/realtime").rglob(f"{name}.py")]
        assert places, f"{module.name}: {folder / name}.py is missing"


def _mirroring() -> Iterator[Path]:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        inner = path.relative_to(ROOT / "tests")
        elsewhere = len(inner.parts) > 1 and inner.parts[0] in OF_NO_PACKAGE.split()
        if not elsewhere and str(inner) not in TESTED_BY.values():
            yield inner


@pytest.mark.parametrize("path", [*_mirroring()], ids=str)
def test_tests_mirror_the_package(path: Path) -> None:
    """A test lies where its module lies, and its name begins as the module's does."""
    modules = [
        f"{module.path.relative_to(ROOT / PACKAGE).with_suffix('')}".replace("/_", "/").lstrip("_")
        for module in _modules().values()
    ]
    own = path.with_name(path.stem.removeprefix("test_")).as_posix()
    assert own in OF_THE_PROJECT.split() or any(
        own == name or own.startswith(f"{name}_") for name in modules
    )


def test_exceptions_are_still_needed() -> None:
    """No exception outlives its reason."""
    assert WITHOUT_TESTS | TESTED_BY.keys() <= _modules().keys()


def _texts() -> Iterator[Path]:
    for top in (PACKAGE, "tests", "benchmarks", ".ci"):
        yield from (path for path in (ROOT / top).rglob("*") if path.is_file())
    yield from (path for path in ROOT.iterdir() if path.suffix in (".py", ".md", ".toml"))


def test_no_words_of_the_workplace() -> None:
    """The tree speaks of the project only, and leaves nothing for later."""
    # Put together here, so that this file does not find itself.
    words = re.compile(r"\.\./" + "shared" + r"|\bTO" + r"DO\b|\bFIX" + r"ME\b|\bHA" + r"CK\b")
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in _texts()
        if "__pycache__" not in path.parts
        for match in words.finditer(path.read_text("utf-8", errors="replace"))
    }
    assert found == set()


ARCHITECTURE = (ROOT / ".github/ARCHITECTURE.md").read_text("utf-8")


def test_architecture_names_every_package() -> None:
    """The table of packages names what lies at the top of the package, in the order of `LAYERS`."""
    table = ARCHITECTURE.partition("## Packages")[2].partition("## Where")[0]
    named = re.findall(r"`(\w+)`", table.partition("|---|---|")[2])
    tops = [entry.removesuffix(".*") for layer in LAYERS.values() for entry in layer.split()]
    expected = {*tops} - {"__init__", "__main__", "_version"}
    assert expected <= {*named}
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    first = [re.findall(r"`(\w+)`", row)[0] for row in rows]
    layers = [
        next(i for i, names in enumerate(LAYERS.values()) if name in re.split(r"\W+", names))
        for name in first
    ]
    assert layers == sorted(layers)


@each_module
def test_invariants_have_their_number(module: Module) -> None:
    """An invariant that a comment names by number is one of those in ARCHITECTURE.md."""
    known = set(re.findall(r"^(\d+)\. \*\*", ARCHITECTURE, re.MULTILINE))
    named = re.findall(r"\(invariant (\d+)\)", module.path.read_text("utf-8"))
    assert set(named) <= known


def test_the_top_level_is_fixed() -> None:
    """Beside dot-files, git tracks seven entries at the top."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    )
    if listing.returncode != 0 or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    tops = {line.partition("/")[0] for line in listing.stdout.splitlines()}
    allowed = "pyproject.toml README.md LICENSE apixo_async tests benchmarks noxfile.py"
    assert {top for top in tops if not top.startswith(".")} <= set(allowed.split())


#: Tests of this kind that reach inside; all others stand on public names, and outlive every move.
REACH_INSIDE = (
    "realtime/cli/conftest realtime/cli/report/test_page realtime/cli/run/test_command "
    "realtime/cli/run/test_signals realtime/cli/test_demo realtime/cli/test_failures "
    "realtime/cli/test_processes realtime/test_certificates realtime/test_downloads "
    "realtime/stores/test_kills realtime/stores/test_postgres realtime/stores/test_sqlite "
    "realtime/test_fault_server realtime/test_http2 realtime/test_journals realtime/test_pooled "
    "realtime/test_reachable realtime/test_secrets realtime/test_transports "
    "realtime/test_webhook_crowds realtime/test_webhook_forgeries "
    "realtime/test_webhook_schemathesis stories/test_cancellation "
    "stories/test_map_disks stories/test_map_doubts stories/test_map_left_over "
    "stories/test_map_races stories/test_secrets "
    "stories/test_simulation"
)
#: Names of private modules, and of private attributes of a client and its parts.
PRIVATE = re.compile(
    r"apixo_async(\.\w+)*\._[a-z]|[a-z]\._(life|settings|engine|run|track|subscriptions|permits)\b"
)


def _black_box() -> list[Path]:
    tops = ("stories", "realtime", "typing")
    paths = [path for top in tops for path in sorted((ROOT / "tests" / top).rglob("*.py"))]
    return [*paths, ROOT / "tests/test_readme.py"]


@pytest.mark.parametrize("path", _black_box(), ids=lambda p: str(p.relative_to(ROOT / "tests")))
def test_black_box(path: Path) -> None:
    """Stories, and tests in real time, use what users use; what they need beyond is in `inside`."""
    reaches = PRIVATE.search(path.read_text("utf-8")) is not None
    name = path.relative_to(ROOT / "tests").with_suffix("").as_posix()
    assert reaches == (name in REACH_INSIDE.split())


TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_a_test_says_its_rule(path: Path) -> None:
    """Every test has a docstring: the rule that it would break with."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    tree = ast.parse(path.read_text("utf-8"))
    functions = [one for one in ast.walk(tree) if isinstance(one, kinds)]
    tests = [one for one in functions if one.name.startswith("test_")]
    assert tests
    assert [one.name for one in tests if not ast.get_docstring(one)] == []
