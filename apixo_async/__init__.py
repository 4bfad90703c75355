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

from typing import TYPE_CHECKING

from apixo_async._budget import Budget
from apixo_async._client import AsyncClient
from apixo_async._config import Timeouts
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
    Provider,
    Result,
    Snapshot,
    Statistics,
    TaskRef,
)
from apixo_async._version import __version__
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

if TYPE_CHECKING:
    from apixo_async._downloads.spool import FileStream
    from apixo_async._json import from_json, to_json
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


def __getattr__(name: str) -> object:
    # Few programs receive callbacks or name this type, and what these need takes time to import.
    if name == "FileStream":
        from apixo_async._downloads.spool import FileStream

        return FileStream
    if name in ("from_json", "to_json"):
        from apixo_async import _json

        return getattr(_json, name)
    if name in ("CallbackError", "WebhookReceiver"):
        from apixo_async import webhooks

        return getattr(webhooks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
