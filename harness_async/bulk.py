"""One list for each of many projects, fetched concurrently: the crew behind `executions.bulk`.

    projects ──> feeder ──> refs ──> K workers ──> pages, outcomes ──> the consumer's loop
                                 (queue of K)               (queue of K)

A fixed crew of K workers takes projects from a lazy iterable, walks each project's list, and hands pages over.
Both queues are bounded, so ten thousand projects do not mean ten thousand tasks and a slow consumer holds back the
crew instead of filling the memory. A project's outcome travels in the same queue behind its last page: it counts as
complete when the consumer has taken its rows, not when they were fetched.

A failure is the outcome of its own project. What concerns all of them ends the run: a refused key, projects that
cannot be listed, a broken iterable, and with `on_error="raise"` the first failure.

The module knows no resource: it walks whatever list it is given for a project.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar, get_args

from attrs import evolve, frozen

from harness_async.checkpoint import Checkpoint, Identity
from harness_async.errors import APIStatusError, AuthenticationError, HarnessError, NotFoundError, PermissionDeniedError
from harness_async.outcomes import (
    BulkReport,
    LimitedBy,
    OutcomeStatus,
    Progress,
    ProjectOutcome,
    ProjectRef,
    Projects,
    as_ref,
)
from harness_async.pagination import Pager, Walk

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async")

OnError: TypeAlias = Literal["collect", "raise"]

MOST_AHEAD = 8
"""Pages of one project under way at once, at most: more than hide the latency only take the pace from the others."""

SAME_REFUSALS = 20
"""Projects that come first and are all refused alike before the run is given up: it is the key or an argument then, and
the other ten thousand would be refused too."""

_PROGRESS_INTERVAL = 0.1
"""Seconds between two calls of `on_progress`: ten a second are as many as anybody can watch."""


def check_on_error(value: object) -> OnError:
    """Return what to do about a failed project, or raise `ValueError`."""
    if value not in get_args(OnError):
        raise ValueError(f"on_error must be 'collect' or 'raise', not {value!r}")
    return value  # type: ignore[return-value]


@frozen
class _Done:
    """Behind a project's last page: what became of it."""

    outcome: ProjectOutcome


@frozen(kw_only=True)
class CheckpointPlan:
    """Where a run keeps what it has finished, and what it takes to begin."""

    path: Path
    identity: Identity
    freeze: Callable[[], Awaitable[int | None]]
    """Gives the end of all windows of a run that begins: the server's now."""


@frozen(kw_only=True)
class Job(Generic[T]):
    """What a run is to do."""

    open_list: Callable[[ProjectRef, int | None], Pager[T]]
    """Makes the list of a project, up to a frozen end of the whole run if there is one."""

    projects: Projects
    bottleneck: Callable[[], LimitedBy]
    """Says what holds requests back at this moment."""

    concurrency: int = 32
    max_in_flight: int = 32
    """Requests under way at once, which the projects at hand share."""

    on_error: OnError = "collect"
    on_progress: Callable[[Progress], None] | None = None
    checkpoint: CheckpointPlan | None = None
    unlisted: dict[str, HarnessError]
    """Filled by whoever lists the projects: organizations that could not be."""


