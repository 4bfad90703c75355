"""One task, from its submit to its files."""

from __future__ import annotations

import re
from typing import Final

from apixo_async._catalog import RESULT_LIFETIME, timing
from apixo_async._text import dollars
from apixo_async.testing.contract.evidence import (
    DAY,
    Evidence,
    SeenAnswer,
    Unknown,
    decoded,
    number_of,
    result_urls,
)
from apixo_async.testing.contract.probe import MODEL, PRICE, Plan
from apixo_async.testing.contract.statements import (
    Finding,
    assumed,
    found,
    is_object,
    kind,
    observed,
    stated,
    value_of,
)

#: Seconds, before `speed`, from a submit's answer to that of a first poll which still shows how a
#: task begins: a fiftieth of the least that it takes.
_MOST_UNTIL_FIRST_POLL: Final = timing(f"{MODEL}/1k").typical_low / 50


@stated(21, "A submit is answered with data.taskId, a text.", "models' pages", "Simulator.arrive")
def _task_id(evidence: Evidence, _: Plan) -> Finding:
    answer = evidence["task: submit"]
    given = answer.status_object.get("taskId")
    if answer.error is not None:
        raise Unknown(f"it was refused: {answer.says()}")
    return found(isinstance(given, str) and given != "", f"taskId is {kind(given)}")


@assumed(22, "A taskId is task_ and eight digits.", "OpenPoints.task_ids")
def _task_ids(evidence: Evidence, _: Plan) -> Finding:
    given = str(value_of(evidence["task: submit"], "taskId"))
    if re.fullmatch(r"task_\d{8}", given):
        return Finding("agree", "it is")
    is_uuid = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", given)
    shape = re.sub(r"[a-zA-Z]", "a", re.sub(r"\d", "0", given))[:60]
    return observed("task_ids", "uuid" if is_uuid else "other", f"it has the form {shape}")


@stated(
    23, "A task can be polled as soon as its submit is answered.", "models' pages", "Tasks.find"
)
def _polled_at_once(evidence: Evidence, _: Plan) -> Finding:
    evidence["task: submit"]
    if not evidence.polls:
        raise Unknown(evidence.reason("task"))
    first = evidence.polls[0]
    return found(first.error is None, first.says())


@stated(
    24,
    "A status has the taskId of the task that was asked for.",
    "models' pages",
    "tasks.status_object",
)
def _same_task(evidence: Evidence, _: Plan) -> Finding:
    given = value_of(evidence["task: submit"], "taskId")
    for one in (*_polls(evidence), evidence["task: end"]):
        if (shown := one.status_object.get("taskId")) != given:
            return Finding("differ", f"one that was {one.state} has another, {kind(shown)}")
    return Finding("agree", "all have")


@stated(
    25, "A task is pending, processing, success or failed.", "models' pages", "OpenPoints.odd_state"
)
def _states(evidence: Evidence, _: Plan) -> Finding:
    seen = dict.fromkeys(
        str(one.status_object["state"]) for one in _polls(evidence) if "state" in one.status_object
    )
    if not seen:
        raise Unknown("no state was seen")
    odd = [state for state in seen if state not in ("pending", "processing", "success", "failed")]
    return found(not odd, ", ".join(seen))


@assumed(26, "A task is pending at first.", "OpenPoints.pending")
def _pending(evidence: Evidence, _: Plan) -> Finding:
    first = _polls(evidence)[0]
    words = f"its first poll found it {first.state or 'without a state'}"
    if first.state not in ("pending", "processing"):
        raise Unknown(words)
    after = first.ended - evidence["task: submit"].ended
    if first.state == "processing" and after * evidence.speed > _MOST_UNTIL_FIRST_POLL:
        raise Unknown(f"{words}, {after:.2f} s after its submit: too late to know")
    return observed("pending", first.state == "pending", words)


@stated(
    27,
    "A task is done by its end: later polls answer the same.",
    "models' pages",
    "tasks.status_object",
)
def _stable(evidence: Evidence, _: Plan) -> Finding:
    end, again = evidence.status("task: end"), evidence["task: again"]
    changed = [name for name in end if again.status_object.get(name) != end[name]]
    return found(not changed, f"changed: {', '.join(changed)}" if changed else "they do")


