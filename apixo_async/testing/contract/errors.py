"""Envelopes, errors, and submits that are to be refused."""

from __future__ import annotations

from apixo_async._text import dollars
from apixo_async.testing.contract.evidence import (
    Evidence,
    SeenAnswer,
    Unknown,
    limit_headers,
    number_of,
)
from apixo_async.testing.contract.probe import Plan
from apixo_async.testing.contract.statements import (
    Finding,
    StatementCheck,
    assumed,
    found,
    is_object,
    kind,
    observed,
    stated,
)


@stated(1, "The balance is a bare number of USD.", "pages of the API", "Simulator: balance")
def _balance(evidence: Evidence, _: Plan) -> Finding:
    data = evidence["balance"].data
    return found(number_of(data) is not None, f"data is {kind(data)}")


@stated(
    2,
    'An answer is {"code": 200, "message": "success", "data": ...} where all went well.',
    "models' pages",
    "exchanges.success",
)
def _envelope(evidence: Evidence, _: Plan) -> Finding:
    evidence["balance"]
    for answer in evidence.all_answers():
        keys, message = sorted(answer.envelope), answer.envelope.get("message")
        is_usual = (answer.code, message, keys) == (200, "success", ["code", "data", "message"])
        if answer.error is None and answer.state != "failed" and not is_usual:
            return Finding("differ", f"keys {', '.join(keys) or 'none'}; {answer.says()}")
    return Finding("agree", "all are")


@stated(3, "Answers are application/json.", "models' pages", "exchanges.as_json")
def _content_type(evidence: Evidence, _: Plan) -> Finding:
    evidence["balance"]
    types = dict.fromkeys(
        answer.headers.get("content-type", "none").partition(";")[0].strip().lower()
        for answer in evidence.all_answers()
    )
    return found([*types] == ["application/json"], ", ".join(types))


def _refused(name: str, *codes: int) -> StatementCheck:
    def check(evidence: Evidence, _: Plan) -> Finding:
        return found(evidence[name].error in codes, evidence[name].says())

    return check


_MODELS, _API, _PAGE = "models' pages", "pages of the API", "page of gpt-image-2"
_KEYS = (
    (4, "no key", "A request without a key is answered 401."),
    (5, "wrong key", "A request with a wrong key is answered 401."),
    (6, "wrong key: poll", "A poll with a wrong key is answered 401."),
    (7, "wrong key: submit", "A submit with a wrong key is answered 401."),
)
for _number, _name, _text in _KEYS:
    stated(_number, _text, _MODELS, "Simulator: Refusal(401)")(_refused(_name, 401))

_UNKNOWN = (
    (8, "unknown task", 404, "A poll of a task that does not exist is answered 404."),
    (9, "no task id", 400, "A poll without a taskId is answered 400."),
    (10, "wrong: model", 404, "A submit of a model that does not exist is answered 404."),
)
for _number, _name, _code, _text in _UNKNOWN:
    stated(_number, _text, _API, f"Simulator: Refusal({_code})")(_refused(_name, _code))


@assumed(11, "An error is the HTTP status and the envelope's code alike.", "OpenPoints.errors")
def _errors(evidence: Evidence, _: Plan) -> Finding:
    errors = _errors_in_envelopes(evidence)
    odd = next((one for one in errors if one.status != one.code), None)
    if odd is None:
        return Finding("agree", f"in all of {len(errors)}")
    return observed("errors", "code" if odd.status == 200 else "other", odd.says())


@assumed(12, "The data of an error is null.", "OpenPoints.error_data")
def _error_data(evidence: Evidence, _: Plan) -> Finding:
    errors = _errors_in_envelopes(evidence)
    for one in errors:
        if "data" not in one.envelope:
            return observed("error_data", "missing", f"it is missing: {one.says()}")
        if one.data is not None:
            seen = "object" if is_object(one.data) else "other"
            return observed("error_data", seen, f"it is {kind(one.data)}: {one.says()}")
    return Finding("agree", f"in all of {len(errors)}")


def _errors_in_envelopes(evidence: Evidence) -> list[SeenAnswer]:
    errors = [one for one in evidence.all_answers() if one.error and one.code is not None]
    if not errors:
        raise Unknown("no error in an envelope was met")
    return errors


@assumed(13, "No header tells how much of a limit is left.", "OpenPoints.limit_headers")
def _limit_headers(evidence: Evidence, _: Plan) -> Finding:
    evidence["balance"]
    names = limit_headers(evidence.all_answers())
    others = {name for one in evidence.all_answers() for name in one.headers if name[:2] == "x-"}
    seen = f"{', '.join(names) or 'none'}; others are {', '.join(sorted(others)) or 'none'}"
    return observed("limit_headers", bool(names), seen)


_WRONG = (
    (14, "callback without URL", "Callback mode without a callback_url", _MODELS, "submissions"),
    (15, "request type", "A request_type beside async and callback", _MODELS, "submissions"),
    (16, "no input", "A submit without input", _MODELS, "submissions"),
    (17, "resolution", "A resolution beside 1k, 2k and 4k", _PAGE, "inputs.GptImage2"),
    (18, "aspect ratio", "An aspect_ratio that is not listed", _PAGE, "inputs.GptImage2"),
    (19, "long prompt", "A prompt of more than 20,000 characters", _PAGE, "inputs.GptImage2"),
    (20, "no images", "Image-to-image without image_urls", _PAGE, "inputs.GptImage2"),
)
for _number, _name, _text, _source, _place in _WRONG:
    stated(_number, f"{_text} is answered 400.", _source, _place)(_refused(f"wrong: {_name}", 400))


@stated(59, "A submit that is refused costs nothing.", _MODELS, "Simulator: _submit")
def _free_refusals(evidence: Evidence, _: Plan) -> Finding:
    submits = [one for name, one in evidence.answers.items() if name.startswith("wrong: ")]
    if not submits:
        raise Unknown(evidence.reason("wrong"))
    if any(one.error is None for one in submits):
        raise Unknown("not all of them were refused")
    fell = evidence.money("balance") - evidence.money("task: before")
    return found(fell == 0, f"the balance fell by {dollars(fell)}")
