"""The account: all data of the fake server, and the options that describe how its API behaves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from harness_async.testing.data.collection import CollectionName
from harness_async.testing.data.directory import ACCOUNT_ID
from harness_async.testing.data.iacm import IacmData
from harness_async.testing.data.platform import PlatformData
from harness_async.testing.data.table import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.responses import Json

Totals = Literal["iacm", "v1", "both", "none"]
EndTime = Literal["inclusive", "exclusive", "ignored"]
PastEnd = Literal["empty", 404, 400]
OverLimit = Literal["refuse", "clip"]
NotFound = Literal[404, 400]

CEILING = 10_000  # rows of a list of pipeline executions that can be reached by page number

_ADD_METHODS: dict[str, tuple[str, str]] = {
    "executions": ("add_execution", "created"),
    "workspaces": ("add_workspace", "created"),
    "activities": ("add_activity", "created"),
    "approvals": ("add_approval", "created"),
    "costs": ("add_cost", "created"),
    "workspace_costs": ("add_workspace_cost", "created"),
    "pipelines": ("add_pipeline", "created"),
    "pipeline_executions": ("add_pipeline_execution", "start_ts"),
    "services": ("add_service", "created"),
    "environments": ("add_environment", "created"),
}
"""The method that adds a row of each collection of a project, and its argument for the time."""


class Options(TypedDict, total=False):
    """The keyword arguments of `Account`, documented at `FakeHarness`."""

    api_key: str | None
    account_id: str
    order: Order
    totals: Totals
    end_time: EndTime
    max_page_size: int | None
    past_end: PastEnd
    case_sensitive: bool
    not_found: NotFound
    v1_max_limit: int
    v1_over_limit: OverLimit
    iacm_max_limit: int
    iacm_over_limit: OverLimit
    ceiling: int | None
    clock: Callable[[], float]


class ServerOptions(Options, total=False):
    """The keyword arguments of `FakeHarness`."""

    host: str
    port: int
    prefix: str


class Account(IacmData, PlatformData):
    """The data and the options behind a `FakeHarness`, without the network."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        account_id: str = ACCOUNT_ID,
        order: Order = "newest",
        totals: Totals = "iacm",
        end_time: EndTime = "inclusive",
        max_page_size: int | None = None,
        past_end: PastEnd = "empty",
        case_sensitive: bool = False,
        not_found: NotFound = 404,
        v1_max_limit: int = 1000,
        v1_over_limit: OverLimit = "refuse",
        iacm_max_limit: int = 100,
        iacm_over_limit: OverLimit = "refuse",
        ceiling: int | None = CEILING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(account_id=account_id, case_sensitive=case_sensitive, order=order, clock=clock)
        self.api_key: str = f"pat.{account_id}.fake0token.fake0secret" if api_key is None else api_key
        self.totals: Totals = totals
        self.end_time: EndTime = end_time
        self.max_page_size = max_page_size
        self.past_end: PastEnd = past_end
        self.not_found: NotFound = not_found
        self.v1_max_limit = v1_max_limit
        self.v1_over_limit: OverLimit = v1_over_limit
        self.iacm_max_limit = iacm_max_limit
        self.iacm_over_limit: OverLimit = iacm_over_limit
        self.ceiling = ceiling
        self.before_request: Callable[[RecordedRequest], None] | None = None
        self.between_count_and_rows: Callable[[RecordedRequest], None] | None = None

    # Rows of any collection

    def add_row(
        self, name: CollectionName, /, org: str, project: str, *, time: int | None = None, **fields: Any
    ) -> Json:
        """Add a row to any collection. *time* is in milliseconds, *fields* are those of its own method."""
        with self.lock:
            if name == "organizations":
                return self.add_organization(self.next_identifier("org"), created=self._time(time), **fields)
            if name == "projects":
                return self.add_project(org, self.next_identifier("project"), created=self._time(time), **fields)
            if name == "audit_events":
                return self.add_audit_event(org=org, project=project, timestamp=time, **fields)
            method, argument = _ADD_METHODS[name]
            row: Json = getattr(self, method)(org, project, **{argument: time}, **fields)
            return row

    def add_rows(
        self,
        name: CollectionName,
        /,
        org: str,
        project: str,
        n: int,
        *,
        newest: int | None = None,
        apart: int = 1,
        **fields: Any,
    ) -> list[Json]:
        """Add *n* rows with the same fields to any collection, *apart* milliseconds apart and the last one newest.

        *newest* is the time of the last row in milliseconds and defaults to now.
        """
        with self.lock:
            newest = self.now() if newest is None else newest
            return [
                self.add_row(name, org, project, time=newest - (n - 1 - index) * apart, **fields) for index in range(n)
            ]

    def add_executions(self, org: str, project: str, n: int, **fields: Any) -> list[Json]:
        """Add *n* IaCM executions with the same fields, one millisecond apart and the last one newest."""
        return self.add_rows("executions", org, project, n, newest=fields.pop("created", None), **fields)

    # IaCM executions

    def remove_execution(self, row: Mapping[str, Any]) -> None:
        """Remove an IaCM execution. Raises KeyError if it does not exist."""
        self.remove("executions", row)

    def set_status(self, row: Mapping[str, Any], status: str) -> Json:
        """Change the status of an IaCM execution and return it. Raises KeyError if it does not exist."""
        return self.change("executions", row, status=status)

    def executions(self, org: str, project: str) -> list[Json]:
        """Return the IaCM executions of a project, in the order of lists.

        Raises KeyError if the project does not exist.
        """
        with self.lock:
            if self.table("projects").get((org, project)) is None:
                raise KeyError((org, project))
            return self.rows("executions", org, project)

    def all_executions(self) -> list[Json]:
        """Return the IaCM executions of every project, project by project."""
        with self.lock:
            return [row for org, project in self.projects for row in self.executions(org, project)]

    def _time(self, time: int | None) -> int:
        return self.now() if time is None else time
