"""The arguments of the client's methods, checked before anything is sent or bought."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, TypeVar, cast, get_args
from urllib.parse import urlsplit

from apixo_async._catalog import Provider
from apixo_async._hosts import takes_callbacks
from apixo_async._types import Delivery, TaskRef, as_seconds
from apixo_async.errors import ConfigurationError, SubmitUncertainError
from apixo_async.inputs import (
    FluxKontext,
    GptImage1,
    GptImage2,
    Input,
    OtherModel,
    check_model_name,
)

T = TypeVar("T")

#: The most characters of a key.
LONGEST_KEY: Final = 200


def check_type(name: str, value: T | None, cls: type[T]) -> T | None:
    """Return the value if it is None or of the class.

    Raises:
        ConfigurationError: It is neither: often a class is given in place of an instance.
    """
    if value is None or isinstance(value, cls):
        return value
    raise ConfigurationError(f"{name}: {value!r} given; it takes a {cls.__name__}")


def require(name: str, value: T, cls: type[T]) -> T:
    """Return the value if it is of the class; None is not.

    Raises:
        ConfigurationError: It is not.
    """
    given: object = value
    if not isinstance(given, cls):
        raise ConfigurationError(f"{name} takes a {cls.__name__}, not a {type(given).__name__}")
    return value


def check_input(given: object) -> Input:
    """Return what was given if it is an input.

    Raises:
        ConfigurationError: It is not; a plain dict is the usual slip.
    """
    if isinstance(given, GptImage1 | GptImage2 | FluxKontext | OtherModel):
        return given
    raise ConfigurationError(
        f"a {type(given).__name__} given; an input is a GptImage1, GptImage2, FluxKontext or "
        "OtherModel: `from_dict(model, {...})` builds one from a mapping"
    )


def check_resubmit(error: SubmitUncertainError) -> SubmitUncertainError:
    """Return the error of an uncertain submit, unless it is known by now to have bought a task.

    Raises:
        ConfigurationError: It is known so, and would be bought twice; or something else was given.
    """
    error = require("resubmit", error, SubmitUncertainError)
    task = error.task
    if task is not None and (task.id_known or (task.callback_received and not task.done())):
        raise ConfigurationError(
            f"resubmit: a callback came for the task that this submit bought, {task.ref}, so that "
            "it would be bought twice: await `error.task`"
        )
    return error


def check_key(key: object, name: str = "key") -> str:
    """Return a key, or another name in a store, if it can be one.

    Raises:
        ConfigurationError: It cannot.
    """
    if not isinstance(key, str):
        raise ConfigurationError(f"{name}: a {type(key).__name__} given; it is a str")
    if not 0 < len(key) <= LONGEST_KEY:
        raise ConfigurationError(f"{name}: {len(key)} characters given; 1 to {LONGEST_KEY}")
    if "\0" in key or any("\ud800" <= char <= "\udfff" for char in key):
        raise ConfigurationError(f"{name}: it has a character that no database keeps")
    return key


def check_timeout(given: object) -> None:
    """Check the timeout of a wait: None, or a number of seconds from 0 up.

    Raises:
        ConfigurationError: It is neither.
    """
    seconds = as_seconds(given)
    if given is not None and (seconds is None or seconds < 0):
        raise ConfigurationError(f"timeout: {given!r} given; seconds from 0 up, or None")


def check_every(given: object) -> None:
    """Check an interval: None, or a number of seconds above 0.

    Raises:
        ConfigurationError: It is neither.
    """
    seconds = as_seconds(given)
    if given is not None and (seconds is None or seconds <= 0):
        raise ConfigurationError(f"every: {given!r} given; seconds above 0, or None")


def check_tag(tag: object) -> str | None:
    """Return a tag, which a store keeps, if it can be one; None for none.

    Raises:
        ConfigurationError: It cannot.
    """
    return None if tag is None else check_key(tag, "tag")


def check_amount(name: str, given: object) -> Decimal:
    """Return an amount of USD.

    Raises:
        ConfigurationError: It is none, or below 0.
    """
    try:
        # By its digits: 0.1 is meant as a tenth, and not as the float next to it.
        amount = Decimal(str(given)) if isinstance(given, int | float | str | Decimal) else None
    except InvalidOperation:
        amount = None
    except ValueError:  # Python writes no whole number of thousands of digits.
        given, amount = "a number of thousands of digits", None
    if amount is None or isinstance(given, bool) or not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"{name}: {given!r} given; USD from 0 up, such as 25 or '0.35'")
    return amount


def check_prices(given: object) -> dict[str, Decimal]:
    """Return the prices of models, possibly none.

    Raises:
        ConfigurationError: A model or a price is wrong.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"prices: {given!r} given; a mapping of models to USD")
    checked: dict[str, Decimal] = {}
    for model, amount in cast("Mapping[object, object]", given).items():
        try:
            name = cast("str", model)
            check_model_name(name)
        except (ValueError, TypeError) as exc:
            raise ConfigurationError(f"prices: {exc}") from None
        checked[name] = check_amount(f"prices[{name!r}]", amount)
    return checked


