"""A task that fails, and the callbacks of one."""

from __future__ import annotations

import itertools
import re
from typing import Final

from apixo_async._text import dollars
from apixo_async.testing.contract.evidence import (
    Evidence,
    ReceivedCallback,
    SeenAnswer,
    Unknown,
)
from apixo_async.testing.contract.probe import MODEL, Plan
from apixo_async.testing.contract.statements import (
    Finding,
    assumed,
    found,
    kind,
    observed,
    stated,
    value_of,
)
from apixo_async.testing.tasks import FAILURES

#: Seconds, before `speed`, within which callbacks are copies of each other.
_COPIES: Final = 10.0


@stated(
    41,
    'A task that fails is answered code 200, "success", with failCode and failMsg.',
    "models' pages",
    "tasks.status_object",
)
def _failed(evidence: Evidence, _: Plan) -> Finding:
    end = _failure(evidence)
    kinds = [kind(end.status_object.get(name)) for name in ("failCode", "failMsg")]
    words = end.status, end.code, end.envelope.get("message")
    agrees = words == (200, 200, "success") and kinds == ["a text", "a text"]
    return found(agrees, f"{end.says()}; failCode is {kinds[0]}, failMsg {kinds[1]}")


@stated(42, "Its failCode is one of its model's page.", "page of gpt-image-2", "tasks.FAILURES")
def _fail_code(evidence: Evidence, _: Plan) -> Finding:
    given = str(value_of(_failure(evidence), "failCode"))
    return found(given in dict(FAILURES[MODEL]), given[:60])


@assumed(43, "A failed task has createTime and completeTime.", "OpenPoints.failed_times")
def _failed_times(evidence: Evidence, _: Plan) -> Finding:
    status = _failure(evidence).status_object
    named = [name for name in status if name.endswith("Time") and status[name] is not None]
    has = {"createTime", "completeTime"} <= {*named}
    return observed("failed_times", has, ", ".join(named) or "none")


@assumed(44, "The price of a failed task is not paid back.", "OpenPoints.refunds")
def _refunds(evidence: Evidence, _: Plan) -> Finding:
    _failure(evidence)
    back = evidence.money("failing: after") - evidence.money("failing: charged")
    return observed("refunds", back > 0, f"{dollars(back)} came back")


@stated(
    45,
    "A callback is a POST of the envelope of a status answer, without a model.",
    "models' pages",
    "OpenPoints.bare_callbacks",
)
def _callback_body(evidence: Evidence, _: Plan) -> Finding:
    answer = _callbacks(evidence)[-1].as_answer()
    missing = {*evidence.status("callback: end")} - {*answer.status_object}
    words = f"keys {', '.join(sorted(answer.envelope)) or 'none'}"
    if missing:
        words = f"{words}, without {', '.join(sorted(missing))} of a poll"
    has_model = "model" in answer.status_object
    return found(answer.code == 200 and not missing and not has_model, words)


@assumed(
    46,
    "A task has one callback, at its end.",
    "Simulator(processing_callbacks=, duplicate_callbacks=)",
)
def _one_callback(evidence: Evidence, _: Plan) -> Finding:
    states = [one.as_answer().state or "no state" for one in _callbacks(evidence)]
    return found(len(states) == 1, ", ".join(states))


@assumed(47, "A callback comes after the answer of its submit.", "Simulator(early_callbacks=)")
def _late_callback(evidence: Evidence, _: Plan) -> Finding:
    first, answered = _callbacks(evidence)[0].at, evidence["callback: submit"].ended
    return found(first >= answered, f"{first - answered:+.1f} s")


@assumed(48, "A callback has no signature.", "OpenPoints.signed_callbacks")
def _unsigned(evidence: Evidence, _: Plan) -> Finding:
    names = {name for one in _callbacks(evidence) for name in one.headers}
    signed = sorted(name for name in names if re.search("sign|hmac|digest|secret", name))
    agent = _callbacks(evidence)[0].headers.get("user-agent")
    words = f"{', '.join(signed) or 'none'}; its User-Agent is {agent!r}"
    return observed("signed_callbacks", bool(signed), words)


@stated(
    49,
    "A callback that is not answered 200 comes again after 30 s, 2 min and 10 min, and no more.",
    "models' pages",
    "callbacks.REDELIVERY",
)
def _redelivery(evidence: Evidence, _: Plan) -> Finding:
    if not evidence.refused_callbacks:
        raise Unknown(evidence.reason("redelivery"))
    times: list[float] = []
    for one in evidence.refused_callbacks:
        # Others come while it runs, and some come twice: each of them has attempts of its own.
        is_copy = bool(times) and (one.at - times[-1]) * evidence.speed < _COPIES
        if one.as_answer().state != "processing" and not is_copy:
            times.append(one.at)
    pauses = [round((b - a) * evidence.speed) for a, b in itertools.pairwise(times)]
    close = len(pauses) == 3 and all(
        0.8 * wanted <= pause <= 1.3 * wanted + 10
        for pause, wanted in zip(pauses, (30, 120, 600), strict=True)
    )
    return found(close, f"after {', '.join(f'{pause} s' for pause in pauses) or 'none'}")


def _failure(evidence: Evidence) -> SeenAnswer:
    submit = evidence["failing: submit"]
    if submit.error is not None:
        raise Unknown(f"its submit was refused: {submit.says()}")
    end = evidence["failing: end"]
    if end.state != "failed":
        raise Unknown("the task succeeded")
    return end


def _callbacks(evidence: Evidence) -> list[ReceivedCallback]:
    if not evidence.callbacks:
        raise Unknown(evidence.skipped.get("callback", "none came"))
    return evidence.callbacks
