"""One small server in three shapes: every task is done exactly so many seconds after its creation.

The shapes differ in paths and JSON only; counting, clock and HTTP server are the same.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.connection import Connection

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Tasks:
    """The tasks of one server.

    Attributes:
        created: When each was created, in Unix time, by id.
        requests: Requests of the client so far, of any kind.

    Args:
        seconds: How long each takes.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.created: dict[str, float] = {}
        self.requests = 0

    def create(self) -> str:
        """Make a task and return its id."""
        self.requests += 1
        task_id = f"task-{len(self.created):06}"
        self.created[task_id] = time.time()
        return task_id

    def is_over(self, task_id: str) -> bool:
        """Say whether a task is done; a poll."""
        self.requests += 1
        return time.time() >= self.created[task_id] + self.seconds


def apixo(tasks: Tasks) -> list[web.RouteDef]:
    """Speak as the APIXO API does."""

    async def generate(request: web.Request) -> web.Response:
        await request.read()
        return enveloped({"taskId": tasks.create()})

    async def status(request: web.Request) -> web.Response:
        task_id = request.query["taskId"]
        created = tasks.created[task_id]
        data: dict[str, object] = {"taskId": task_id, "createTime": int(created * 1000)}
        if not tasks.is_over(task_id):
            return enveloped(data | {"state": "processing"})
        urls = json.dumps({"resultUrls": [f"https://files.example/{task_id}.png"]})
        over = {"completeTime": int((created + tasks.seconds) * 1000), "resultJson": urls}
        return enveloped(data | over | {"state": "success"})

    return [
        web.post("/api/v1/generateTask/{model}", generate),
        web.get("/api/v1/statusTask/{model}", status),
    ]


def enveloped(data: Mapping[str, object]) -> web.Response:
    """Return an answer of the APIXO API."""
    return web.json_response({"code": 200, "message": "success", "data": data})


def openai(tasks: Tasks) -> list[web.RouteDef]:
    """Speak as the OpenAI API does of the batches of a vector store."""

    def batch(task_id: str, status: str) -> web.Response:
        counts = {"cancelled": 0, "completed": 0, "failed": 0, "in_progress": 0, "total": 1}
        return web.json_response(
            {
                "id": task_id,
                "object": "vector_store.files_batch",
                "created_at": int(tasks.created[task_id]),
                "vector_store_id": "store",
                "status": status,
                "file_counts": counts | {status: 1},
            }
        )

    async def create(request: web.Request) -> web.Response:
        await request.read()
        return batch(tasks.create(), "in_progress")

    async def retrieve(request: web.Request) -> web.Response:
        task_id = request.match_info["task_id"]
        return batch(task_id, "completed" if tasks.is_over(task_id) else "in_progress")

    return [
        web.post("/v1/vector_stores/store/file_batches", create),
        web.get("/v1/vector_stores/store/file_batches/{task_id}", retrieve),
    ]


def fal(tasks: Tasks) -> list[web.RouteDef]:
    """Speak as the queue of fal does."""

    async def submit(request: web.Request) -> web.Response:
        await request.read()
        task_id = tasks.create()
        url = f"http://{request.host}/bench/mark/requests/{task_id}"
        urls = {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}
        return web.json_response({"request_id": task_id, "queue_position": 0} | urls)

    async def status(request: web.Request) -> web.Response:
        over = tasks.is_over(request.match_info["task_id"])
        if not over:
            return web.json_response({"status": "IN_PROGRESS", "logs": None})
        return web.json_response({"status": "COMPLETED", "logs": None, "metrics": {}})

    async def response(request: web.Request) -> web.Response:
        tasks.requests += 1
        return web.json_response({"task_id": request.match_info["task_id"]})

    return [
        web.post("/bench/mark", submit),
        web.get("/bench/mark/requests/{task_id}/status", status),
        web.get("/bench/mark/requests/{task_id}", response),
    ]


SHAPES: dict[str, Callable[[Tasks], list[web.RouteDef]]] = {
    "apixo": apixo,
    "openai": openai,
    "fal": fal,
}


def serve(said: Connection, shape: str, seconds: float) -> None:
    """Serve one shape on a free port of the loopback interface; say the base URL."""
    asyncio.run(_serve(said, shape, seconds))


async def _serve(said: Connection, shape: str, seconds: float) -> None:
    tasks = Tasks(seconds)

    async def counts(_request: web.Request) -> web.Response:
        spent = time.process_time()
        return web.json_response(
            {"created": list(tasks.created.values()), "requests": tasks.requests, "cpu": spent}
        )

    app = web.Application()
    app.add_routes([*SHAPES[shape](tasks), web.get("/counts", counts)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    host, port = runner.addresses[0][:2]
    said.send(f"http://{host}:{port}")
    await asyncio.Event().wait()
