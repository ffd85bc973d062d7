"""Lists that cannot be requested."""

from __future__ import annotations

from typing import Any

from harness_async.errors import HarnessError, UnexpectedResponseError
from harness_async.pagination.source import ListEstimate, Page, WalkReport
from harness_async.pagination.walk import Walk


class IdentifierError(UnexpectedResponseError):
    """The server names something by an identifier that cannot stand in a path, so that it cannot be requested."""


class FailedWalk(Walk[Any]):
    """The walk over a list that cannot be requested."""

    def __init__(self, error: HarnessError) -> None:
        super().__init__()
        self.expected_requests = 0
        self._error = error

    @property
    def is_done(self) -> bool:
        """Whether everything was read: never."""
        return False

    @property
    def report(self) -> WalkReport:
        """A report of nothing."""
        return WalkReport(requests=self.requests)

    async def fetch_first_page(self) -> ListEstimate:
        """Raise the error."""
        raise self._error

    async def next_page(self) -> Page[Any] | None:
        """Raise the error."""
        raise self._error

    async def aclose(self) -> None:
        """Do nothing."""
