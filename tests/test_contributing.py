"""What people are told who change the code: each command, marker, path and name of it exists."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "apixo_async"
GITHUB = ROOT / ".github"
CONTRIBUTING = (GITHUB / "CONTRIBUTING.md").read_text("utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
README = (ROOT / "README.md").read_text("utf-8")
WORKFLOWS = {path.name: path.read_text("utf-8") for path in (GITHUB / "workflows").glob("*.yml")}
#: Actions of GitHub itself, by the major version that is used everywhere.
ACTIONS = {
    "actions/checkout@v6",
    "actions/setup-python@v6",
    "actions/upload-artifact@v7",
    "actions/download-artifact@v8",
}


def _pythons() -> list[str]:
    """Return the Pythons that the metadata names, such as 3.11."""
    pattern = r"Programming Language :: Python :: (3\.\d+)"
    found = (re.fullmatch(pattern, line) for line in PROJECT["project"]["classifiers"])
    return [match[1] for match in found if match]


def _sessions() -> set[str]:
    """Return the names of nox's sessions: functions of the noxfile, and one for each Python."""
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    return {f"tests-{version}" for version in _pythons()} | {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(one).startswith("nox.session") for one in node.decorator_list)
    }


def _named_sessions(text: str) -> set[str]:
    """Return the sessions that a text names in a command, or in a workflow's matrix."""
    return {*re.findall(r"(?:nox -s |session: )([\w.-]+)", text)}


def test_every_session_is_explained() -> None:
    """CONTRIBUTING names each session of nox, and none that is not there."""
    others = {f"tests-{version}" for version in _pythons()[2:]}
    assert {"build", "docs", "lint", "soak"} <= _sessions()
    assert _named_sessions(CONTRIBUTING) | others == _sessions()
    assert all(f"`{name}` likewise" in CONTRIBUTING for name in others)


def test_every_marker_is_explained() -> None:
    """CONTRIBUTING has a row for each marker of pytest, and for no other."""
    markers = {
        line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]
    }
    table = CONTRIBUTING.partition("| marker |")[2].partition("\n\n")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)} == markers


def _paths(text: str) -> set[str]:
    """Return what a text names in backticks, or in a command, as a file or folder."""
    spoken = {one for one in re.findall(r"`([^`\s]+)`", text) if re.search(r"/|\.py$", one)}
    return spoken | {*re.findall(r"^python .* (tests/\S+)", text, re.MULTILINE)}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_every_path_exists(name: str) -> None:
    """A path in CONTRIBUTING and ARCHITECTURE is one of the tree, or of the package within."""
    made = {".nox/site"}
    paths = _paths((GITHUB / name).read_text("utf-8")) - made
    places = (ROOT, PACKAGE)
    assert len(paths) > 8
    assert {path for path in paths if not any((one / path).exists() for one in places)} == set()


def test_every_function_that_is_pointed_to_exists() -> None:
    """What ARCHITECTURE names beside a module as one of its functions is defined there."""
    table = (GITHUB / "ARCHITECTURE.md").read_text("utf-8").partition("## Where is")[2]
    named = re.findall(r"`([\w/]+\.py)`, `(\w+)`", table)
    assert named
    for path, function in named:
        assert f"def {function}(" in (PACKAGE / path).read_text("utf-8")


def test_the_architecture_is_whole() -> None:
    """It has the way of a task, numbered invariants, packages, "where is" and fifteen words."""
    text = (GITHUB / "ARCHITECTURE.md").read_text("utf-8")
    parts = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE))
    assert [*parts] == ["The way of a task", "Invariants", "Packages", "Where is ...?", "Glossary"]
    numbers = [int(one) for one in re.findall(r"^(\d+)\. \*\*", parts["Invariants"], re.MULTILINE)]
    assert numbers == [*range(1, len(numbers) + 1)]
    rows = {name: re.findall(r"^\| (\w.*?) \|", part, re.MULTILINE) for name, part in parts.items()}
    assert len(rows["Where is ...?"]) >= 12
    assert len(rows["Glossary"]) == 15


