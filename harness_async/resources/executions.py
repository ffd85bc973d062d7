"""IaCM executions: one row for each pipeline stage that ran against a workspace.

Facts: apidocs.harness.io, "Executions". The list has no sort parameter and its order is not documented; `status`
filters are sent as one comma-separated value; times are milliseconds since 1970 UTC.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterable
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, frozen

from harness_async.bulk.checkpoint import CheckpointPlan, Identity
from harness_async.bulk.models import Progress, ProjectRef, Projects, check_projects
from harness_async.bulk.run import BulkRun, check_on_error
from harness_async.bulk.sync import Rows, SyncPager, SyncRun, SyncState
from harness_async.bulk.workers import BulkSpec, OnError
from harness_async.errors import (
    Attempt,
    AuthenticationError,
    ConflictError,
    DeadlineExceededError,
    ErrorDetails,
    HarnessError,
    NotFoundError,
    RequestError,
)
from harness_async.http.protocol import (
    Endpoint,
    QueryValue,
    as_str_tuple,
    check_identifier,
    check_int,
    check_seconds,
    check_text,
    from_milliseconds,
    to_milliseconds,
)
from harness_async.http.session import Session
from harness_async.pagination.pager import Consistency, Listing, ListPager, ListSpec, Pager, check_consistency
from harness_async.pagination.strategy import TimeWindow
from harness_async.resources.projects import ProjectsAPI
from harness_async.serialization.converters import OpenEnum


class ExecutionStatus(OpenEnum):
    """The outcome of an execution; an open enum, for the documented words need not be all there are."""

    NONE = "none"
    """No outcome yet, as far as the documentation lets one guess."""

    SUCCESS = "success"
    FAILURE = "failure"


FINISHED = frozenset({ExecutionStatus.SUCCESS, ExecutionStatus.FAILURE})

Status: TypeAlias = ExecutionStatus | str
Time: TypeAlias = datetime | int


@frozen(kw_only=True)
class Execution:
    """One pipeline stage that ran against one workspace.

    The members that identify it are always there; what else the server leaves out is empty: "", 0, `NONE`.
    """

    account: str = ""
    org: str
    project: str
    pipeline: str = ""
    """Identifier of the pipeline (its name, by which lists can be filtered, is another thing)."""

    pipeline_execution_id: str
    pipeline_stage_id: str
    workspace: str = ""
    status: ExecutionStatus = ExecutionStatus.NONE
    created: int = 0
    """Milliseconds since 1970 UTC, as sent, whatever its size; the documentation's samples fit no calendar."""

    @property
    def created_at(self) -> datetime | None:
        """When it was created, in UTC; None where `created` fits no calendar."""
        return from_milliseconds(self.created)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from every other execution of the account."""
        return (self.org, self.project, self.pipeline_execution_id, self.pipeline_stage_id)


def hash_keys(rows: Iterable[Execution]) -> list[int]:
    """Hash what tells each execution of one project from the others: 12 us for a page of 100, 25 by way of `key`."""
    return [hash((row.pipeline_execution_id, row.pipeline_stage_id)) for row in rows]


def make_params(
    *,
    workspace: str | None,
    pipeline_execution_id: str | None,
    status: Status | Iterable[Status] | None,
    pipeline_name: str | None,
    start_time: Time | None,
    end_time: Time | None,
) -> dict[str, QueryValue]:
    """Make the query of a list, checking each filter."""
    start, end = to_milliseconds("start_time", start_time), to_milliseconds("end_time", end_time)
    if start is not None and end is not None and start > end:
        raise ValueError("start_time must not be later than end_time")
    words = as_str_tuple("status", status)
    for word in words or ():
        if not word or "," in word:
            raise ValueError(f"a status must not be empty and cannot have a comma, as {word!r} has")
    return {
        "status": None if words is None else ",".join(map(str, words)),
        "workspace": workspace,
        "pipeline_execution_id": pipeline_execution_id,
        "pipeline_name": pipeline_name,
        "start_time": start,
        "end_time": end,
    }


def window_of(params: dict[str, QueryValue]) -> TimeWindow:
    """Give the window of time filters that `make_params` has checked."""
    start, end = params["start_time"], params["end_time"]
    return (start if isinstance(start, int) else None, end if isinstance(end, int) else None)


_LIST = Endpoint("GET", "/iacm/api/orgs/{org}/projects/{project}/executions")
_CREATE = Endpoint("POST", "/iacm/api/orgs/{org}/projects/{project}/executions", repeatable=False)
_GET = Endpoint("GET", "/iacm/api/orgs/{org}/projects/{project}/executions/{pipeline_execution_id}/{pipeline_stage_id}")

_CREATE_TRIES = 3
"""Sends of one create at most, with a look for its effect before each repetition."""


def _taken(found: Execution, error: RequestError) -> ConflictError:
    """Make the error of a create whose ids turned out to belong to another execution."""
    if isinstance(error, ConflictError):
        return error
    message = f"those ids are taken by an execution of pipeline {found.pipeline!r} on workspace {found.workspace!r}"
    details = ErrorDetails(message=message, code="conflict")
    return ConflictError(details, status=409, method=error.method, url=error.url, attempts=error.attempts)


class ExecutionsAPI:
    """The IaCM executions of the account. Safe for any number of tasks of one loop."""

    def __init__(self, session: Session, projects: ProjectsAPI) -> None:
        self._session = session
        self._projects = projects

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
        """List the executions of one project, in the order of the server, which it does not promise.

        Args:
            org: The organization.
            project: The project.
            workspace: Keep those of this workspace identifier.
            pipeline_execution_id: Keep those of this pipeline run.
            status: Keep those with this status, or one of these.
            pipeline_name: Keep those whose pipeline has this name.
            start_time: Keep those created from then on: an aware datetime, or milliseconds since 1970 UTC.
            end_time: Keep those created up to then.
            limit: Page size, 1 to 100.
            prefetch: Pages to ask for ahead of the consumer; memory holds as many.
            consistency: `live` to look at what is there, newest rows included: departures alone or arrivals alone
                lose nothing, but a departure that an arrival hides can cost a row.
                `checked` for reports and audits: up to now and no further, at the same cost while nothing moves, and
                the walk's report says what was guaranteed.
                `strict` where rows come and go all the time or appear late: one request in a hundred more, and one
                after another; `PaginationError` if the server's time filter is not what that needs.
        """
        params = make_params(
            workspace=workspace,
            pipeline_execution_id=pipeline_execution_id,
            status=status,
            pipeline_name=pipeline_name,
            start_time=start_time,
            end_time=end_time,
        )
        return self._list(ProjectRef(org, project), params, limit, prefetch, consistency)

    def _list(
        self,
        ref: ProjectRef,
        params: dict[str, QueryValue],
        limit: int = 100,
        prefetch: int = 0,
        consistency: Consistency = "live",
    ) -> ListPager[Execution]:
        source = self._session.source(_LIST, Execution, params, fast=True, org=ref.org, project=ref.project)
        return ListPager(
            ListSpec(
                source=source,
                hashes=hash_keys,
                created=attrgetter("created"),
                window=window_of(params),
                volatile=params["status"] is not None,
                limit=limit,
                prefetch=prefetch,
                consistency=consistency,
            )
        )

    async def get(self, org: str, project: str, pipeline_execution_id: str, pipeline_stage_id: str) -> Execution:
        """Fetch one execution; `NotFoundError` if the project has none of those ids."""
        return await self._get((org, project, pipeline_execution_id, pipeline_stage_id))

    async def _get(self, key: tuple[str, str, str, str], deadline: float | None = None) -> Execution:
        org, project, run, stage = key
        return await self._session.fetch(
            _GET,
            Execution,
            deadline=deadline,
            org=org,
            project=project,
            pipeline_execution_id=run,
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

        Where the answer is lost, the execution is looked up by its ids before anything else: found as sent, it is
        returned; not found, it is sent again, at most twice.

        Raises:
            ConflictError: Those ids are taken by another execution.
        """
        body = {
            "pipeline": check_text("pipeline", pipeline),
            "pipeline_execution_id": check_identifier("pipeline_execution_id", pipeline_execution_id),
            "pipeline_stage_id": check_identifier("pipeline_stage_id", pipeline_stage_id),
            "workspace": check_text("workspace", workspace),
        }
        key = (org, project, pipeline_execution_id, pipeline_stage_id)
        deadline = self._session.sender.deadline()
        attempts: tuple[Attempt, ...] = ()
        for attempt in range(1, _CREATE_TRIES + 1):
            try:
                return await self._session.fetch(
                    _CREATE, Execution, json=body, deadline=deadline, org=org, project=project
                )
            except RequestError as error:
                error.attempts = attempts = (*attempts, *error.attempts)
                doubtful = error.ambiguous or (attempt > 1 and isinstance(error, ConflictError))
                if not doubtful or isinstance(error, DeadlineExceededError):
                    raise
                try:
                    found = await self._get(key, deadline)
                except NotFoundError:
                    if attempt == _CREATE_TRIES:
                        raise error from None
                    continue
                except HarnessError:
                    raise error from None
                if (found.pipeline, found.workspace) == (pipeline, workspace):
                    return found
                raise _taken(found, error) from None
        raise AssertionError  # the last attempt returns or raises

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
        """Wait until an execution has an outcome, success or failure, asking every `poll_interval` seconds.

        A word that this version does not know is no outcome: it could mean that the stage is running.

        Raises:
            DeadlineExceededError: There is none after `timeout` seconds (None: wait for ever).
            NotFoundError: The project has no execution of those ids.
        """
        check_seconds("timeout", timeout, none=True)
        check_seconds("poll_interval", poll_interval)
        key = (org, project, pipeline_execution_id, pipeline_stage_id)
        last: Execution | None = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    last = await self._get(key)
                    if last.status in FINISHED:
                        return last
                    await asyncio.sleep(poll_interval)
        except TimeoutError as error:
            if isinstance(error, HarnessError):
                raise
            seen = "no answer yet" if last is None else f"status {str(last.status)!r}"
            raise DeadlineExceededError(
                f"Execution {pipeline_execution_id}/{pipeline_stage_id} has no outcome after {timeout} s: {seen}"
            ) from error

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
        concurrency: int = 32,
        consistency: Consistency = "checked",
        on_error: OnError = "collect",
        checkpoint: str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        max_requests: int | None = None,
    ) -> BulkRun[Execution]:
        """Fetch the executions of many projects concurrently.

        Args:
            projects: `ProjectRef`, `(org, project)`, `"org/project"` or `Project` objects, from any iterable or async
                iterable, taken as the run goes; None for all that the key can see. Each project is read once.
            workspace: As in `list`, and so are the other filters.
            pipeline_execution_id: As in `list`.
            status: As in `list`.
            pipeline_name: As in `list`.
            start_time: As in `list`.
            end_time: As in `list`.
            concurrency: Projects read at a time. Requests are paced and limited by the client besides.
            consistency: As in `list`, but `checked` unless asked otherwise.
            on_error: `collect` makes a failure the outcome of its project; `raise` ends the run at the first.
            checkpoint: A file that keeps what the run has finished. A run with the same path and arguments goes on
                where the last one stopped, up to the same moment: a project whose rows were all taken is neither asked
                for nor delivered again. Blocking writes happen in a thread.
            on_progress: Called with the `Progress` at most ten times a second, in the loop of the client.
            max_requests: Refuse a run that would take more, with a `BudgetError`: the run then plans first
                (`BulkRun.plan`), and asks for no more pages than show that it is too much. Retries, and rows that
                come and go meanwhile, may still make it a few more.

        A run whose first twenty projects are all refused alike (denied, not found, bad request) ends with that error.

        Returns:
            A `BulkRun`, to be used with `async with` and iterated.
        """
        params = make_params(
            workspace=workspace,
            pipeline_execution_id=pipeline_execution_id,
            status=status,
            pipeline_name=pipeline_name,
            start_time=start_time,
            end_time=end_time,
        )
        check_consistency(consistency)
        spec = self._spec(
            lambda ref, end: self._list(
                ref, params if end is None else {**params, "end_time": end}, consistency=consistency
            ),
            projects,
            concurrency=concurrency,
            on_error=on_error,
            on_progress=on_progress,
        )
        return BulkRun(
            evolve(
                spec,
                max_requests=None if max_requests is None else check_int("max_requests", max_requests, 0),
                checkpoint=None if checkpoint is None else self._plan(Path(checkpoint), params, consistency),
            )
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
        concurrency: int = 32,
        consistency: Consistency = "checked",
        on_error: OnError = "collect",
        on_progress: Callable[[Progress], None] | None = None,
    ) -> SyncRun[Execution]:
        """Fetch what is new since a state, and what had no outcome then, as upserts.

        Args:
            state: What `SyncRun.state` was the last time; None for the first.
            projects: As in `bulk`.
            workspace: As in `list`; a state goes with its filters.
            pipeline_name: As in `list`.
            start_time: Where a project that the state does not have begins; None takes all there is.
            overlap: Seconds to go back behind the last window, for rows that appear late.
            concurrency: As in `bulk`.
            consistency: `checked` or `strict`: what was read must be known to be whole.
            on_error: As in `bulk`.
            on_progress: As in `bulk`.

        Returns:
            A `SyncRun`: used as a `BulkRun`, with `state` for the next time.

        Raises:
            ValueError: The state belongs to another host, account or other filters.
        """
        check_seconds("overlap", overlap)
        if check_consistency(consistency) == "live":
            raise ValueError("a sync must know that it missed nothing: consistency 'checked' or 'strict'")
        credentials, base_url = self._session.sender.credentials, self._session.base_url
        owner = json.dumps([str(base_url), credentials.account_id, workspace, pipeline_name])
        before = SyncState(owner=owner) if state is None else state
        if before.owner != owner:
            raise ValueError(f"the state belongs to {before.owner}, not to {owner}: host, account or filters differ")
        first = to_milliseconds("start_time", start_time)

        def open_list(ref: ProjectRef, start: int | None) -> ListPager[Execution]:
            filters = {"workspace": workspace, "pipeline_name": pipeline_name, "start_time": start, "end_time": None}
            return self._list(ref, {"status": None, **filters}, consistency=consistency)

        rows = Rows(
            open_list=open_list,
            refresh=lambda ref, ids: self._get((ref.org, ref.project, *ids)),
            ids=attrgetter("pipeline_execution_id", "pipeline_stage_id"),
            created=attrgetter("created"),
            is_finished=lambda row: row.status in FINISHED,
            overlap=int(overlap * 1000),
        )
        spec = self._spec(
            lambda ref, _end: SyncPager(rows, ref, before.projects.get(ref), first),
            projects,
            concurrency=concurrency,
            on_error=on_error,
            on_progress=on_progress,
        )
        return SyncRun(spec, before, owner, whole=projects is None)

    def _spec(
        self,
        open_list: Callable[[ProjectRef, int | None], Listing[Execution]],
        projects: Projects | None,
        *,
        concurrency: int,
        on_error: OnError,
        on_progress: Callable[[Progress], None] | None,
    ) -> BulkSpec[Execution]:
        """Make the job of reading a list of each project, with what all runs have in common."""
        unlisted: dict[str, HarnessError] = {}
        sender = self._session.sender
        return BulkSpec(
            open_list=open_list,
            projects=self._discover(unlisted) if projects is None else check_projects(projects),
            bottleneck=sender.bottleneck,
            rate=sender.rate,
            concurrency=check_int("concurrency", concurrency, 1),
            max_in_flight=sender.max_in_flight,
            on_error=check_on_error(on_error),
            on_progress=on_progress,
            unlisted=unlisted,
        )

    def _plan(self, path: Path, params: dict[str, QueryValue], consistency: Consistency) -> CheckpointPlan:
        """Say where a run keeps what it has finished, and how to freeze it."""
        session = self._session

        async def freeze() -> int | None:
            end = params["end_time"]
            if consistency == "live" or isinstance(end, int):
                return end if isinstance(end, int) else None
            if not session.sender.clock.known:
                # One request tells the server's time; whatever it answers, the run itself will meet again.
                with contextlib.suppress(HarnessError):
                    await session.request("GET", "/v1/orgs", params={"limit": 1, "page": 0})
            return session.sender.clock.now()

        identity = Identity.of(
            str(session.base_url), session.sender.credentials.account_id, {**params, "consistency": consistency}
        )
        return CheckpointPlan(path=path, identity=identity, freeze=freeze)

    def _discover(self, unlisted: dict[str, HarnessError]) -> Projects:
        """List all projects; an organization that cannot be listed is told in the report and ends nothing."""

        def skip(org: str, error: HarnessError) -> bool:
            if isinstance(error, AuthenticationError):
                return False
            if not isinstance(error, NotFoundError):  # one that is gone has no projects
                unlisted[org] = error
            return True

        return self._projects.walk_all(None, skip)
