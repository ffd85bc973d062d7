"""Asyncio client for the Harness platform API.

Start with `HarnessClient`. Everything public can be imported from here.

```python
import asyncio
from harness_async import HarnessClient

async def main() -> None:
    async with HarnessClient() as harness:  # key and account from the environment
        async for execution in harness.executions.list("default", "payments"):
            print(execution.created_at, execution.status, execution.workspace)

asyncio.run(main())
```

The guides are the documentation of the packages:

- `harness_async.resources`: what can be read and changed, and the rows.
- `harness_async.pagination`: lists, and what is guaranteed of a list that changes while it is read.
- `harness_async.bulk`: the lists of many projects, checkpoints and incremental sync.
- `harness_async.http`: deadlines, retries, pacing, several processes, logging and events.
- `harness_async.config`: key, account, host, proxies and certificates.
- `harness_async.errors`: the tree of errors.
- `harness_async.testing`: a fake server for tests.

# The client

A client belongs to one account and to one event loop. Its connections are opened by the first call; any number of
tasks of that loop may use it concurrently. Create one client and share it: the rate limit belongs to the key, and a
client keeps all its calls within it. `with_options` returns a client with other timeouts, retries or events over the
same connections and the same pacing. Another thread or a child process needs a client of its own.

Methods of a resource return rows, which are immutable attrs classes. They compare by value, can be hashed and
pickled, and have `to_dict()`. Lists return a `Pager` without awaiting; `bulk` and `sync` return a `BulkRun`.

Endpoints without a method of their own are reached with `HarnessClient.request`, and lists with
`HarnessClient.paginate` and `HarnessClient.bulk`. They have the same authentication, pacing, retries and errors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness_async._version import __version__
    from harness_async.bulk.factory import BulkOptions, SyncOptions
    from harness_async.bulk.models import Batch, BulkReport, Plan, Progress, ProjectOutcome
    from harness_async.bulk.run import BulkRun
    from harness_async.bulk.sync import ProjectState, SyncRun, SyncState, UnfinishedRow
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
    from harness_async.http.pacer import Pacer, RatePacer
    from harness_async.http.session import Response
    from harness_async.http.shared_pacer import SharedPacer
    from harness_async.pagination.dialects import DIALECTS, Dialect, DialectName
    from harness_async.pagination.pager import Pager
    from harness_async.pagination.source import Page, WalkReport
    from harness_async.pagination.walk import Walk
    from harness_async.resources.activities import Activity, ActivityStatus, ActivityType, Counts
    from harness_async.resources.approvals import Approval, ApprovalStatus
    from harness_async.resources.audits import AuditEvent
    from harness_async.resources.changes import ChangeType, CostChanges, ResourceChange
    from harness_async.resources.environments import Environment, EnvironmentType
    from harness_async.resources.executions import Execution, ExecutionStatus
    from harness_async.resources.organizations import Organization
    from harness_async.resources.pipeline_executions import PipelineExecution, PipelineStatus
    from harness_async.resources.pipelines import Pipeline
    from harness_async.resources.projects import Project
    from harness_async.resources.services import Service
    from harness_async.resources.workspaces import Workspace, WorkspaceCost, WorkspaceResources, WorkspaceStatus
    from harness_async.types import ProjectRef, TimeWindow

__all__ = [
    "DIALECTS",
    "APIStatusError",
    "Activity",
    "ActivityStatus",
    "ActivityType",
    "Approval",
    "ApprovalStatus",
    "Attempt",
    "AuditEvent",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BudgetError",
    "BulkError",
    "BulkOptions",
    "BulkReport",
    "BulkRun",
    "ChangeType",
    "CheckpointError",
    "ConfigurationError",
    "ConflictError",
    "CostChanges",
    "Counts",
    "DeadlineExceededError",
    "DecodeError",
    "Dialect",
    "DialectName",
    "Environment",
    "EnvironmentType",
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
    "Pipeline",
    "PipelineExecution",
    "PipelineStatus",
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
    "ResourceChange",
    "Response",
    "ResponseReceived",
    "RetryPlanned",
    "RetryPolicy",
    "ServerError",
    "Service",
    "SharedPacer",
    "Stats",
    "SyncOptions",
    "SyncRun",
    "SyncState",
    "TimeWindow",
    "Timeouts",
    "TransportError",
    "UnexpectedResponseError",
    "UnfinishedRow",
    "UnprocessableEntityError",
    "UnsupportedMediaTypeError",
    "Walk",
    "WalkReport",
    "Workspace",
    "WorkspaceCost",
    "WorkspaceResources",
    "WorkspaceStatus",
    "__version__",
]

# Names are imported on first use: the pytest plugin is part of this package and is loaded by every test run of every
# project on the machine, which should not pay for the client.
_MODULES = {
    "_version": ("__version__",),
    "bulk.factory": ("BulkOptions", "SyncOptions"),
    "bulk.models": ("Batch", "BulkReport", "Plan", "Progress", "ProjectOutcome"),
    "bulk.run": ("BulkRun",),
    "bulk.sync": ("ProjectState", "SyncRun", "SyncState", "UnfinishedRow"),
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
    "http.pacer": ("Pacer", "RatePacer"),
    "http.session": ("Response",),
    "http.shared_pacer": ("SharedPacer",),
    "pagination.dialects": ("DIALECTS", "Dialect", "DialectName"),
    "pagination.pager": ("Pager",),
    "pagination.source": ("Page", "WalkReport"),
    "pagination.walk": ("Walk",),
    "resources.activities": ("Activity", "ActivityStatus", "ActivityType", "Counts"),
    "resources.approvals": ("Approval", "ApprovalStatus"),
    "resources.audits": ("AuditEvent",),
    "resources.changes": ("ChangeType", "CostChanges", "ResourceChange"),
    "resources.environments": ("Environment", "EnvironmentType"),
    "resources.executions": ("Execution", "ExecutionStatus"),
    "resources.organizations": ("Organization",),
    "resources.pipeline_executions": ("PipelineExecution", "PipelineStatus"),
    "resources.pipelines": ("Pipeline",),
    "resources.projects": ("Project",),
    "resources.services": ("Service",),
    "resources.workspaces": ("Workspace", "WorkspaceCost", "WorkspaceResources", "WorkspaceStatus"),
    "types": ("ProjectRef", "TimeWindow"),
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