@stated(28, "A text-to-image task of a plain prompt succeeds.", "models' pages", "Simulator")
def _succeeds(evidence: Evidence, _: Plan) -> Finding:
    end = evidence["task: end"]
    return found(end.state == "success", f"{end.state}, {end.status_object.get('failCode')}")


@assumed(29, "resultJson is a text that holds JSON.", "OpenPoints.result_json")
def _result_json(evidence: Evidence, _: Plan) -> Finding:
    given = value_of(_success(evidence), "resultJson")
    if isinstance(given, str):
        is_json = decoded(given) is not None
        return found(is_json, "a text" if is_json else "a text that holds no JSON")
    seen = "object" if is_object(given) else "other"
    return observed("result_json", seen, f"it is {kind(given)}")


@stated(
    30,
    "Its resultUrls are http(s) URLs, one for each image.",
    "models' pages",
    "SimulatedTask.result",
)
def _result_urls(evidence: Evidence, _: Plan) -> Finding:
    if decoded(value_of(_success(evidence), "resultJson")) is None:
        raise Unknown("resultJson cannot be read")
    urls = result_urls(_success(evidence))
    web = [url for url in urls if url.startswith(("http://", "https://"))]
    return found(len(web) == len(urls) == 1, f"{len(urls)} URLs, {len(web)} of them http(s)")


@stated(
    31,
    "createTime and completeTime are Unix milliseconds, costTime is milliseconds.",
    "models' pages",
    "tasks.status_object",
)
def _times(evidence: Evidence, _: Plan) -> Finding:
    end = _success(evidence)
    named = {name: end.status_object.get(name) for name in ("createTime", "completeTime")}
    odd = [
        f"{name} is {kind(value)}"
        for name, value in named.items()
        if abs(float(number_of(value) or 0) / 1000 - end.ended) > DAY
    ]
    if number_of(end.status_object.get("costTime")) is None:
        odd.append(f"costTime is {kind(end.status_object.get('costTime'))}")
    return found(not odd, "; ".join(odd) or "they are")


@assumed(
    32, "createTime lies between the sending of a submit and its answer.", "OpenPoints.created_late"
)
def _created(evidence: Evidence, _: Plan) -> Finding:
    submit, created = evidence["task: submit"], _stamp(evidence, "createTime")
    slack = 1.0  # Some are rounded to seconds, and no clock is exact.
    if submit.began - slack <= created <= submit.ended + slack:
        return Finding("agree", f"{created - submit.began:+.1f} s after its sending")
    late = round(created - submit.began, 1)
    return observed("created_late", late, f"{late:+.1f} s after its sending, by this clock")


@assumed(33, "Times have milliseconds.", "OpenPoints.whole_seconds")
def _whole_seconds(evidence: Evidence, _: Plan) -> Finding:
    _stamp(evidence, "createTime")
    names, ends = ("createTime", "completeTime"), ("task: end", "failing: end", "callback: end")
    for name in names:
        stamps = [
            number
            for end in ends
            if end in evidence.answers
            and (number := number_of(evidence.answers[end].status_object.get(name))) is not None
        ]
        # One alone may be so by chance, once in a thousand times.
        if len(stamps) > 1 and all(stamp % 1000 == 0 for stamp in stamps):
            return observed("whole_seconds", True, f"{name} has whole seconds")
    return Finding("agree", "they have")


@stated(
    34,
    "costTime is close to completeTime - createTime.",
    "pages of gpt-image-1",
    "SimulatedTask.cost",
)
def _cost_time(evidence: Evidence, _: Plan) -> Finding:
    span = _stamp(evidence, "completeTime") - _stamp(evidence, "createTime")
    cost = number_of(_success(evidence).status_object.get("costTime"))
    if cost is None:
        raise Unknown("there is no costTime")
    # Rounding may move each of both times by half a second.
    seconds = float(cost) / 1000
    words = f"{seconds:.3f} s against {span:.3f} s"
    return found(abs(seconds - span) <= 0.25 * abs(span) + 1.1 / min(evidence.speed, 1), words)


