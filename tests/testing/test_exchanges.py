"""Replies: envelopes as the documentation shows them."""

from __future__ import annotations

import json

from apixo_async.testing.exchanges import Refusal, as_json, success


def test_success_has_the_documents_envelope() -> None:
    """A success is code 200, message "success" and the data, as JSON."""
    reply = success({"taskId": "task_12345678"})
    assert reply.body == b'{"code":200,"message":"success","data":{"taskId":"task_12345678"}}'
    assert (reply.status, reply.code) == (200, 200)
    assert reply.headers["content-type"] == "application/json"


def test_a_refusal_has_the_same_code_twice_and_null_data() -> None:
    """An error's HTTP status equals its envelope's code, and data is null."""
    reply = Refusal(429, "Rate limit exceeded", {"retry-after": "7"}).reply()
    assert (reply.status, reply.code) == (429, 429)
    assert json.loads(reply.body) == {"code": 429, "message": "Rate limit exceeded", "data": None}
    assert reply.headers["retry-after"] == "7"


def test_an_envelope_may_contradict_its_status() -> None:
    """HTTP 200 around an error code can be expressed."""
    reply = as_json({"code": 500, "message": "Server error", "data": None}, status=200)
    assert (reply.status, reply.code) == (200, 500)


def test_json_without_a_code_has_none() -> None:
    """Only an envelope's whole number is a code."""
    assert as_json([1], status=200).code is None
    assert as_json({"code": "200"}, status=200).code is None


def test_half_a_character_is_escaped() -> None:
    """JSON that holds half a character holds its escape, which is the only way to write it."""
    assert as_json({"code": 200, "data": "\ud83d \u00e9"}, status=200).body == (
        b'{"code":200,"data":"\\ud83d \\u00e9"}'
    )
