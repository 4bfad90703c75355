"""`apixo conform`: whether a service does what its documents state, and what clients assume."""

from __future__ import annotations

import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from apixo_async import ConfigurationError, Limits, TaskRef
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.inputs import parse_amount
from apixo_async._hosts import is_loopback
from apixo_async._text import dollars

if TYPE_CHECKING:
    from apixo_async.testing.contract import Agreement, ContractReport, Plan


def conform(
    max_cost: Annotated[
        str,
        typer.Option(metavar="USD", help="What may be spent; 0.10 for all but --crowds."),
    ] = "0",
    floods: Annotated[
        bool, typer.Option("--floods", help="Exceed the limit of requests: 3 minutes.")
    ] = False,
    crowds: Annotated[
        bool, typer.Option("--crowds", help="Exceed the limit of tasks: $0.02 for each of them.")
    ] = False,
    waits: Annotated[
        bool, typer.Option("--waits", help="Wait for the redeliveries of a callback: 13 minutes.")
    ] = False,
    concurrent_tasks: Annotated[
        int, typer.Option(min=1, help="Tasks at once that the account has.")
    ] = Limits().concurrent_tasks,
    requests_per_minute: Annotated[
        int, typer.Option(min=1, help="Requests in any 60 s that the account has.")
    ] = Limits().requests_per_minute,
    callback_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="https URL that leads to --callback-port. Not needed for a simulator here.",
        ),
    ] = None,
    callback_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Where callbacks arrive; 0 takes a free one.")
    ] = 0,
    old_task: Annotated[
        str | None,
        typer.Option(metavar="MODEL/TASK_ID", help="A task of more than a day ago: its files."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the findings as JSON: nothing of the account."),
    ] = None,
    as_json: options.AsJson = False,
    key_file: options.KeyFile = None,
    base_url: options.BaseUrl = None,
) -> None:
    """Check a service against the contract of the API, with your key: free without --max-cost.

    Prints for each statement whether the service agrees, differs, or nothing is known. Exit code
    11 where it differs.
    """
    from apixo_async.testing.contract import Plan

    screen = Screen(as_json=as_json)
    plan = Plan(
        max_cost=parse_amount("--max-cost", max_cost),
        limits=Limits(concurrent_tasks, requests_per_minute),
        floods=floods,
        crowds=crowds,
        waits=waits,
        old_task=None if old_task is None else _parse_ref(old_task),
    )
    access = session.Access(key_file, base_url)
    found = session.run(_conform(access, plan, callback_url, callback_port, screen))
    if report is not None:
        report.write_text(json.dumps(found.to_dict(), indent=2) + "\n", "utf-8")
    _print(found, plan, screen)
    if found.counts["differ"]:
        raise typer.Exit(ExitCode.DIFFERS)


async def _conform(
    access: session.Access, plan: Plan, callback_url: str | None, port: int, screen: Screen
) -> ContractReport:
    from apixo_async.testing.contract import conform, listening

    key = session.find_key(access, screen)
    async with AsyncExitStack() as stack:
        listener = None
        if plan.max_cost and (callback_url is not None or _is_here(access.base_url)):
            try:
                listener = await stack.enter_async_context(listening(callback_url, port=port))
            except OSError as exc:
                raise ConfigurationError(f"--callback-port {port}: {exc.strerror}") from exc
        return await conform(
            key,
            base_url=access.base_url,
            plan=plan,
            listener=listener,
            say=lambda line: screen.note(line, style="dim"),
        )


def _is_here(base_url: str | None) -> bool:
    """Return True for a service on this machine, which reaches a port of it."""
    url = base_url or os.environ.get("APIXO_BASE_URL", "")
    return is_loopback(urlsplit(url).hostname or "")


def _parse_ref(text: str) -> TaskRef:
    model, slash, task_id = text.partition("/")
    if not (model and slash and task_id):
        raise ConfigurationError(f"--old-task {text}: give MODEL/TASK_ID")
    return TaskRef(model, task_id)


def _print(found: ContractReport, plan: Plan, screen: Screen) -> None:
    if screen.as_json:
        screen.document(found.to_dict())
        return
    screen.table(
        ("no.", "", "statement", "evidence"),
        [
            (str(statement.number), finding.verdict, statement.text, finding.evidence)
            for statement, finding in found.findings
        ],
    )
    verdicts: tuple[Agreement, ...] = ("agree", "differ", "unknown")
    counts = ", ".join(f"{found.counts[verdict]} {verdict}" for verdict in verdicts)
    screen.note(f"{counts}; at most {dollars(found.spent)} of {dollars(plan.max_cost)} spent")