@stated(
    35,
    "An image of gpt-image-2 at 1k takes 30 to 120 s.",
    "page of gpt-image-2",
    "_catalog.TIMINGS",
)
def _duration(evidence: Evidence, _: Plan) -> Finding:
    known, submit, end = timing(f"{MODEL}/1k"), evidence["task: submit"], _success(evidence)
    running = [one for one in evidence.polls if not one.is_over]
    least = (running[-1].began if running else submit.ended) - submit.ended
    most = end.ended - submit.began
    low, high = known.typical_low / evidence.speed, known.typical_high / evidence.speed
    agrees = most >= low - 1 and least <= high + 1
    return found(agrees, f"between {least:.1f} and {most:.1f} s, at speed {evidence.speed:g}")


@stated(
    36,
    f"An image of gpt-image-2 at 1k costs {dollars(PRICE)}, at its submit.",
    "page of gpt-image-2",
    "inputs.GptImage2.price_of_resolution",
)
def _price(evidence: Evidence, _: Plan) -> Finding:
    value_of(evidence["task: submit"], "taskId")
    fell = evidence.money("task: before") - evidence.money("task: after")
    return found(fell == PRICE, f"the balance fell by {dollars(fell)}")


@assumed(37, "A task is not found under another model's name.", "OpenPoints.any_model")
def _any_model(evidence: Evidence, _: Plan) -> Finding:
    answer = evidence["task: other model"]
    if answer.error not in (None, 404):
        raise Unknown(f"answered otherwise: {answer.says()}")
    return observed("any_model", answer.error is None, answer.says())


@stated(38, "A file is fetched without the key, and is an image.", "models' pages", "Results.reply")
def _file(evidence: Evidence, _: Plan) -> Finding:
    answer = evidence["task: file"]
    is_image = answer.content.startswith((b"\x89PNG", b"\xff\xd8\xff", b"RIFF"))
    words = f"HTTP {answer.status}, {answer.headers.get('content-type')}"
    return found(answer.status == 200 and is_image, words)


@assumed(39, "A file is served in ranges.", "OpenPoints.ranges")
def _ranges(evidence: Evidence, _: Plan) -> Finding:
    if evidence["task: file"].status != 200:
        raise Unknown("the file was not there")
    answer, tags = evidence["task: file: part"], ("etag", "last-modified", "cache-control")
    seen = ", ".join(name for name in tags if name in answer.headers)
    words = f"HTTP {answer.status}, {len(answer.content)} bytes; {seen or 'no validator'}"
    return observed("ranges", (answer.status, len(answer.content)) == (206, 10), words)


@stated(
    40,
    "Files live 15 days.",
    "models' pages; another page has 24 hours",
    "_catalog.RESULT_LIFETIME",
)
def _lifetime(evidence: Evidence, _: Plan) -> Finding:
    file, old = evidence["old: file"], evidence["old"]
    created = number_of(old.status_object.get("createTime"))
    if created is None:
        raise Unknown("the task has no createTime")
    age = file.ended - float(created) / 1000
    words = f"HTTP {file.status} after {age / DAY:.1f} days"
    if file.status == 200:
        return Finding("agree" if age > DAY else "unknown", words)
    return Finding("differ" if age < RESULT_LIFETIME else "unknown", words)


def _polls(evidence: Evidence) -> list[SeenAnswer]:
    polls = [one for one in evidence.polls if one.error is None]
    if not polls:
        raise Unknown(evidence.reason("task"))
    return polls


def _success(evidence: Evidence) -> SeenAnswer:
    end = evidence["task: end"]
    if end.state != "success":
        raise Unknown("the task failed")
    return end


def _stamp(evidence: Evidence, name: str) -> float:
    """Return a time of the task, in seconds since the Unix epoch."""
    end = _success(evidence)
    value = number_of(end.status_object.get(name))
    if value is None or abs(float(value) / 1000 - end.ended) > DAY:
        raise Unknown(f"{name} is no time in milliseconds")
    return float(value) / 1000
