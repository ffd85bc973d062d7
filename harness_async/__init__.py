"""Asyncio client for the Harness platform API.

`HarnessClient` is where to begin. Everything public is importable from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness_async.bulk.models import BulkReport, Plan, Progress, ProjectOutcome, ProjectRef
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
    )
    from harness_async.http.pacer import Pacer, RatePacer
    from harness_async.http.session import Response
    from harness_async.pagination.pager import Page, Pager, Walk, WalkReport
    from harness_async.resources.executions import Execution, ExecutionStatus
    from harness_async.resources.organizations import Organization
    from harness_async.resources.projects import Project
    from harness_async.stats import Stats

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
    "RequestSent",
    "RequestTimeoutError",
    "Response",
    "ResponseReceived",
    "RetryPlanned",
    "RetryPolicy",
    "ServerError",
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
]

# Names are imported when they are first asked for: the pytest plugin lives in this package and is loaded by every test
# run of every project on the machine, which must not pay for the client.
_HOMES = {
    "BulkRun": "bulk.run",
    "HarnessClient": "client",
    "RateLimit": "config",
    "RetryPolicy": "config",
    "Timeouts": "config",
    "APIStatusError": "errors",
    "Attempt": "errors",
    "AuthenticationError": "errors",
    "BadRequestError": "errors",
    "BudgetError": "errors",
    "BulkError": "errors",
    "CheckpointError": "errors",
    "ConfigurationError": "errors",
    "ConflictError": "errors",
    "DeadlineExceededError": "errors",
    "DecodeError": "errors",
    "FieldError": "errors",
    "HarnessError": "errors",
    "LockedError": "errors",
    "NotFoundError": "errors",
    "PaginationError": "errors",
    "PermissionDeniedError": "errors",
    "PreconditionFailedError": "errors",
    "RateLimitError": "errors",
    "RequestTimeoutError": "errors",
    "ServerError": "errors",
    "TransportError": "errors",
    "UnexpectedResponseError": "errors",
    "UnprocessableEntityError": "errors",
    "UnsupportedMediaTypeError": "errors",
    "Event": "events",
    "GateClosed": "events",
    "GateOpened": "events",
    "PageRead": "events",
    "RequestSent": "events",
    "ResponseReceived": "events",
    "RetryPlanned": "events",
    "Execution": "resources.executions",
    "ExecutionStatus": "resources.executions",
    "Organization": "resources.organizations",
    "BulkReport": "bulk.models",
    "Plan": "bulk.models",
    "Progress": "bulk.models",
    "ProjectOutcome": "bulk.models",
    "ProjectRef": "bulk.models",
    "Pacer": "http.pacer",
    "RatePacer": "http.pacer",
    "Page": "pagination.pager",
    "Pager": "pagination.pager",
    "Walk": "pagination.pager",
    "WalkReport": "pagination.pager",
    "Project": "resources.projects",
    "Response": "http.session",
    "Stats": "stats",
    "ProjectState": "bulk.sync",
    "SyncRun": "bulk.sync",
    "SyncState": "bulk.sync",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
