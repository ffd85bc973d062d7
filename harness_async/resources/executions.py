"""IaCM executions: one row for each pipeline stage that ran against a workspace.

Facts: apidocs.harness.io, "Executions". The list has no sort parameter and its order is not documented; `status`
    filters are sent as one comma-separated value; times are milliseconds since 1970 UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias, Unpack

from attrs import evolve, field, frozen

from harness_async.bulk.factory import BulkFactory, BulkOptions, SyncOptions
from harness_async.bulk.run import BulkRun
from harness_async.bulk.sync import SyncRun, SyncSpec, SyncState
from harness_async.errors import NotFoundError
from harness_async.http.endpoints import Endpoint, QueryValue
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, ListPager, Pager, parse_window
from harness_async.pagination.unpaged import UnpagedPager
from harness_async.resources.changes import CostChanges, ResourceChange, ResourceChanges
from harness_async.resources.creation import create_once
from harness_async.resources.wait import wait_until
from harness_async.serialization.converters import OpenEnum, register_model
from harness_async.serialization.model import Created
from harness_async.types import Consistency, ProjectRef, Projects, Time, TimeWindow
from harness_async.validation import as_str_tuple, check_identifier, check_seconds, check_text, to_milliseconds

_CREATE = Endpoint("POST", "/iacm/api/orgs/{org}/projects/{project}/executions", repeatable=False)
_GET = Endpoint("GET", "/iacm/api/orgs/{org}/projects/{project}/executions/{pipeline_execution_id}/{pipeline_stage_id}")

_RUN = "/iacm/api/orgs/{org}/projects/{project}/executions/{pipeline_execution_id}"
_RESOURCE_CHANGES = Endpoint("GET", f"{_RUN}/resource-changes")
_COST_CHANGES = Endpoint("GET", f"{_RUN}/cost-changes")


class ExecutionStatus(OpenEnum):
    """The outcome of an execution. An open enum, because more than the documented words may exist."""

    NONE = "none"
    """No outcome yet, as far as the documentation says."""

    SUCCESS = "success"
    FAILURE = "failure"


_KNOWN_STATUSES = frozenset(map(str, ExecutionStatus))

FINISHED = frozenset({ExecutionStatus.SUCCESS, ExecutionStatus.FAILURE})

Status: TypeAlias = ExecutionStatus | str


@frozen(kw_only=True)
class Execution(Created):
    """One pipeline stage that ran against one workspace.

    The members that identify it are always present. Other missing members are empty: "", 0, `NONE`.

    Attributes:
        account: Identifier of the account.
        org: Identifier of the organization.
        project: Identifier of the project.
        pipeline: Identifier of the pipeline. Its name, by which lists can be filtered, is something else.
        pipeline_execution_id: Identifier of the pipeline execution.
        pipeline_stage_id: Identifier of the stage execution within it.
        workspace: Identifier of the workspace.
        status: Its status.
        created: Milliseconds since 1970 UTC as sent, whatever the size; the documentation's samples fit no
            calendar.
    """

    account: str = ""
    org: str
    project: str
    pipeline: str = ""
    pipeline_execution_id: str
    pipeline_stage_id: str
    workspace: str = ""
    status: ExecutionStatus = ExecutionStatus.NONE
    created: int = 0

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The members that identify the execution within its account."""
        return (self.org, self.project, self.pipeline_execution_id, self.pipeline_stage_id)


register_model(Execution)

_IDS = ("pipeline_execution_id", "pipeline_stage_id")

_LIST = ListEndpoint(
    path="/iacm/api/orgs/{org}/projects/{project}/executions",
    cls=Execution,
    ids=_IDS,
    dialect=DIALECTS["iacm"],
    created="created",
    fast=True,
)


def _as_statuses(value: Status | Iterable[Status] | None) -> tuple[str, ...] | None:
    words = as_str_tuple("status", value)
    for word in words or ():
        if not word or "," in word:
            raise ValueError(f"a status must not be empty or contain a comma, as {word!r} does")
        if word not in _KNOWN_STATUSES:
            ExecutionStatus.warn_if_unknown(word)
    return words


@frozen(kw_only=True)
class ExecutionFilters:
    """The filters of a list of executions.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value cannot be used.
    """

    status: tuple[str, ...] | None = field(default=None, converter=_as_statuses)
    workspace: str | None = None
    pipeline_execution_id: str | None = None
    pipeline_name: str | None = None
    window: TimeWindow = field(factory=TimeWindow)

    def params(self) -> dict[str, QueryValue]:
        """Return the query parameters."""
        return {
            "workspace": self.workspace,
            "pipeline_execution_id": self.pipeline_execution_id,
            "pipeline_name": self.pipeline_name,
            "status": None if self.status is None else ",".join(self.status),
            "start_time": self.window.start,
            "end_time": self.window.end,
        }


