"""Asyncio client for the Harness platform API.

Start with `HarnessClient`. Everything public can be imported from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness_async._version import __version__
    from harness_async.bulk.models import BulkReport, Plan, Progress, ProjectOutcome
    from harness_async.bulk.run import BulkRun
    from harness_async.bulk.sync import ProjectState, SyncRun, SyncState
    from harness_async.client import HarnessClient
    from harness_async.config import RateLimit, RetryPolicy, Timeouts
    from harness_async.errors import (
        APIStatusError,
        Attempt,
        AuthenticationError,
        BadRequestError,
        BudgetError,
        BulkError,
        CheckpointError,
        ConfigurationError,
        ConflictError,
        DeadlineExceededError,
        DecodeError,
        FieldError,
        HarnessError,
        LockedError,
        NotFoundError,
        PaginationError,
        PermissionDeniedError,
        PreconditionFailedError,
        RateLimitError,
        RequestError,
        RequestTimeoutError,
        ServerError,
        TransportError,
        UnexpectedResponseError,
        UnprocessableEntityError,
        UnsupportedMediaTypeError,
    )
    from harness_async.events import (
        Event,
        GateClosed,
        GateOpened,
        PageRead,
        RequestSent,
        ResponseReceived,
        RetryPlanned,
        Stats,
    )
    from harness_async.http.pacer import Pacer, RatePacer, SharedPacer
    from harness_async.http.session import Response
    from harness_async.pagination.pager import Pager
    from harness_async.pagination.walk import Page, Walk, WalkReport
    from harness_async.resources.executions import Execution, ExecutionStatus
    from harness_async.resources.organizations import Organization
    from harness_async.resources.projects import Project
    from harness_async.types import ProjectRef

__all__ = [
    "APIStatusError",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BudgetError",
    "BulkError",
    "BulkReport",
    "BulkRun",
    "CheckpointError",
    "ConfigurationError",
    "ConflictError",
    "DeadlineExceededError",
    "DecodeError",
    "Event",
    "Execution",
    "ExecutionStatus",
    "FieldError",
    "GateClosed",
    "GateOpened",
    "HarnessClient",
    "HarnessError",
    "LockedError",
    "NotFoundError",
    "Organization",
    "Pacer",
    "Page",
    "PageRead",
    "Pager",
    "PaginationError",
    "PermissionDeniedError",
    "Plan",
    "PreconditionFailedError",
    "Progress",
    "Project",
    "ProjectOutcome",
    "ProjectRef",
    "ProjectState",
    "RateLimit",
    "RateLimitError",
    "RatePacer",
    "RequestError",
    "RequestSent",
    "RequestTimeoutError",
    "Response",
    "ResponseReceived",
    "RetryPlanned",
    "RetryPolicy",
    "ServerError",
    "SharedPacer",
    "Stats",
    "SyncRun",
    "SyncState",
    "Timeouts",
    "TransportError",
    "UnexpectedResponseError",
    "UnprocessableEntityError",
    "UnsupportedMediaTypeError",
    "Walk",
    "WalkReport",
    "__version__",
]

# Names are imported on first use: the pytest plugin is part of this package and is loaded by every test run of every
# project on the machine, which should not pay for the client.
_MODULES = {
    "_version": ("__version__",),
    "bulk.models": ("BulkReport", "Plan", "Progress", "ProjectOutcome"),
    "bulk.run": ("BulkRun",),
    "bulk.sync": ("ProjectState", "SyncRun", "SyncState"),
    "client": ("HarnessClient",),
    "config": ("RateLimit", "RetryPolicy", "Timeouts"),
    "errors": (
        "APIStatusError",
        "Attempt",
        "AuthenticationError",
        "BadRequestError",
        "BudgetError",
        "BulkError",
        "CheckpointError",
        "ConfigurationError",
        "ConflictError",
        "DeadlineExceededError",
        "DecodeError",
        "FieldError",
        "HarnessError",
        "LockedError",
        "NotFoundError",
        "PaginationError",
        "PermissionDeniedError",
        "PreconditionFailedError",
        "RateLimitError",
        "RequestError",
        "RequestTimeoutError",
        "ServerError",
        "TransportError",
        "UnexpectedResponseError",
        "UnprocessableEntityError",
        "UnsupportedMediaTypeError",
    ),
    "events": (
        "Event",
        "GateClosed",
        "GateOpened",
        "PageRead",
        "RequestSent",
        "ResponseReceived",
        "RetryPlanned",
        "Stats",
    ),
    "http.pacer": ("Pacer", "RatePacer", "SharedPacer"),
    "http.session": ("Response",),
    "pagination.pager": ("Pager",),
    "pagination.walk": ("Page", "Walk", "WalkReport"),
    "resources.executions": ("Execution", "ExecutionStatus"),
    "resources.organizations": ("Organization",),
    "resources.projects": ("Project",),
    "types": ("ProjectRef",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
