"""Executions of pipelines (apidocs.harness.io, "Pipeline Execution Details").

The list is filtered by a body. Without further ado it hides rollbacks, executions of child pipelines and superseded
retries; `include="all"` shows them. Its time range has both ends or neither, and it refuses rows behind position
10,000, so longer lists are read by windows of time. Rows come with the graph of their stages, which is most of their
bytes and is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Literal, TypeAlias, Unpack, get_args

from attrs import field, frozen

from harness_async.bulk.factory import BulkFactory, BulkOptions, SyncOptions
from harness_async.bulk.run import BulkRun
from harness_async.bulk.sync import SyncRun, SyncSpec, SyncState
from harness_async.errors import BadRequestError, NotFoundError
from harness_async.http.endpoints import Endpoint, QueryValue
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, ListPager, Pager, parse_window, scope_params
from harness_async.resources.wait import wait_until
from harness_async.serialization.converters import OpenEnum, register_model
from harness_async.serialization.model import Model, parse_tags
from harness_async.types import Consistency, ProjectRef, Projects, Time, TimeWindow
from harness_async.validation import check_choice, check_seconds, from_milliseconds, to_milliseconds

_GET = Endpoint("GET", "/pipeline/api/pipelines/execution/v2/{plan_execution_id}")

Include: TypeAlias = Literal["all", "default"]

_LATEST = 4_102_444_800_000
"""The end of a time range without one: the year 2100. The API requires both ends."""

_BATCH = 100
"""Executions that a sync reads again by their ids in one request."""


class PipelineStatus(OpenEnum):
    """The status of a pipeline execution, in the API's words. An open enum."""

    RUNNING = "Running"
    ASYNC_WAITING = "AsyncWaiting"
    TASK_WAITING = "TaskWaiting"
    TIMED_WAITING = "TimedWaiting"
    FAILED = "Failed"
    ERRORED = "Errored"
    IGNORE_FAILED = "IgnoreFailed"
    NOT_STARTED = "NotStarted"
    EXPIRED = "Expired"
    ABORTED = "Aborted"
    DISCONTINUING = "Discontinuing"
    QUEUED = "Queued"
    PAUSED = "Paused"
    RESOURCE_WAITING = "ResourceWaiting"
    INTERVENTION_WAITING = "InterventionWaiting"
    APPROVAL_WAITING = "ApprovalWaiting"
    WAIT_STEP_RUNNING = "WaitStepRunning"
    QUEUED_LICENSE_LIMIT_REACHED = "QueuedLicenseLimitReached"
    QUEUED_EXECUTION_CONCURRENCY_REACHED = "QueuedExecutionConcurrencyReached"
    QUEUED_GLOBAL_INFRA_CAPACITY_REACHED = "QueuedGlobalInfraCapacityReached"
    SUCCESS = "Success"
    SUSPENDED = "Suspended"
    SKIPPED = "Skipped"
    PAUSING = "Pausing"
    APPROVAL_REJECTED = "ApprovalRejected"
    INPUT_WAITING = "InputWaiting"
    ABORTED_BY_FREEZE = "AbortedByFreeze"
    UPLOAD_WAITING = "UploadWaiting"

    @property
    def is_finished(self) -> bool:
        """Whether the execution will not change any more. An unknown word is not finished."""
        return self in _FINISHED


_FINISHED = frozenset(
    {
        PipelineStatus.SUCCESS,
        PipelineStatus.FAILED,
        PipelineStatus.ABORTED,
        PipelineStatus.EXPIRED,
        PipelineStatus.ERRORED,
        PipelineStatus.ABORTED_BY_FREEZE,
        PipelineStatus.APPROVAL_REJECTED,
        PipelineStatus.IGNORE_FAILED,
        PipelineStatus.SKIPPED,
        PipelineStatus.SUSPENDED,
    }
)

_NO_STATUS = PipelineStatus("")

_Words: TypeAlias = PipelineStatus | str | Iterable[PipelineStatus | str] | None


