"""The fetching side of a bulk run: one feeder, a fixed number of workers, and one queue of batches.

    projects --> feeder --> queue --> workers --> batches --> the consumer (`run`)

Each worker takes one project at a time, walks its list, and puts its pages on the queue. It waits until the consumer
has acknowledged a batch before it reads on, so that ten thousand projects do not mean ten thousand tasks, and a slow
consumer never has more pages alive than the walks of all workers may prefetch.

The outcome of a project travels with its last page: the project is complete when the consumer has taken its rows, not
when they were fetched. The failure of a project is its own outcome. Failures that concern the whole run end it: a
refused key, projects that cannot be listed, an exception of the caller's iterable, and the first failure under
`on_error="raise"`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from harness_async.bulk.checkpoint import CheckpointSpec
from harness_async.bulk.models import Plan, Progress, ProjectOutcome
from harness_async.errors import (
    APIStatusError,
    AuthenticationError,
    BudgetError,
    CheckpointError,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    RequestTimeoutError,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.pagination.failed import FailedWalk, IdentifierError
from harness_async.pagination.pager import Pager
from harness_async.pagination.source import ListEstimate
from harness_async.pagination.walk import Walk
from harness_async.types import Guarantee, LimitedBy, OnError, OutcomeStatus, ProjectRef, Projects, as_ref, check_ref

T = TypeVar("T")

MAX_PREFETCH = 8
"""Pages of one project in flight at most: more than hide the latency only take capacity from other projects."""

MAX_IDENTICAL_FAILURES = 20
"""Abort after this many identical failures from the start of a run: the cause is the key or an argument then, and all
other projects would fail too."""

_SERVER_ERROR = 500


@define(kw_only=True, eq=False)
class BulkSpec(Generic[T]):
    """What a run reads, and how."""

    open_list: Callable[[ProjectRef, int | None], Pager[T]]
    """Opens the list of a project, up to the frozen end of the whole run if there is one."""

    projects: Projects
    limited_by: Callable[[], LimitedBy]
    """Returns what holds requests back at this moment."""

    rate: Callable[[], float | None] = lambda: None
    """Returns the requests per second that the rate limit allows at this moment."""

    concurrency: int = 32
    max_in_flight: int = 32
    """Requests in flight at most, which the active projects share."""

    max_requests: int | None = None
    on_error: OnError = "collect"
    on_progress: Callable[[Progress], None] | None = None
    checkpoint: CheckpointSpec | None = None
    stores_lists: bool = False
    """Whether the checkpoint stores how each list was read, because `open_list` is the caller's."""

    unlisted: dict[str, HarnessError]
    """Organizations that could not be listed; filled while the projects are listed."""


@define(eq=False)
class WorkerBatch(Generic[T]):
    """Rows of a project, its outcome, or both. The worker waits until it is acknowledged."""

    project: ProjectRef
    items: Sequence[T]
    outcome: ProjectOutcome | None
    """Set on the last batch of a project."""

    walk: Walk[T] = field(repr=False)
    fingerprint: str | None = field(repr=False)
    acknowledged: asyncio.Future[None] = field(repr=False)


@frozen(eq=False)
class _Estimated(Generic[T]):
    """A project whose first page was requested by a plan."""

    walk: Walk[T]
    result: ListEstimate | HarnessError

    @property
    def requests_left(self) -> int:
        return self.walk.requests_left if isinstance(self.result, ListEstimate) else 0


@define(eq=False)
class _EarlyFailures:
    """The failures of the first projects, until one of them can be read."""

    _kinds: Counter[tuple[type[HarnessError], str | None]] | None = field(factory=Counter)

    def record_success(self) -> None:
        self._kinds = None

    def record(self, error: HarnessError) -> bool:
        """Count a failure; return whether there are too many identical ones to go on."""
        if self._kinds is None:
            return False
        self._kinds[type(error), getattr(error, "code", None)] += 1
        # Server errors and timeouts may pass; a response that cannot be parsed, or is not the API's, will not.
        is_permanent = isinstance(error, UnexpectedResponseError | TransportError) or (
            isinstance(error, APIStatusError) and error.status < _SERVER_ERROR
        )
        is_permanent = is_permanent and not isinstance(error, RequestTimeoutError)
        return is_permanent and len(self._kinds) == 1 and self._kinds.total() >= MAX_IDENTICAL_FAILURES


