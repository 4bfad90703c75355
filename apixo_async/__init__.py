"""Asyncio client for the APIXO generation API: submit a task, await it, download its result."""

# General layout, from the ground up; a module imports from what stands above it.
#
# errors, events, inputs, _types   words that callers and all packages use
# journal                          the file in which `map` keeps its items
# _limits, _http                   what the account may do now; every byte to the API
# _polling, _submit, _task         when to ask for a task; buying one; its handle
# _downloads, webhooks             files of results; callbacks
# _settings, _runtime, _map, _client    the parts of a client, many inputs, what callers call
# blocking                         the client for code without an event loop
# otel                             spans and metrics, from events
# pipelines                        rows of tables, for engines that run them again
# testing, _cli                    the simulator; the `apixo` command
#
# .github/ARCHITECTURE.md says more: the way of a task, the invariants, a glossary.

import importlib
from typing import TYPE_CHECKING, Final

from apixo_async._version import __version__

if TYPE_CHECKING:
    from apixo_async._budget import Budget
    from apixo_async._catalog import Provider
    from apixo_async._client import AsyncClient
    from apixo_async._config import Timeouts
    from apixo_async._downloads.spool import FileStream
    from apixo_async._json import from_json, to_json
    from apixo_async._limits.limiter import Limiter
    from apixo_async._map.items import Outcome, OutcomeState
    from apixo_async._map.outcomes import Outcomes
    from apixo_async._map.progress import Progress
    from apixo_async._map.reconciliation import Reconciliation
    from apixo_async._polling.policy import Polling
    from apixo_async._result_files import MediaKind, ResultFile
    from apixo_async._task import Task
    from apixo_async._types import (
        Estimate,
        File,
        Limits,
        Result,
        Snapshot,
        Statistics,
        TaskRef,
    )
    from apixo_async.errors import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        ApixoError,
        AuthenticationError,
        BadRequestError,
        BudgetExceededError,
        Category,
        ClientClosedError,
        ConfigurationError,
        DownloadError,
        FailureCategory,
        InsufficientBalanceError,
        InternalServerError,
        JournalError,
        JournalWarning,
        KeyConflictError,
        NotFoundError,
        PermissionDeniedError,
        PollerDiedError,
        PresumedNotBoughtError,
        RateLimitError,
        ResultExpiredError,
        StoreError,
        SubmitUncertainError,
        TaskAbandonedError,
        TaskError,
        TaskFailedError,
        TaskNotFoundError,
        WaitTimeoutError,
    )
    from apixo_async.events import (
        CallbackReceived,
        CallbacksLost,
        CallbacksRestored,
        ClientClosed,
        ClientOpened,
        EffectiveLimitLowered,
        EffectiveLimitRaised,
        Event,
        LimitReached,
        PollerDied,
        PollFailed,
        ResultDownloaded,
        ServiceDown,
        ServiceRecovered,
        SubmitRefused,
        SubmitUncertain,
        TaskAdopted,
        TaskAttached,
        TaskDetached,
        TaskOrphaned,
        TaskPolled,
        TaskSettled,
        TaskSubmitted,
        UncertainSubmitResolved,
    )
    from apixo_async.inputs import (
        FluxKontext,
        GptImage1,
        GptImage2,
        Input,
        InputWarning,
        LocalImage,
        OtherModel,
        from_dict,
    )
    from apixo_async.webhooks import CallbackError, WebhookReceiver

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "ApixoError",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "Budget",
    "BudgetExceededError",
    "CallbackError",
    "CallbackReceived",
    "CallbacksLost",
    "CallbacksRestored",
    "Category",
    "ClientClosed",
    "ClientClosedError",
    "ClientOpened",
    "ConfigurationError",
    "DownloadError",
    "EffectiveLimitLowered",
    "EffectiveLimitRaised",
    "Estimate",
    "Event",
    "FailureCategory",
    "File",
    "FileStream",
    "FluxKontext",
    "GptImage1",
    "GptImage2",
    "Input",
    "InputWarning",
    "InsufficientBalanceError",
    "InternalServerError",
    "JournalError",
    "JournalWarning",
    "KeyConflictError",
    "LimitReached",
    "Limiter",
    "Limits",
    "LocalImage",
    "MediaKind",
    "NotFoundError",
    "OtherModel",
    "Outcome",
    "OutcomeState",
    "Outcomes",
    "PermissionDeniedError",
    "PollFailed",
    "PollerDied",
    "PollerDiedError",
    "Polling",
    "PresumedNotBoughtError",
    "Progress",
    "Provider",
    "RateLimitError",
    "Reconciliation",
    "Result",
    "ResultDownloaded",
    "ResultExpiredError",
    "ResultFile",
    "ServiceDown",
    "ServiceRecovered",
    "Snapshot",
    "Statistics",
    "StoreError",
    "SubmitRefused",
    "SubmitUncertain",
    "SubmitUncertainError",
    "Task",
    "TaskAbandonedError",
    "TaskAdopted",
    "TaskAttached",
    "TaskDetached",
    "TaskError",
    "TaskFailedError",
    "TaskNotFoundError",
    "TaskOrphaned",
    "TaskPolled",
    "TaskRef",
    "TaskSettled",
    "TaskSubmitted",
    "Timeouts",
    "UncertainSubmitResolved",
    "WaitTimeoutError",
    "WebhookReceiver",
    "__version__",
    "from_dict",
    "from_json",
    "to_json",
]