@frozen(kw_only=True)
class PipelineExecution(Model):
    """One run of a pipeline. Missing members are empty; times are 0.

    Attributes:
        org: Identifier of the organization.
        project: Identifier of the project.
        plan_execution_id: Identifier of the execution.
        pipeline: Identifier of the pipeline.
        name: Display name of the pipeline.
        status: Its status.
        run_sequence: Number of the run within its pipeline.
        start_ts: Milliseconds since 1970 UTC, as sent, like the other times.
        end_ts: 0 while it runs.
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        trigger_type: `MANUAL`, `WEBHOOK`, `SCHEDULER_CRON` and others.
        triggered_by: Who started it.
        modules: The modules of its stages, such as `cd`.
        tags: Its tags; a tag without a value has the value "".
        stages_total: Its stages.
        stages_succeeded: Stages that succeeded.
        stages_failed: Stages that failed.
        failure_message: Why it failed.
        execution_mode: `NORMAL`, `POST_EXECUTION_ROLLBACK` or `PIPELINE_ROLLBACK`.
    """

    org: str
    project: str
    plan_execution_id: str
    pipeline: str = ""
    name: str = ""
    status: PipelineStatus = _NO_STATUS
    run_sequence: int = 0
    start_ts: int = 0
    end_ts: int = 0
    created: int = 0
    trigger_type: str = ""
    triggered_by: str = ""
    modules: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    stages_total: int = 0
    stages_succeeded: int = 0
    stages_failed: int = 0
    failure_message: str = ""
    execution_mode: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """The members that identify the execution within its account."""
        return (self.org, self.project, self.plan_execution_id)

    @property
    def is_finished(self) -> bool:
        """Whether the execution will not change any more."""
        return self.status.is_finished

    @property
    def started_at(self) -> datetime | None:
        """Time of the start in UTC; None where it is missing or fits no calendar."""
        return from_milliseconds(self.start_ts)

    @property
    def ended_at(self) -> datetime | None:
        """Time of the end in UTC; None while it runs."""
        return from_milliseconds(self.end_ts)

    @property
    def created_at(self) -> datetime | None:
        """Time of creation in UTC; None where it is missing or fits no calendar."""
        return from_milliseconds(self.created)

    @property
    def duration(self) -> timedelta | None:
        """Time from the start to the end; None while it runs, or where a time fits no calendar."""
        started, ended = self.started_at, self.ended_at
        return None if started is None or ended is None else ended - started


register_model(
    PipelineExecution,
    {
        "org": "orgIdentifier",
        "project": "projectIdentifier",
        "plan_execution_id": "planExecutionId",
        "pipeline": "pipelineIdentifier",
        "run_sequence": "runSequence",
        "start_ts": "startTs",
        "end_ts": "endTs",
        "created": "createdAt",
        "trigger_type": "executionTriggerInfo.triggerType",
        "triggered_by": "executionTriggerInfo.triggeredBy.identifier",
        "stages_total": "totalStagesCount",
        "stages_succeeded": "successfulStagesCount",
        "stages_failed": "failedStagesCount",
        "failure_message": "failureInfo.message",
        "execution_mode": "executionMode",
    },
    {"tags": parse_tags},
)


def _apply_window(window: TimeWindow) -> tuple[Mapping[str, QueryValue], Mapping[str, object]]:
    start, end = window
    if start is None and end is None:
        return {}, {}
    return {}, {"timeRange": {"startTime": start or 0, "endTime": _LATEST if end is None else end}}


_LIST = ListEndpoint(
    path="/pipeline/api/pipelines/execution/summary",
    cls=PipelineExecution,
    ids=("plan_execution_id",),
    dialect=DIALECTS["pipeline"],
    method="POST",
    created="start_ts",
    apply_window=_apply_window,
)


@frozen(kw_only=True)
class _Filters:
    """The filters of a list."""

    pipeline: str | None
    status: tuple[str, ...] | None
    include: Include

    @classmethod
    def create(cls, pipeline: str | None, status: _Words, include: Include) -> _Filters:
        check_choice("include", include, get_args(Include))
        return cls(pipeline=pipeline, status=PipelineStatus.parse_words("status", status), include=include)

    def params(self) -> dict[str, QueryValue]:
        return {"pipelineIdentifier": self.pipeline, "showAllExecutions": True if self.include == "all" else None}

    def body(self, **members: object) -> dict[str, object]:
        mode = "ALL" if self.include == "all" else "DEFAULT"
        body: dict[str, object] = {"filterType": "PipelineExecution", "executionModeFilter": mode, **members}
        return body if self.status is None else {**body, "status": self.status}


