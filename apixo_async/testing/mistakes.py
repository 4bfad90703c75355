"""What is wrong with a request that the documentation does not have, and what it has instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from apixo_async.testing.exchanges import MEANINGS, MODEL_NAME, Call, Refusal, Route

#: The paths of the documentation, by the part that tells them apart.
_PATHS: Final[Mapping[str, str]] = {
    "generateTask": "/api/v1/generateTask/{model}",
    "statusTask": "/api/v1/statusTask/{model}?taskId={taskId}",
    "current-balance": "/api/v1/apikeys/current-balance",
}

#: What programs send in place of a value that they do not have.
_NO_VALUES: Final = ("none", "null", "undefined", "nan", "[object object]")

_OTHER_SCHEMES: Final = ("basic", "digest", "token", "key", "apikey", "api-key")
_OTHER_HEADERS: Final = ("x-api-key", "api-key", "apikey", "x-apikey", "token", "x-auth-token")
_OTHER_PARAMETERS: Final = ("key", "api_key", "apikey", "api-key", "token", "access_token")
_SHOWN_MODELS: Final = 8


def no_such_call(call: Call, found: Route) -> Refusal:
    """Return the 404 or 405 of a request that `route` found a problem with."""
    if found.problem != 405:
        return Refusal(404, _wrong_path(call.path))
    allowed = ", ".join(found.allowed)
    message = f"{MEANINGS[405]}: this path takes {allowed}, not {call.method:.20}"
    if "POST" in found.allowed:
        message += "; after a redirect many clients send a POST again as GET"
    elif "/statusTask/" in call.path:
        message += f", as {_PATHS['statusTask']}"
    return Refusal(405, message, {"allow": allowed})


def _wrong_path(path: str) -> str:
    parts = path.split("/")
    calls = {name.lower(): name for name in _PATHS}
    place = next((at for at, part in enumerate(parts) if part.lower() in calls), None)
    if place is None:
        return f"{MEANINGS[404]}: the documented paths are {', '.join(_PATHS.values())}"
    name = calls[parts[place].lower()]
    start = "/api/v1/apikeys/" if name == "current-balance" else "/api/v1/"
    before = [part for part in parts[:place] if part]
    behind = parts[place + 1 :]
    twice = before.count("v1") > 1
    begins = path.startswith("/") and before == start.strip("/").split("/")
    differences = {
        "has an empty part ('//')": "" in [*parts[1:place], *behind[:-1]],
        "ends with '/'": behind[-1:] == [""],
        "has /api/v1 twice": twice,
        f"does not begin with {start}": not begins and not twice,
        f"does not spell {name} so": parts[place] != name,
        "has more behind it": name == "current-balance" and any(behind),
    }
    wrong = [difference for difference, is_there in differences.items() if is_there]
    if name != "current-balance":
        wrong += _wrong_model([part for part in behind if part])
    documented = f"the documented path is {_PATHS[name]}"
    return f"{MEANINGS[404]}: {documented}; this one {' and '.join(wrong)}"


def _wrong_model(parts: list[str]) -> list[str]:
    if not parts:
        return ["names no model"]
    if len(parts) > 1:
        return ["has more than one part where the model stands"]
    if "?" in parts[0]:
        return ["has its '?' percent-encoded"]
    if not MODEL_NAME.fullmatch(parts[0]):
        return ["names a model with other characters than letters, digits, '.', '_' and '-'"]
    return []


def no_such_key(call: Call) -> Refusal:
    """Return the 401 of a request whose key belongs to no account; the key is not in it."""
    message = f"{MEANINGS[401]}: {_wrong_key(call)}; the documentation has "
    return Refusal(401, message + "'Authorization: Bearer YOUR_API_KEY'")


def _wrong_key(call: Call) -> str:
    scheme, _, key = call.headers.get("authorization", "").strip().partition(" ")
    key = key.strip()
    if not scheme:
        others = [name for name in _OTHER_HEADERS if name in call.headers]
        if others:
            return f"the header {others[0]} is not read"
        asked = any(name.lower() in _OTHER_PARAMETERS for name in call.query)
        return "a key in the query is not read" if asked else "no Authorization header came"
    if scheme.lower() in _OTHER_SCHEMES:
        return f"the scheme of the Authorization header is {scheme}"
    if scheme.lower() != "bearer":
        return "the Authorization header does not begin with 'Bearer '"
    if not key:
        return "no key follows Bearer"
    if "bearer" in key.lower().replace(",", " ").split():
        return "Bearer came twice"
    if key.lower() in (*_NO_VALUES, "your_api_key") or key[0] in "$<{%":
        return "a placeholder came in place of the key"
    if key[0] in "'\"":
        return "there are quotes around the key"
    return "no account has this key"


def no_such_model(model: str, models: Collection[str] | None) -> Refusal:
    """Return the 404 of a model that is not one of ``models``, or that no simulator has."""
    if models is None:
        return Refusal(404, f"Model not found: {model:.80}")
    shown = sorted(models)[:_SHOWN_MODELS]
    rest = len(models) - len(shown)
    there = ", ".join(shown) + (f" and {rest} more" if rest else "")
    return Refusal(404, f"Model not found: {model:.80}; there are {there or 'none'}")


def no_task_id(call: Call) -> Refusal:
    """Return the 400 of a poll without ``taskId``."""
    message = f"taskId is required in the query, as {_PATHS['statusTask']}"
    others = [name for name in call.query if _folded(name) in ("taskid", "task", "id", "jobid")]
    if "taskId" in call.query:
        message += "; it came empty: the answer to the submit has it as data.taskId"
    elif others:
        message += f"; {others[0]} is another name"
    elif call.body:
        message += "; the body of a poll is not read"
    return Refusal(400, message)


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def no_such_task(task_id: str, model: str | None, own_model: str | None) -> Refusal:
    """Return the 404 of a poll for a task that is not there.

    Args:
        task_id: As it came.
        model: The model in the path.
        own_model: The model of the task, where it is a task of another one.
    """
    message = "Task not found"
    if own_model is not None:
        message += f": it is a task of {own_model}, and the path has {model}"
    elif task_id.lower() in _NO_VALUES:
        message += f": taskId is {task_id}; the answer to the submit has it as data.taskId"
    elif task_id.strip("\"' \r\n\t") != task_id:
        message += ": there are quotes or spaces around taskId"
    else:
        message += ": no submit was answered with this taskId"
    return Refusal(404, message)