class BulkRun(Generic[T]):
    """The rows of many projects as they come, and a report.

    Use it with `async with`; iterate it once, in one task. Rows of one project come in the order of its list; rows
    of different projects are mixed. Leaving the block ends whatever is still under way.
    """

    def __init__(self, job: Job[T]) -> None:
        self._job = job
        # Projects that we list ourselves may run ahead: they are small, and only when all are known can anybody say
        # how long the rest will take. What a caller's iterable does is the caller's, so that one is taken as needed.
        ahead = 0 if isinstance(job.projects, Pager | Sequence) else job.concurrency
        self._refs: asyncio.Queue[ProjectRef | None] = asyncio.Queue(ahead)
        self._results: asyncio.Queue[Sequence[T] | _Done | None] = asyncio.Queue(job.concurrency)
        self._outcomes: dict[ProjectRef, ProjectOutcome] = {}
        self._walks: dict[ProjectRef, Walk[T]] = {}
        self._discovery: Walk[Any] | None = None
        self._listed = False
        self._crew: asyncio.Task[None] | None = None
        self._fatal: BaseException | None = None
        self._rest: Iterator[T] = iter(())
        self._began = self._ended = self._told = 0.0
        self._over = False
        self._fetching = 0  # projects that are being read
        # What the projects so far were refused with; None from the first that was read on.
        self._refused: Counter[tuple[type[HarnessError], str | None]] | None = Counter()
        self._checkpoint: Checkpoint | None = None
        self._end: int | None = None
        self.begun: datetime | None = None
        """When a run with a checkpoint began, where the caller counts times back from then: `checkpoint.begun`."""

        self.commit: Callable[[ProjectOutcome], Mapping[str, Any]] | None = None
        """Called in a thread when all rows of a complete project were taken, before the checkpoint says so: the place
        to put them on disk. What it returns is kept with the project and comes back as `resumed`."""

        self._done = self._rows = self._requests = self._duplicates = 0

    # -- what users see ------------------------------------------------------------------------------------------

    @property
    def report(self) -> BulkReport:
        """What the run did so far; final after the loop."""
        return BulkReport(
            outcomes={
                **self._outcomes,
                **{ref: self._pending(ref, walk) for ref, walk in self._walks.items()},
            },
            rows=self._rows,
            requests=self._count_requests(),
            duplicates=self._duplicates + sum(walk.report.duplicates for walk in self._walks.values()),
            elapsed=self._elapsed(),
            unlisted=dict(self._job.unlisted),
        )

    @property
    def progress(self) -> Progress:
        """How far the run is; cheap enough to ask ten times a second."""
        elapsed = self._elapsed()
        total = len(self._outcomes) if self._listed else None
        eta = None
        if total is not None and self._done:
            eta = 0.0 if self._over else elapsed / self._done * (total - self._done)
        return Progress(
            projects_done=self._done,
            projects_total=total,
            rows=self._rows,
            requests=self._count_requests(),
            elapsed=elapsed,
            eta=eta,
            limited_by="consumer" if self._results.full() else self._job.bottleneck(),
        )

    async def __aenter__(self) -> Self:
        if self._crew is not None:
            raise RuntimeError("A bulk run runs once; call bulk() again for another")
        self._began = self._told = asyncio.get_running_loop().time()
        if self._job.checkpoint is not None:
            await self._resume(self._job.checkpoint)
        self._crew = asyncio.create_task(self._work())
        return self

    @property
    def resumed(self) -> Mapping[str, Any]:
        """What `commit` returned for the last project of the run that this one continues; empty for a new run."""
        return {} if self._checkpoint is None else self._checkpoint.extra

    async def _resume(self, plan: CheckpointPlan) -> None:
        """Open the checkpoint; what it has finished is neither asked for nor delivered again."""
        end = None if plan.path.exists() and plan.path.stat().st_size else await plan.freeze()
        self._checkpoint = await asyncio.to_thread(Checkpoint.open, plan.path, plan.identity, end, self.begun)
        self._end = self._checkpoint.end
        self._outcomes.update(self._checkpoint.finished)
        self._done = len(self._outcomes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._crew is not None:
            self._crew.cancel()
            await asyncio.gather(self._crew, return_exceptions=True)
        self._finish()
        if self._checkpoint is not None:
            self._checkpoint.close()

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the rows as they come; a second loop goes on where the first was left.

        Raises:
            AuthenticationError: The key was refused; `report` on it says how far the run came.
            HarnessError: The projects could not be listed, or `on_error="raise"` and one failed.
        """
        while True:
            for row in self._rest:
                self._rows += 1
                yield row
            if not await self._advance():
                return

    async def __anext__(self) -> T:
        """Wait for the next row."""
        while True:
            for row in self._rest:
                self._rows += 1
                return row
            if not await self._advance():
                raise StopAsyncIteration

    # -- the consumer's side -------------------------------------------------------------------------------------

    async def _advance(self) -> bool:
        """Take the next thing the crew hands over; False at the end."""
        if self._crew is None:
            raise RuntimeError("Use a bulk run with 'async with'")
        if self._over:
            return False
        result = await self._results.get()
        if result is None:
            self._finish()
            self._tell(final=True)
            if self._fatal is not None:
                raise self._fatal
            return False
        if isinstance(result, _Done):
            await self._close_project(result.outcome)
        else:
            self._rest = iter(result)
        self._tell()
        return True

    async def _close_project(self, outcome: ProjectOutcome) -> None:
        if outcome.status == "complete" and (self._checkpoint is not None or self.commit is not None):
            await asyncio.to_thread(self._secure, outcome)
        walk = self._walks.pop(outcome.project)
        self._outcomes[outcome.project] = outcome
        self._requests += walk.report.requests
        self._duplicates += walk.report.duplicates
        self._done += 1

    def _secure(self, outcome: ProjectOutcome) -> None:
        """Put a complete project on disk: first its rows, which is the consumer's part, then that it is complete."""
        extra = {} if self.commit is None else self.commit(outcome)
        if self._checkpoint is not None:
            self._checkpoint.record(outcome, extra)

    def _finish(self) -> None:
        if not self._over:
            self._ended = asyncio.get_running_loop().time()
            self._over = True
            if isinstance(self._fatal, HarnessError):
                self._fatal.report = self.report

    def _tell(self, *, final: bool = False) -> None:
        """Hand the progress to the observer, but not too often; what it raises is its own affair."""
        if self._job.on_progress is None:
            return
        now = asyncio.get_running_loop().time()
        if final or now - self._told >= _PROGRESS_INTERVAL:
            self._told = now
            try:
                self._job.on_progress(self.progress)
            except Exception:
                logger.exception("on_progress raised; the run goes on")

    def _elapsed(self) -> float:
        if self._crew is None:
            return 0.0
        return (self._ended if self._over else asyncio.get_running_loop().time()) - self._began

    def _count_requests(self) -> int:
        listing = 0 if self._discovery is None else self._discovery.report.requests
        return listing + self._requests + sum(walk.report.requests for walk in self._walks.values())

    def _pending(self, ref: ProjectRef, walk: Walk[T]) -> ProjectOutcome:
        return ProjectOutcome(project=ref, rows=walk.report.rows, requests=walk.report.requests, retries=walk.retries)

    # -- the crew's side -----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Run feeder and workers to the end, whichever it is, then hand over the end mark."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed())
                for _ in range(self._job.concurrency):
                    group.create_task(self._serve())
        except BaseExceptionGroup as errors:
            self._fatal = errors.exceptions[0]
        await self._results.put(None)

    async def _feed(self) -> None:
        """Hand projects to the workers, each once, as they become known."""
        async for ref in self._iterate():
            if ref not in self._outcomes:
                self._outcomes[ref] = ProjectOutcome(project=ref)
                await self._refs.put(ref)
        self._listed = True
        for _ in range(self._job.concurrency):
            await self._refs.put(None)

    async def _iterate(self) -> AsyncIterator[ProjectRef]:
        projects = self._job.projects
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

    async def _serve(self) -> None:
        while (ref := await self._refs.get()) is not None:
            self._fetching += 1
            try:
                outcome = await self._fetch(ref)
            finally:
                self._fetching -= 1
            await self._results.put(_Done(outcome))

    async def _fetch(self, ref: ProjectRef) -> ProjectOutcome:
        """Walk the list of one project, handing its pages over; its failure becomes its outcome."""
        walk = self._walks[ref] = self._job.open_list(ref, self._end).walk()
        try:
            async with walk:
                while True:
                    walk.ahead = self._width()
                    page = await walk.read_page()
                    if page is None:
                        break
                    if page.items:
                        await self._results.put(page.items)
        except AuthenticationError:
            raise
        except HarnessError as error:
            if self._job.on_error == "raise" or self._is_hopeless(error):
                raise
            return evolve(self._pending(ref, walk), status=status_of(error), error=error)
        self._refused = None
        report = walk.report
        return evolve(self._pending(ref, walk), status="complete", consistency=report.consistency, window=report.window)

    def _width(self) -> int:
        """Say how many pages ahead a project may ask for: its share of the places, more when few are left.

        While many projects are at work each asks for a page at a time, so that a huge one does not take the pace from
        the small ones; when it is left alone it gets what the others had.
        """
        share = min(MOST_AHEAD, self._job.max_in_flight // max(1, self._fetching))
        return share if share > 1 else 0

    def _is_hopeless(self, error: HarnessError) -> bool:
        """Count refusals as long as there is nothing else, and say when they are too many to be the projects' own."""
        if self._refused is None:
            return False
        self._refused[(type(error), getattr(error, "code", None))] += 1
        is_refusal = isinstance(error, APIStatusError) and error.status < 500  # noqa: PLR2004
        return is_refusal and len(self._refused) == 1 and self._refused.total() >= SAME_REFUSALS


def status_of(error: HarnessError) -> OutcomeStatus:
    """Say which outcome an error is."""
    if isinstance(error, PermissionDeniedError):
        return "denied"
    return "not_found" if isinstance(error, NotFoundError) else "failed"