class ExecutionsAPI:
    """The IaCM executions of the account. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs

    def list(
        self,
        org: str,
        project: str,
        *,
        workspace: str | None = None,
        pipeline_execution_id: str | None = None,
        status: Status | Iterable[Status] | None = None,
        pipeline_name: str | None = None,
        start_time: Time | None = None,
        end_time: Time | None = None,
        limit: int = 100,
        prefetch: int = 0,
        consistency: Consistency = "live",
    ) -> Pager[Execution]:
        """List the executions of one project, in the order of the server, which is not documented.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            workspace: Keep executions of this workspace identifier.
            pipeline_execution_id: Keep executions of this pipeline run.
            status: Keep executions with this status, or one of these.
            pipeline_name: Keep executions whose pipeline has this name.
            start_time: Keep executions created at or after this time: an aware datetime, or milliseconds since 1970
                UTC.
            end_time: Keep executions created at or before this time.
            limit: Page size, 1 to 100.
            prefetch: Pages to request ahead of the consumer, which are held in memory.
            consistency: `live` reads the list as it is, newest rows included. Deletions alone or insertions alone lose
                no row, but a deletion hidden by an insertion can.
                `checked`, for reports and audits, reads up to the present time, at the same cost while nothing changes,
                and the report of the walk says what is guaranteed.
                `strict`, for lists in which rows change all the time or appear late, takes one request in a hundred
                more, one after the other, and raises `PaginationError` if the server's time filter does not allow it.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        filters = ExecutionFilters(
            workspace=workspace,
            pipeline_execution_id=pipeline_execution_id,
            status=status,
            pipeline_name=pipeline_name,
            window=parse_window(start_time, end_time),
        )
        return self._open_list(org, project, filters, limit=limit, prefetch=prefetch, consistency=consistency)

    def _open_list(self, org: str, project: str, filters: ExecutionFilters, **options: Any) -> ListPager[Execution]:
        return _LIST.open(
            self._session,
            params=filters.params(),
            window=filters.window,
            volatile=filters.status is not None,
            org=org,
            project=project,
            **options,
        )

    async def get(self, org: str, project: str, pipeline_execution_id: str, pipeline_stage_id: str) -> Execution:
        """Fetch one execution.

        Raises:
            NotFoundError: The project has no execution with these ids.
        """
        return await self._get((org, project, pipeline_execution_id, pipeline_stage_id))

    async def _get(self, key: tuple[str, str, str, str], deadline: float | None = None) -> Execution:
        org, project, execution, stage = key
        return await self._session.fetch(
            _GET,
            Execution,
            context={"org": org, "project": project},
            deadline=deadline,
            org=org,
            project=project,
            pipeline_execution_id=execution,
            pipeline_stage_id=stage,
        )

    async def create(
        self,
        org: str,
        project: str,
        *,
        pipeline: str,
        pipeline_execution_id: str,
        pipeline_stage_id: str,
        workspace: str,
    ) -> Execution:
        """Record an execution. Advanced: Harness's own runners do this; runs are started from workspaces.

        If the response is lost, the execution is fetched by its ids first: found as sent, it is returned; not found, it
        is sent again, at most twice and within `RetryPolicy.max_attempts`.

        Raises:
            ConflictError: The ids belong to another execution.
        """
        body = {
            "pipeline": check_text("pipeline", pipeline),
            "pipeline_execution_id": check_identifier("pipeline_execution_id", pipeline_execution_id),
            "pipeline_stage_id": check_identifier("pipeline_stage_id", pipeline_stage_id),
            "workspace": check_text("workspace", workspace),
        }
        session, deadline = self._session, self._session.sender.deadline()
        key = (org, project, pipeline_execution_id, pipeline_stage_id)
        return await create_once(
            lambda: session.fetch(_CREATE, Execution, json=body, deadline=deadline, org=org, project=project),
            lambda: self._get(key, deadline),
            max_attempts=session.sender.retry.max_attempts,
            is_same=lambda row: (row.pipeline, row.workspace) == (pipeline, workspace),
            describe=lambda row: f"an execution of pipeline {row.pipeline!r} on workspace {row.workspace!r}",
        )

    def resource_changes(
        self, org: str, project: str, pipeline_execution_id: str, pipeline_stage_id: str
    ) -> Pager[ResourceChange]:
        """List the planned resource changes of an execution, then the drifts: one request."""
        check_identifier("pipeline_stage_id", pipeline_stage_id)
        _RESOURCE_CHANGES.path_for(org=org, project=project, pipeline_execution_id=pipeline_execution_id)

        async def fetch() -> Sequence[ResourceChange]:
            found = await self._session.fetch(
                _RESOURCE_CHANGES,
                ResourceChanges,
                params={"pipeline_stage_id": pipeline_stage_id, "exclude_state": True},
                org=org,
                project=project,
                pipeline_execution_id=pipeline_execution_id,
            )
            return [*found.planned_changes, *found.drift_changes]

        return UnpagedPager(fetch)

    async def cost_changes(
        self, org: str, project: str, pipeline_execution_id: str, pipeline_stage_id: str
    ) -> CostChanges:
        """Fetch the cost changes of an execution.

        Raises:
            NotFoundError: The project has no execution with these ids.
        """
        return await self._session.fetch(
            _COST_CHANGES,
            CostChanges,
            params={"pipeline_stage_id": check_identifier("pipeline_stage_id", pipeline_stage_id)},
            org=org,
            project=project,
            pipeline_execution_id=pipeline_execution_id,
        )

    async def wait(
        self,
        org: str,
        project: str,
        pipeline_execution_id: str,
        pipeline_stage_id: str,
        *,
        timeout: float | None,  # noqa: ASYNC109 - part of the message, not only a limit
        poll_interval: float = 5.0,
    ) -> Execution:
        """Wait until an execution has an outcome, success or failure, fetching it every `poll_interval` seconds.

        A status that this version does not know is not an outcome: it could mean that the stage is running.

        Raises:
            DeadlineExceededError: There is no outcome after `timeout` seconds (None: no limit).
            NotFoundError: The project has no execution with these ids.
        """
        return await wait_until(
            lambda: self.get(org, project, pipeline_execution_id, pipeline_stage_id),
            lambda row: row.status in FINISHED,
            name=f"Execution {pipeline_execution_id}/{pipeline_stage_id}",
            status=lambda row: str(row.status),
            timeout=timeout,
            poll_interval=poll_interval,
        )

    def bulk(
        self,
        projects: Projects | None = None,
        *,
        workspace: str | None = None,
        pipeline_execution_id: str | None = None,
        status: Status | Iterable[Status] | None = None,
        pipeline_name: str | None = None,
        start_time: Time | None = None,
        end_time: Time | None = None,
        consistency: Consistency = "checked",
        **options: Unpack[BulkOptions],
    ) -> BulkRun[Execution]:
        """Fetch the executions of many projects concurrently.

        A run whose first twenty projects fail with the same client error (denied, not found, bad request) ends with it.

        Args:
            projects: `ProjectRef`, `(org, project)`, `"org/project"` or `Project` objects, from any iterable or async
                iterable, consumed during the run; None for all projects that the key can see. Each is read once.
            workspace: As in `list`, like the other filters.
            pipeline_execution_id: As in `list`.
            status: As in `list`.
            pipeline_name: As in `list`.
            start_time: As in `list`.
            end_time: As in `list`.
            consistency: As in `list`, with another default.
            **options: `concurrency`, `on_error`, `checkpoint`, `on_progress` and others; see `BulkOptions`.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        filters = ExecutionFilters(
            workspace=workspace,
            pipeline_execution_id=pipeline_execution_id,
            status=status,
            pipeline_name=pipeline_name,
            window=parse_window(start_time, end_time),
        )
        return self._runs.bulk_window(
            lambda ref, window: self._open_list(
                ref.org,
                ref.project,
                evolve(filters, window=window),
                consistency=consistency,
            ),
            projects,
            filters.window,
            consistency=consistency,
            filters=filters.params(),
            **options,
        )

    def sync(
        self,
        state: SyncState | None = None,
        projects: Projects | None = None,
        *,
        workspace: str | None = None,
        pipeline_name: str | None = None,
        start_time: Time | None = None,
        overlap: float = 60.0,
        consistency: Consistency = "checked",
        **options: Unpack[SyncOptions],
    ) -> SyncRun[Execution]:
        """Fetch the executions that are new since a state, and those whose status has changed since, as upserts.

        Executions without an outcome are checked at each sync until they have one; those with an unknown status, which
        may be an outcome, 20 times.

        Args:
            state: `SyncRun.state` of the last sync; None for the first one.
            projects: As in `bulk`.
            workspace: As in `list`. A state belongs to its filters.
            pipeline_name: As in `list`.
            start_time: Where a project without a state begins; None reads everything.
            overlap: Seconds by which windows overlap, for rows that appear late.
            consistency: `checked` or `strict`, because a sync must know that it missed nothing.
            **options: `concurrency`, `on_error` and `on_progress`, as in `bulk`; see `SyncOptions`.

        Raises:
            ValueError: The state belongs to another host, account or other filters.
        """
        check_seconds("overlap", overlap)
        session = self._session
        filters = ExecutionFilters(workspace=workspace, pipeline_name=pipeline_name)

        def open_list(ref: ProjectRef, start: int | None) -> ListPager[Execution]:
            since = evolve(filters, window=TimeWindow(start))
            return self._open_list(ref.org, ref.project, since, consistency=consistency)

        async def refresh(ref: ProjectRef, ids: Sequence[tuple[str, ...]]) -> tuple[Sequence[Execution], int]:
            (execution, stage), *_ = ids
            try:
                return [await self._get((ref.org, ref.project, execution, stage))], 1
            except NotFoundError as error:
                return [], len(error.attempts)

        rows = SyncSpec(
            open_list=open_list,
            refresh=refresh,
            latest=session.sender.transport.clock.latest,
            ids=attrgetter(*_IDS),
            created=attrgetter("created"),
            status=lambda row: str(row.status),
            is_finished=lambda row: row.status in FINISHED,
            is_known=lambda row: row.status.is_known,
            overlap=int(overlap * 1000),
        )
        return self._runs.sync(
            rows,
            state,
            projects,
            owner=json.dumps([str(session.base_url), session.account_id, workspace, pipeline_name]),
            start=to_milliseconds("start_time", start_time),
            consistency=consistency,
            **options,
        )
