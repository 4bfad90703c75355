"""Both limits, and what only chance shows."""

from __future__ import annotations

from apixo_async._catalog import WINDOW
from apixo_async._text import dollars
from apixo_async.testing.contract.evidence import Evidence, Flood, Unknown
from apixo_async.testing.contract.probe import Plan
from apixo_async.testing.contract.statements import Finding, assumed, found, observed, stated
from apixo_async.testing.open_points import ERRORS_THAT_MAY_BUY


@stated(
    50,
    "As many requests are answered in 60 s as the account has: 10,000 by most pages.",
    "models' pages; other pages have less",
    "_catalog.REQUESTS_PER_MINUTE",
)
def _requests(evidence: Evidence, plan: Plan) -> Finding:
    flood, limit = evidence.flood, plan.limits.requests_per_minute
    if flood is None or flood.refusal is None:
        raise Unknown(evidence.reason("flood") if flood is None else "none was answered 429")
    if flood.accepted > limit and _is_back_early(flood):
        raise Unknown("a minute of the service began while they were sent")
    return found(0.99 * limit <= flood.accepted <= limit, f"{flood.accepted:,}, then 429")


@assumed(
    51, "Polls, and requests for the balance, count against that limit.", "OpenPoints.polls_count"
)
def _polls_count(evidence: Evidence, _: Plan) -> Finding:
    flood = evidence.flood
    if flood is None:
        raise Unknown(evidence.reason("flood"))
    words = f"{flood.accepted:,} {flood.kind}"
    if flood.refusal is None:
        return observed("polls_count", False, f"none of {words} was answered 429")
    return Finding("agree", f"429 after {words}")


@assumed(52, "The limit holds for any 60 s, not for minutes of a clock.", "OpenPoints.window")
def _window(evidence: Evidence, plan: Plan) -> Finding:
    flood = evidence.flood
    if flood is None or flood.back_at is None:
        raise Unknown(evidence.reason("flood"))
    if flood.accepted < 0.99 * plan.limits.requests_per_minute:
        raise Unknown("another limit was met")
    words = f"accepted again {flood.back_at - flood.first_at:.1f} s after the first one"
    return observed("window", "minute" if _is_back_early(flood) else "sliding", words)


@assumed(53, "Requests that are answered 429 do not count.", "OpenPoints.refused_count")
def _refused_count(evidence: Evidence, _: Plan) -> Finding:
    flood = evidence.flood
    if flood is None or flood.freed is None or _is_back_early(flood):
        raise Unknown(evidence.reason("flood") if flood is None else "it cannot be seen here")
    missing = flood.freed - flood.again
    words = f"{flood.freed} had left the window, {flood.again} more were accepted"
    return observed("refused_count", missing > flood.refused / 2, words)


@assumed(54, "A 429 has no Retry-After.", "Simulator(retry_after=)")
def _retry_after(evidence: Evidence, _: Plan) -> Finding:
    refusals = [one for one in evidence.all_answers() if one.error == 429]
    if not refusals:
        raise Unknown(evidence.reason("flood"))
    named = next(
        (one.headers["retry-after"] for one in refusals if "retry-after" in one.headers), None
    )
    return found(named is None, "none" if named is None else f"Retry-After: {named[:40]}")


@stated(
    55,
    "As many tasks run at once as the account has: 1,000 by most pages; then 429.",
    "models' pages; other pages have less",
    "_catalog.CONCURRENT_TASKS",
)
def _tasks(evidence: Evidence, plan: Plan) -> Finding:
    if not evidence.crowd:
        raise Unknown(evidence.reason("crowd"))
    if any(one.error in ERRORS_THAT_MAY_BUY for one in evidence.crowd):
        raise Unknown("a submit was answered with an error that may have made a task")
    taken = sum(one.error is None for one in evidence.crowd)
    words = f"{taken:,} were taken, the last answer: {evidence.crowd[-1].says()}"
    agrees = taken == plan.limits.concurrent_tasks and evidence.crowd[-1].error == 429
    return found(agrees, words)


@assumed(56, "The place of a task is free as soon as it is over.", "OpenPoints.places_linger")
def _place(evidence: Evidence, _: Plan) -> Finding:
    evidence["crowd: end"]
    after = evidence["crowd: after"]
    return found(after.error is None, after.says())


@assumed(57, "A submit that is answered 500, 502 or 504 has made no task.", "OpenPoints.errors_buy")
def _errors_buy(evidence: Evidence, _: Plan) -> Finding:
    has_bought, words = _bought(evidence, *ERRORS_THAT_MAY_BUY)
    return observed("errors_buy", has_bought, words)


@stated(
    60,
    "A submit that is answered 503 has made no task.",
    "older pages: try later",
    "_http.verdicts.judge_submit",
)
def _unavailable_buys(evidence: Evidence, _: Plan) -> Finding:
    has_bought, words = _bought(evidence, 503)
    return found(not has_bought, words)


def _bought(evidence: Evidence, *codes: int) -> tuple[bool, str]:
    """Return whether a submit that was answered so was charged all the same."""
    for name, then in (("task", "after"), ("failing", "charged")):
        submit = evidence.answers.get(f"{name}: submit")
        if submit is not None and submit.error in codes:
            fell = evidence.money(f"{name}: before") - evidence.money(f"{name}: {then}")
            return fell > 0, f"{submit.says()}, and the balance fell by {dollars(fell)}"
    raise Unknown("no submit was answered so beside two balances")


@assumed(58, "A submit beyond the balance is answered 402.", "Simulator(no_credit=)")
def _no_credit(evidence: Evidence, _: Plan) -> Finding:
    return found(evidence["poor"].error == 402, evidence["poor"].says())


def _is_back_early(flood: Flood) -> bool:
    """Return True if a request was accepted again well before the first one was a minute old."""
    return flood.back_at is not None and flood.back_at - flood.first_at < WINDOW - 5
