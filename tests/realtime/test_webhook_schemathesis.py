"""Schemathesis, which knows nothing of the receiver but a schema, against the mounted receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import settings
from schemathesis.python.asgi import ASGIClient, get_client
from schemathesis.specs.openapi.checks import negative_data_rejection, unsupported_method

from apixo_async.testing.virtual_time import VirtualTimeLoop
from apixo_async.webhooks._inbox import MOST, SPACING
from apixo_async.webhooks._tokens import Intent, Signer, seal

from ..support.requests import SECRET, Watched

#: Tokens that are the same in each run, so that its requests are.
KNOWN: Final = Intent("00" * 16, "gpt-image-1", 2**32 - 1)
TOKEN: Final = seal(KNOWN, Signer(SECRET.encode()))

WORD: Final = {"type": ["string", "number"], "pattern": r"\S"}
#: What is taken for a callback: an object that has a code, or names a task.
ENVELOPE: Final = {
    "type": "object",
    "anyOf": [
        {"required": ["code"]},
        {
            "required": ["data"],
            "properties": {
                "data": {
                    "type": "object",
                    "required": ["taskId"],
                    "properties": {"taskId": WORD},
                }
            },
        },
    ],
}


def operation(*statuses: int, token: bool) -> dict[str, Any]:
    """Return the callback's operation, and all that it may be answered."""
    parameter = {"name": "token", "in": "path", "required": True, "schema": {"type": "string"}}
    body = {"required": True, "content": {"application/json": {"schema": ENVELOPE}}}
    responses = {str(status): {"description": "an empty answer"} for status in statuses}
    return {
        "parameters": [parameter] if token else [],
        "post": {"requestBody": body, "responses": responses},
    }


SCHEMA: Final = schemathesis.openapi.from_dict(
    {
        "openapi": "3.1.0",
        "info": {"title": "callbacks", "version": "1"},
        "paths": {
            "/apixo/{token}": operation(404, token=True),
            f"/apixo/{TOKEN}": operation(200, token=False),
        },
    }
)


@dataclass
class Mounted(Watched):
    """A receiver in FastAPI with one open ticket, on a loop that runs between requests only."""

    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    async def open_known(self) -> None:
        """Open the ticket of the known token."""
        inbox = self.receiver.inbox()
        inbox.open(KNOWN.model, 3_600.0, self.polls.append, intent_id=KNOWN.id)

    def polled(self) -> int:
        """Return how many polls were caused, once a callback's second is over."""
        self.runner.run(asyncio.sleep(SPACING))
        return len(self.polls)


@pytest.fixture(scope="module")
def mounted() -> Iterator[Mounted]:
    """Open a ticket behind an application."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        made = Mounted(runner=runner)
        runner.run(made.open_known())
        yield made


@pytest.fixture(scope="module")
def client(mounted: Mounted) -> Iterator[ASGIClient]:
    """Mount the receiver in FastAPI, as an application does."""
    app: Any = FastAPI()  # Schemathesis names the types of ASGI more narrowly.
    app.mount("/apixo", mounted.receiver.asgi())
    with get_client(app) as made:
        yield made


@SCHEMA.parametrize()
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_schemathesis_sends(
    case: schemathesis.Case[Any], mounted: Mounted, client: ASGIClient
) -> None:
    """Its requests, right and wrong, meet the answers that are documented, and cause polls only."""
    before = mounted.polled()
    response = case.call(base_url=client.base_url, session=client)
    # What is no POST meets the same 404 as a wrong token, and not a 405. Any body is taken: only
    # the service knows the URL.
    excluded = [unsupported_method, negative_data_rejection]
    case.validate_response(response, excluded_checks=excluded)
    caused = int(response.status_code == 200 and before < MOST)
    assert mounted.polled() == before + caused
    assert mounted.unknown == []