def check_delivery(
    callback_url: str | None, provider: str | None, tag: str | None = None
) -> Delivery:
    """Return the options of a submit, checked."""
    allowed = get_args(Provider)
    if provider is not None and provider not in allowed:
        raise ConfigurationError(
            f"provider: {provider!r} given; allowed are {', '.join(map(repr, allowed))}"
        )
    if callback_url is not None and not _may_be_called(callback_url):
        # The URL is not shown: it may hold a token.
        raise ConfigurationError(
            "callback_url: a public https:// URL is allowed, which the service must reach "
            "(plain http is for loopback hosts only)"
        )
    return Delivery(callback_url, provider, check_tag(tag))


def _may_be_called(given: object) -> bool:
    try:
        parts = urlsplit(given if isinstance(given, str) else "")
        return takes_callbacks(parts.scheme, parts.hostname or "")
    except ValueError:
        return False


def check_ref(
    model: str | TaskRef, task_id: str | None, model_of: Mapping[str, str] | None = None
) -> TaskRef:
    """Return the reference of a task that is given as one, or as model and id.

    Args:
        model: The model's name, or the reference.
        task_id: The id, unless a reference was given.
        model_of: The models of the tasks that are known, by id.

    Raises:
        ConfigurationError: The model or the id has a wrong form, or a known task of that id belongs
            to another model: its polls would go to a URL that knows no such task.
    """
    if isinstance(model, TaskRef):
        if task_id is not None:
            raise ConfigurationError("attach takes a TaskRef, or a model and a task id")
        ref = model
    elif task_id is None:
        raise ConfigurationError(f"attach: the model and the task id of the task; got {model!r}")
    else:
        ref = TaskRef(model, task_id)
    try:
        check_model_name(ref.model)
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from None
    known = (model_of or {}).get(ref.task_id, ref.model)
    if known != ref.model:
        raise ConfigurationError(f"task {ref.task_id} is one of {known}, not of {ref.model}")
    return ref


def check_hooks(
    name: str, hooks: Callable[[T], None] | Sequence[Callable[[T], None]] | None
) -> Sequence[Callable[[T], None] | None]:
    """Return the hooks of one name, of which there may be several; see `check_hook`."""
    if hooks is None or callable(hooks):
        return [check_hook(name, hooks)]
    if not isinstance(cast("object", hooks), list | tuple):
        raise ConfigurationError(f"{name}: {hooks!r:.200} given; a function, or a list of them")
    return [check_hook(name, hook) for hook in hooks]


def check_hook(name: str, hook: Callable[[T], None] | None) -> Callable[[T], None] | None:
    """Return a hook if it is None or a plain function.

    Raises:
        ConfigurationError: It cannot be called, or a call of it would have to be awaited: hooks are
            called in the middle of changes that no other coroutine may see.
    """
    given: object = hook
    if given is not None and (not callable(given) or inspect.iscoroutinefunction(given)):
        raise ConfigurationError(f"{name}: {given!r} given; a plain function of one argument")
    return hook