def test_links_lead_somewhere() -> None:
    """A link of the README and of the pages in .github ends at a file of the tree."""
    for page in (ROOT / "README.md", *GITHUB.glob("*.md")):
        links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text("utf-8"))
        local = [link for link in links if not link.startswith("https://")]
        assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_may_read_only(name: str) -> None:
    """A workflow reads the repository and has no secret; its actions are GitHub's own."""
    text = WORKFLOWS[name]
    assert "\npermissions:\n  contents: read\n\n" in text
    assert text.count("permissions:") == 1
    assert re.findall(r"secrets|: write|id-token|pypi-publish|twine upload", text) == []
    used = {*re.findall(r"uses: (\S+)", text)}
    assert {one for one in used if not one.startswith("./")} <= ACTIONS
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_workflows_run_what_there_is() -> None:
    """CI runs every Python's session and the default ones; a reusable workflow exists."""
    assert {*WORKFLOWS} == {"ci.yml", "docs.yml", "release.yml"}
    named = {name: _named_sessions(text) for name, text in WORKFLOWS.items()}
    assert set().union(*named.values()) <= _sessions()
    tests = {f"tests-{version}" for version in _pythons()}
    assert {"build", "lint", "types", "coverage"} | tests <= named["ci.yml"]
    assert named["docs.yml"] == {"docs"}
    assert "uses: ./.github/workflows/ci.yml" in WORKFLOWS["release.yml"]
    assert "\n  workflow_call:" in WORKFLOWS["ci.yml"]


def test_hooks_are_local() -> None:
    """No hook is fetched from elsewhere: each runs an installed tool, which a group has."""
    text = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert {*re.findall(r"repo: (\S+)", text)} == {"local"}
    hooks = text.count("- id: ")
    assert hooks == text.count("language: system")
    groups = PROJECT["dependency-groups"]
    tools = {
        re.split(r"[>\[]", one)[0]
        for one in groups["lint"] + groups["types"]
        if isinstance(one, str)
    }
    assert {*re.findall(r"entry: (\S+)", text)} <= tools


def test_what_is_untested_is_said() -> None:
    """The README names the Pythons of the metadata as tested, and the platforms that are not."""
    oldest, *_, newest = _pythons()
    assert f"CPython {oldest} to {newest} on Linux" in README
    untested = re.search(r"; ([^;]+) are untested\.", README)
    assert untested is not None
    major, minor = newest.split(".")
    for one in (f"Python {major}.{int(minor) + 1}", "free-threaded", "Windows"):
        assert one in untested[1]


def test_the_metadata_is_complete() -> None:
    """A reader of the package's index sees what it is; no URL is made up."""
    project = PROJECT["project"]
    assert {"description", "keywords", "readme", "requires-python", "license"} <= project.keys()
    assert project["requires-python"] == f">={_pythons()[0]}"
    assert "Typing :: Typed" in project["classifiers"]
    assert "urls" not in project
    assert not any(one.startswith("License ::") for one in project["classifiers"])


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    """The README ends with the changelog, whose first head is Unreleased, newest first."""
    *_, last = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert last == "Changelog"
    heads = re.findall(r"^### (.+)$", README.partition("## Changelog")[2], re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert len(heads) > 1


def test_files_of_habits_are_there() -> None:
    """Forms, templates and the settings of editors lie where tools look for them."""
    forms = {path.name for path in (GITHUB / "ISSUE_TEMPLATE").iterdir()}
    assert forms == {"bug_report.yml", "feature_request.yml", "config.yml"}
    for name in ("SECURITY.md", "PULL_REQUEST_TEMPLATE.md"):
        assert (GITHUB / name).read_text("utf-8").strip()
    blame = (ROOT / ".git-blame-ignore-revs").read_text("utf-8").splitlines()
    assert all(re.match(r"#|[0-9a-f]{40}\b", line) for line in blame)
    assert f"max_line_length = {PROJECT['tool']['ruff']['line-length']}" in (
        ROOT / ".editorconfig"
    ).read_text("utf-8")
