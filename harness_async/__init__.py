"""Asyncio client for the Harness platform API.

`HarnessClient` is where to begin. Everything public is importable from here.
"""

from harness_async.bulk import BulkRun
from harness_async.client import HarnessClient
from harness_async.config import RateLimit, RetryPolicy, Timeouts
from harness_async.errors import (
    APIStatusError,
    Attempt,
    AuthenticationError,
    BadRequestError,
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
from harness_async.executions import Execution, ExecutionStatus
from harness_async.organizations import Organization
from harness_async.outcomes import BulkReport, Progress, ProjectOutcome, ProjectRef
from harness_async.pacing import Pacer, RatePacer
from harness_async.pagination import Page, Pager, Walk, WalkReport
from harness_async.projects import Project
from harness_async.session import Response
from harness_async.stats import Stats

__all__ = [
    "APIStatusError",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
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
    "PreconditionFailedError",
    "Progress",
    "Project",
    "ProjectOutcome",
    "ProjectRef",
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
    "Timeouts",
    "TransportError",
    "UnexpectedResponseError",
    "UnprocessableEntityError",
    "UnsupportedMediaTypeError",
    "Walk",
    "WalkReport",
]
