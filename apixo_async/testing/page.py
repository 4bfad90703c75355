"""The live page of a served simulator, and the JSON that it and tests ask for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING

from apixo_async.testing.replies import Call
from apixo_async.testing.routes import route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from apixo_async.testing.api import Api

_SHOWN = 60  # tasks on the page
_RECENT = 1_000  # tasks among which the latest results are
_PICTURES = 16
_PROMPT = 140  # characters of a prompt


def page_routes(simulator: Api) -> list[Route]:
    """Return the routes of the page and of the simulator's own questions."""
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    async def page(_: Request) -> Response:
        return HTMLResponse(files(__package__ or "").joinpath("page.html").read_text("utf-8"))

    async def picture(request: Request) -> Response:
        # The page's own thumbnails appear in no log and meet no fault.
        call = Call("GET", request.path_params["path"])
        reply = simulator.service.download(call, route(call), simulator.now())
        return Response(reply.body, reply.status, dict(reply.headers))

    def asked(answer: Callable[[], object]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(_: Request) -> Response:
            return Response(json.dumps(answer(), default=str), media_type="application/json")

        return endpoint

    return [
        Route("/", page),
        Route("/_simulator/state", asked(lambda: state(simulator))),
        Route("/_simulator/log", asked(lambda: [asdict(record) for record in simulator.log])),
        Route("/_simulator/callbacks", asked(lambda: _attempts(simulator))),
        Route("/_simulator/statistics", asked(lambda: asdict(simulator.statistics()))),
        Route("/_simulator/picture{path:path}", picture),
    ]


def _attempts(simulator: Api) -> list[dict[str, object]]:
    return [asdict(attempt) for attempt in simulator.callbacks.log]


def state(simulator: Api) -> dict[str, object]:
    """Return what the page shows, as of now; times are ages in seconds."""
    now = simulator.now()
    accounts = sorted(
        simulator.accounts,
        key=lambda account: (account.tasks(now), account.requests(now)),
        reverse=True,
    )
    for account in accounts[:1]:
        simulator.history.note(account, now)
    return {
        "accounts": [
            {
                "name": account.name,
                "balance": str(account.balance),
                "tasks": account.tasks(now),
                "requests": account.requests(now),
            }
            for account in accounts
        ],
        "limits": {
            "tasks": simulator.service.concurrent_tasks,
            "requests": simulator.service.requests_per_minute,
        },
        "history": simulator.history.since(now),
        "statistics": asdict(simulator.statistics()),
        "latest": _latest_pictures(simulator, now),
        "tasks": _newest(simulator, now),
    }


def _latest_pictures(simulator: Api, now: float) -> list[str]:
    recent = list(simulator.tasks.values())[-_RECENT:]
    done = [task for task in recent if task.state(now) == "success"]
    done.sort(key=lambda task: task.ends, reverse=True)
    return [task.result_paths()[0] for task in done[:_PICTURES]]


def _newest(simulator: Api, now: float) -> list[dict[str, object]]:
    newest = list(simulator.tasks.values())[: -_SHOWN - 1 : -1]
    return [
        {
            "id": task.id,
            "model": task.model,
            "state": task.state(now),
            "prompt": task.prompt[:_PROMPT],
            "age": round(now - task.created, 1),
            "lasted": round(min(now, task.ends) - task.created, 1),
            "progress": round(task.progress(now), 3),
            "price": str(task.price),
            "fail_code": task.fail_code if task.state(now) == "failed" else None,
            "pictures": task.result_paths() if task.state(now) == "success" else [],
        }
        for task in newest
    ]