#: What each module gives. It is imported when one of its names is first asked for, so that no
#: program waits for what it does not use.
_NAMES: Final = {
    "_budget": "Budget",
    "_catalog": "Provider",
    "_client": "AsyncClient",
    "_config": "Timeouts",
    "_downloads.spool": "FileStream",
    "_json": "from_json to_json",
    "_limits.limiter": "Limiter",
    "_map.items": "Outcome OutcomeState",
    "_map.outcomes": "Outcomes",
    "_map.progress": "Progress",
    "_map.reconciliation": "Reconciliation",
    "_polling.policy": "Polling",
    "_result_files": "MediaKind ResultFile",
    "_task": "Task",
    "_types": "Estimate File Limits Result Snapshot Statistics TaskRef",
    "errors": (
        "APIConnectionError APIStatusError APITimeoutError ApixoError AuthenticationError "
        "BadRequestError BudgetExceededError Category ClientClosedError ConfigurationError "
        "DownloadError FailureCategory InsufficientBalanceError InternalServerError JournalError "
        "JournalWarning KeyConflictError NotFoundError PermissionDeniedError PollerDiedError "
        "PresumedNotBoughtError RateLimitError ResultExpiredError StoreError SubmitUncertainError "
        "TaskAbandonedError TaskError TaskFailedError TaskNotFoundError WaitTimeoutError"
    ),
    "events": (
        "CallbackReceived CallbacksLost CallbacksRestored ClientClosed ClientOpened "
        "EffectiveLimitLowered EffectiveLimitRaised Event LimitReached PollFailed PollerDied "
        "ResultDownloaded ServiceDown ServiceRecovered SubmitRefused SubmitUncertain TaskAdopted "
        "TaskAttached TaskDetached TaskOrphaned TaskPolled TaskSettled TaskSubmitted "
        "UncertainSubmitResolved"
    ),
    "inputs": "FluxKontext GptImage1 GptImage2 Input InputWarning LocalImage OtherModel from_dict",
    "webhooks": "CallbackError WebhookReceiver",
}
_MODULE_OF: Final = {name: module for module, names in _NAMES.items() for name in names.split()}

if not TYPE_CHECKING:  # Type checkers are to report a name that is not there.

    def __getattr__(name: str) -> object:
        if name in ("errors", "events", "inputs", "journal", "webhooks"):
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
