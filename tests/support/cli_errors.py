"""Errors and outcomes as a bulk run reports them."""

from __future__ import annotations

from typing import Literal

from harness_async import HarnessError, ProjectOutcome, ProjectRef
from harness_async.errors import ErrorDetails, status_error_class


def status_error(status: int, message: str = "missing permission") -> HarnessError:
    """Create the error of an API response."""
    return status_error_class(status)(ErrorDetails(message=message), status=status, method="GET", url="https://x")


def failed_outcome(
    number: int, status: Literal["failed", "denied", "not_found"] = "denied", error: HarnessError | None = None
) -> ProjectOutcome:
    """Create the outcome of the failed project `default/project_<number>`."""
    ref = ProjectRef("default", f"project_{number}")
    return ProjectOutcome(project=ref, status=status, error=error or status_error(403))
