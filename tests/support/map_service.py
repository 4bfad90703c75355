"""A simulator for runs that are killed: what goes wrong is said in a prompt's first word.

A program: its one argument is a JSON object of options, the first line of its output its base URL,
and ``/sold`` there tells what it has sold, and when each submit came and was answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from apixo_async.testing import Fault, Simulator, serve
from apixo_async.testing.exchanges import Call

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

#: By the first word of the prompt.
FAULTS: Final = {
    "lost": Fault.lost_answer(),
    "failing": Fault.task_fails(),
    "refused": Fault.status(400),
    "slow": Fault.task_lasts(1_000_000.0),
}


class Service(Simulator):
    """Answer every call after ``latency`` seconds, and do to submits what their prompts say."""

    def __init__(self, latency: float, **options: Any) -> None:
        options = {"concurrent_tasks": 10**6, "requests_per_minute": 10**7} | options
        super().__init__(durations=lambda *given: given[-1].uniform(5.0, 15.0), **options)
        self.latency = latency

    def begin(self, call: Call, now: float | None = None) -> Fault:  # noqa: ARG002  # as inherited
        """Return the fault of a request."""
        if call.path.startswith("/results/"):
            return Fault.none()
        prompt = json.loads(call.body)["input"]["prompt"] if call.method == "POST" else ""
        return Fault.delay(self.latency, FAULTS.get(prompt.partition(" ")[0]))

    def app(self) -> Starlette:
        """Return the app, with what tests ask."""
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def sold(_: Request) -> Response:  # On the loop: in a thread the tasks would change.
            return JSONResponse(self.sold())

        app = super().app()
        app.router.routes.insert(0, Route("/sold", sold))
        return app

    def sold(self) -> dict[str, object]:
        """Return its tasks, its submits with their times, and the callbacks that were given up."""
        return {
            "tasks": [[task.id, task.prompt, task.created] for task in self.tasks.values()],
            "submits": [[one.at, self._ended(one)] for one in self.log if one.kind == "submit"],
            "given_up": self.callbacks.counts.given_up,
        }

    def _ended(self, one: Any) -> float | None:
        return one.at + self.latency if "lost" in (one.fault or "") else one.answered_at


async def _serve(options: dict[str, Any]) -> None:
    async with serve(Service(**options)) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