class WorkerPool(Generic[T]):
    """The feeder and the workers. One task runs `estimate_all`, if at all, then `run`."""

    def __init__(
        self,
        spec: BulkSpec[T],
        *,
        end: int | None = None,
        finished: Mapping[ProjectRef, str | None] = MappingProxyType({}),
    ) -> None:
        """Create a pool.

        Args:
            spec: What to read.
            end: The frozen end of the windows of the whole run.
            finished: Projects that are not read again, with the fingerprints of their lists.
        """
        self.batches: asyncio.Queue[WorkerBatch[T] | None] = asyncio.Queue()
        """At most one batch of each worker, and None at the end."""

        self.walks: dict[ProjectRef, Walk[T]] = {}
        """Walks of active projects, until the last batch of each is acknowledged."""

        self.discovered: dict[ProjectRef, None] = {}
        """The projects known so far, without the finished ones."""

        self.discovery_done: bool = False
        """Whether all projects are known."""

        self.active: int = 0
        """Projects that are being read."""

        self.estimated: int = 0
        """Projects whose first page was requested by `estimate_all`."""

        self.end: int | None = end
        """The frozen end of the windows of the whole run."""

        self._spec = spec
        self._finished = finished
        self._started = 0  # projects that a worker took
        self._discovery: Walk[Any] | None = None
        self._early_failures = _EarlyFailures()
        self._estimates: dict[ProjectRef, _Estimated[T]] = {}  # not taken by a worker yet
        self._has_estimates = False

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def discovery(self) -> Guarantee | None:
        """What the list of projects guarantees; None where the caller named them, and until all are known."""
        return self._discovery.report.guarantee if self._discovery is not None and self.discovery_done else None

    @property
    def discovery_requests(self) -> int:
        """Requests that listed the projects, and first pages of projects that no worker has taken yet."""
        discovery = 0 if self._discovery is None else self._discovery.report.requests
        return discovery + sum(each.walk.report.requests for each in self._estimates.values())

    def requests_left(self, mean: float) -> float:
        """Estimate the requests that remain, with `mean` for each project of which nothing is known."""
        active = sum(walk.requests_left for walk in self.walks.values())
        if self._has_estimates:
            return active + sum(each.requests_left for each in self._estimates.values())
        return active + (len(self.discovered) - self._started) * mean

    def create_plan(self) -> Plan:
        """Return what is known about the run so far; everything after `estimate_all`."""
        found = [each.result for each in self._estimates.values() if isinstance(each.result, ListEstimate)]
        return Plan(
            projects=len(self.discovered),
            failed=len(self._estimates) - len(found),
            rows=sum(estimate.rows or 0 for estimate in found),
            uncounted=sum(estimate.rows is None for estimate in found),
            requests=self._expected_requests(),
            made=self.discovery_requests,
            rate=self._spec.rate(),
        )

    def _expected_requests(self) -> int:
        """Requests that the run takes at least: those made, those known of, one for each other project."""
        left = sum(each.requests_left for each in self._estimates.values())
        return self.discovery_requests + left + len(self.discovered) - self.estimated

    # -- the work ------------------------------------------------------------------------------------------------

    async def estimate_all(self, on_estimate: Callable[[], None]) -> None:
        """Request the first page of every project and keep it; `on_estimate` is called after each.

        Raises:
            BudgetError: The run would need more requests than allowed.
            HarnessError: The projects could not be listed, or a failure concerns the whole run.
        """

        async def estimate(ref: ProjectRef) -> None:
            self._check_budget()
            self._estimates[ref] = await self._estimate_project(ref)
            self.estimated += 1
            on_estimate()

        await self._run_workers(self._discover_projects(), estimate)
        self._check_budget()
        self._has_estimates = True

    async def run(self) -> None:
        """Read every project and put its batches on the queue.

        Raises:
            HarnessError: The projects could not be listed, or a failure concerns the whole run.
        """
        refs = _iterate(tuple(self._estimates)) if self._has_estimates else self._discover_projects()
        await self._run_workers(refs, self._process_project)

    async def _run_workers(
        self, refs: AsyncGenerator[ProjectRef, None], process: Callable[[ProjectRef], Awaitable[None]]
    ) -> None:
        """Process projects concurrently as they become known. The first error ends all of it and is raised."""
        # The library's own list of projects may be read ahead: it is small, and the remaining time is known only when
        # all projects are. A caller's iterable is consumed as needed.
        size = 0 if isinstance(self._spec.projects, Pager | Sequence) else self._spec.concurrency
        queue: asyncio.Queue[ProjectRef | None] = asyncio.Queue(size)

        async def feed() -> None:
            async with aclosing(refs):
                async for ref in refs:
                    await queue.put(ref)
            self.discovery_done = True
            for _ in range(self._spec.concurrency):
                await queue.put(None)

        async def work() -> None:
            while (ref := await queue.get()) is not None:
                await process(ref)

        parent = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_raise_cancelled(feed(), "The iterator of projects", parent))
                for _ in range(self._spec.concurrency):
                    group.create_task(_raise_cancelled(work(), "The list of a project", parent))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _discover_projects(self) -> AsyncGenerator[ProjectRef, None]:
        """Yield the projects, each once, as they become known."""
        async with aclosing(self._iterate_projects()) as refs:
            async for ref in refs:
                if ref in self._finished:
                    self._check_finished(ref)
                elif ref not in self.discovered:
                    self.discovered[ref] = None
                    yield ref

    def _check_finished(self, ref: ProjectRef) -> None:
        """Refuse to skip a finished project whose list would be read in another way now."""
        if self._spec.stores_lists and self._finished[ref] != self._spec.open_list(ref, self.end).fingerprint:
            raise CheckpointError(
                f"The checkpoint belongs to a run that read another list of {ref}, or with other filters; "
                "open the same list, or choose another path"
            )

    async def _iterate_projects(self) -> AsyncGenerator[ProjectRef, None]:
        projects = self._spec.projects
        if isinstance(projects, Pager):
            self._discovery = walk = projects.walk()
            async with walk:
                while (page := await walk.read_page()) is not None:
                    for project in page.items:
                        yield as_ref(project)
        elif isinstance(projects, AsyncIterable):
            async for project in projects:
                yield as_ref(project)
        else:
            for project in projects:
                yield as_ref(project)

    async def _estimate_project(self, ref: ProjectRef) -> _Estimated[T]:
        walk = self._open_walk(ref)
        try:
            result: ListEstimate | HarnessError = await walk.fetch_first_page()
            self._early_failures.record_success()
        except HarnessError as error:
            self._raise_if_fatal(error)
            result = error
        return _Estimated(walk, result)

    def _open_walk(self, ref: ProjectRef) -> Walk[T]:
        """Open the list of a project, or one that fails if the server gave the project an impossible name."""
        try:
            check_ref(ref)
        except ValueError as error:
            return FailedWalk(IdentifierError(f"The project {str(ref)!r} cannot be requested: {error}"))
        return self._spec.open_list(ref, self.end).walk()

    async def _process_project(self, ref: ProjectRef) -> None:
        """Read one project and put its batches on the queue; its failure becomes its outcome."""
        self._started += 1
        estimated = self._estimates.pop(ref, None)
        walk = self._open_walk(ref) if estimated is None else estimated.walk
        self.walks[ref] = walk
        try:
            if estimated is not None and isinstance(estimated.result, HarnessError):
                await self._put(ref, walk, (), _failed(ref, walk, estimated.result))
                return
            self.active += 1
            self._rebalance_prefetch()
            try:
                if not await self._read_project(ref, walk):
                    self.walks[ref] = again = self._open_walk(ref)
                    again.requests = walk.report.requests
                    await self._read_project(ref, again, is_retry=True)
            finally:
                self.active -= 1
                self._rebalance_prefetch()
        finally:
            del self.walks[ref]

    async def _read_project(self, ref: ProjectRef, walk: Walk[T], *, is_retry: bool = False) -> bool:
        """Read a project. Return False where it is worth a second try: it was just listed, and is not found."""
        try:
            async with walk:
                outcome: ProjectOutcome | None = None
                while outcome is None:
                    page = await walk.next_page()
                    if len(self.walks) < self._spec.max_in_flight:  # else each requests one page at a time
                        self._rebalance_prefetch()
                    items: Sequence[T] = () if page is None else page.items
                    if page is None or walk.is_done:
                        self._early_failures.record_success()
                        outcome = create_outcome(ref, walk, "complete")
                    if items or outcome is not None:
                        await self._put(ref, walk, items, outcome)
                    del page, items  # not alive while the next page is fetched
        except HarnessError as error:
            is_listed = isinstance(self._spec.projects, Pager)
            if isinstance(error, NotFoundError) and is_listed and not is_retry and not walk.report.rows:
                return False
            self._raise_if_fatal(error)
            await self._put(ref, walk, (), _failed(ref, walk, error))
        return True

    async def _put(self, ref: ProjectRef, walk: Walk[T], items: Sequence[T], outcome: ProjectOutcome | None) -> None:
        """Put a batch on the queue and wait until the consumer has acknowledged it."""
        acknowledged = asyncio.get_running_loop().create_future()
        fingerprint = None
        if outcome is not None and self._spec.stores_lists and outcome.status == "complete":
            fingerprint = self._spec.open_list(ref, self.end).fingerprint
        batch = WorkerBatch(ref, items, outcome, walk, fingerprint, acknowledged)
        self.batches.put_nowait(batch)
        await acknowledged

    def _check_budget(self) -> None:
        limit, expected = self._spec.max_requests, self._expected_requests()
        if limit is not None and expected > limit:
            error = BudgetError(f"The run would need at least {expected:,} requests, more than max_requests={limit:,}")
            error.plan = self.create_plan()
            raise error

    def _raise_if_fatal(self, error: HarnessError) -> None:
        """Raise the error of a project if it concerns the whole run."""
        is_fatal = isinstance(error, AuthenticationError) or self._spec.on_error == "raise"
        if is_fatal or self._early_failures.record(error):
            raise error

    def _rebalance_prefetch(self) -> None:
        """Share the places in flight among the active projects, beginning with those that need the fewest.

        While many projects are active each requests one page at a time, so that a huge one does not slow down the
        small ones. What a project cannot use, because it is at its first page or near its end, goes to longer ones.
        """
        active, free = len(self.walks), self._spec.max_in_flight
        for number, walk in enumerate(sorted(self.walks.values(), key=attrgetter("requests_left"))):
            pages = min(MAX_PREFETCH, free // (active - number), max(1, walk.requests_left))
            free -= pages
            walk.prefetch = pages if pages > 1 else 0


async def _raise_cancelled(work: Coroutine[Any, Any, None], name: str, parent: asyncio.Task[Any] | None) -> None:
    """Raise a cancellation as an error, unless it comes from the parent: a task group would ignore it and never end."""
    try:
        await work
    except asyncio.CancelledError as error:
        if parent is not None and not parent.cancelling():  # a group that fails cancels its parent too
            raise HarnessError(f"{name} ended with CancelledError") from error
        raise


async def _iterate(refs: Iterable[ProjectRef]) -> AsyncGenerator[ProjectRef, None]:
    for ref in refs:
        yield ref


def create_outcome(
    ref: ProjectRef, walk: Walk[Any], status: OutcomeStatus = "pending", error: HarnessError | None = None
) -> ProjectOutcome:
    """Create the outcome of a project, or its outcome so far."""
    report, is_complete = walk.report, status == "complete"
    return ProjectOutcome(
        project=ref,
        status=status,
        guarantee=report.guarantee if is_complete else None,
        rows=report.rows,
        requests=report.requests,
        retries=walk.retries,
        window=report.window if is_complete else None,
        error=error,
    )


def _failed(ref: ProjectRef, walk: Walk[Any], error: HarnessError) -> ProjectOutcome:
    if isinstance(error, PermissionDeniedError):
        return create_outcome(ref, walk, "denied", error)
    return create_outcome(ref, walk, "not_found" if isinstance(error, NotFoundError) else "failed", error)