class PipelineExecutionsAPI:
    """The pipeline executions of the account's projects. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs

    def list(
        self,
        org: str,
        project: str,
        *,
        pipeline: str | None = None,
        status: _Words = None,
        start_time: Time | None = None,
        end_time: Time | None = None,
        include: Include = "all",
        limit: int = 100,
        prefetch: int = 0,
        consistency: Consistency = "live",
    ) -> Pager[PipelineExecution]:
        """List the pipeline executions of one project, the newest first.

        Only executions of pipelines that the key may view are listed. A list of more than 10,000 is read by windows of
        time, one request after the other.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            pipeline: Keep executions of this pipeline.
            status: Keep executions with this status, or one of these, in the API's words.
            start_time: Keep executions that started at or after this time: an aware datetime, or milliseconds since
                1970 UTC.
            end_time: Keep executions that started at or before this time.
            include: `all` hides nothing: rollbacks, child pipelines and superseded retries are included. `default` is
                what the Harness UI shows.
            limit: Page size, 1 to 1000. Rows are large on the wire: a page of 1000 has several megabytes.
            prefetch: Pages to request ahead of the consumer, which are held in memory.
            consistency: As in `executions.list`.
        """
        filters = _Filters.create(pipeline, status, include)
        window = parse_window(start_time, end_time)
        options = {"limit": limit, "prefetch": prefetch, "consistency": consistency}
        return self._open_list(ProjectRef(org, project), filters, window, **options)

    def _open_list(
        self, ref: ProjectRef, filters: _Filters, window: TimeWindow, **options: Any
    ) -> ListPager[PipelineExecution]:
        return _LIST.open(
            self._session,
            params=filters.params(),
            json=filters.body(**_apply_window(window)[1]),
            window=window,
            volatile=filters.status is not None,
            org=ref.org,
            project=ref.project,
            **options,
        )

    def bulk(
        self,
        projects: Projects | None = None,
        *,
        pipeline: str | None = None,
        status: _Words = None,
        start_time: Time | None = None,
        end_time: Time | None = None,
        include: Include = "all",
        consistency: Consistency = "checked",
        **options: Unpack[BulkOptions],
    ) -> BulkRun[PipelineExecution]:
        """Fetch the pipeline executions of many projects concurrently; see `executions.bulk`."""
        filters = _Filters.create(pipeline, status, include)
        return self._runs.bulk_window(
            lambda ref, each: self._open_list(ref, filters, each, consistency=consistency),
            projects,
            parse_window(start_time, end_time),
            consistency=consistency,
            filters={"resource": "pipeline-executions", "pipeline": pipeline, **filters.body()},
            **options,
        )

    async def get(self, org: str, project: str, plan_execution_id: str) -> PipelineExecution:
        """Fetch one pipeline execution.

        Raises:
            NotFoundError: The project has no execution with this id.
        """
        context = {"org": org, "project": project}
        return await self._session.fetch(
            _GET,
            PipelineExecution,
            params=scope_params(self._session, context),
            context=context,
            root="data.pipelineExecutionSummary",
            plan_execution_id=plan_execution_id,
        )

    async def wait(
        self,
        org: str,
        project: str,
        plan_execution_id: str,
        *,
        timeout: float | None,  # noqa: ASYNC109 - part of the message, not only a limit
        poll_interval: float = 5.0,
    ) -> PipelineExecution:
        """Wait until a pipeline execution is finished, fetching it every `poll_interval` seconds.

        Raises:
            DeadlineExceededError: It is not finished after `timeout` seconds (None: no limit).
            NotFoundError: The project has no execution with this id.
        """
        return await wait_until(
            lambda: self.get(org, project, plan_execution_id),
            attrgetter("is_finished"),
            name=f"Pipeline execution {plan_execution_id}",
            status=lambda row: str(row.status),
            timeout=timeout,
            poll_interval=poll_interval,
        )

    def sync(
        self,
        state: SyncState | None = None,
        projects: Projects | None = None,
        *,
        pipeline: str | None = None,
        include: Include = "all",
        start_time: Time | None = None,
        overlap: float = 60.0,
        consistency: Consistency = "checked",
        **options: Unpack[SyncOptions],
    ) -> SyncRun[PipelineExecution]:
        """Fetch the pipeline executions that are new since a state, and those whose status has changed since.

        Unfinished executions are read again by their ids, up to a hundred in one request; see `executions.sync` for the
        arguments.
        """
        check_seconds("overlap", overlap)
        filters = _Filters.create(pipeline, None, include)
        session = self._session
        rows = SyncSpec(
            open_list=lambda ref, start: self._open_list(ref, filters, TimeWindow(start), consistency=consistency),
            refresh=self._refresh,
            refresh_size=_BATCH,
            latest=session.sender.transport.clock.latest,
            ids=lambda row: (row.plan_execution_id,),
            created=attrgetter("start_ts"),
            status=lambda row: str(row.status),
            is_finished=attrgetter("is_finished"),
            is_known=lambda row: row.status.is_known,
            overlap=int(overlap * 1000),
        )
        return self._runs.sync(
            rows,
            state,
            projects,
            owner=json.dumps(
                ["pipeline-executions", str(session.base_url), session.account_id, pipeline, filters.include]
            ),
            start=to_milliseconds("start_time", start_time),
            consistency=consistency,
            **options,
        )

    async def _refresh(
        self, ref: ProjectRef, ids: Sequence[tuple[str, ...]]
    ) -> tuple[Sequence[PipelineExecution], int]:
        """Fetch executions by their ids in one request, and those that the response lacks one by one."""
        wanted = {execution for (execution,) in ids}
        rows: list[PipelineExecution] = []
        requests = 0
        if len(wanted) > 1:
            everything = _Filters(pipeline=None, status=None, include="all")
            body = everything.body(planExecutionIds=sorted(wanted))
            pager = _LIST.open(
                self._session, params=everything.params(), json=body, limit=_BATCH, org=ref.org, project=ref.project
            )
            async with pager.walk() as walk:
                # A server that does not know the filter refuses it, or returns other rows.
                with suppress(BadRequestError):
                    page = await walk.next_page()
                    rows = [row for row in (() if page is None else page.items) if row.plan_execution_id in wanted]
            requests = walk.report.requests
        for execution in wanted - {row.plan_execution_id for row in rows}:
            try:
                rows.append(await self.get(ref.org, ref.project, execution))
                requests += 1
            except NotFoundError as error:
                requests += len(error.attempts)
        return rows, requests
