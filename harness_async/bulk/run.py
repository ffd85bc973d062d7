"""The consumer's side of a bulk run: rows, outcomes, progress, the plan, and the checkpoint.

The worker pool fetches. A project is recorded in the checkpoint when the consumer has taken its last row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import length_hint
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from harness_async.bulk.checkpoint import Checkpoint
from harness_async.bulk.models import Batch, BulkReport, Plan, Progress, ProjectOutcome
from harness_async.bulk.workers import BulkSpec, WorkerBatch, WorkerPool, create_outcome
from harness_async.errors import HarnessError
from harness_async.pagination.walk import Walk
from harness_async.types import ProjectRef

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async.bulk")

_PROGRESS_INTERVAL = 0.1
"""Seconds between two calls of `on_progress`."""


class BulkRun(Generic[T]):
    """The rows of many projects as they arrive, and a report.

    Use it with `async with` and iterate it once, in one task: over its rows, or over `batches`, which say to which
    project rows belong. Rows of one project arrive in the order of its list; rows of different projects are mixed.
    Nothing is requested before the first row, or the plan. Leaving the block ends the run.
    """

    def __init__(
        self,
        spec: BulkSpec[T],
        *,
        on_project_complete: Callable[[ProjectOutcome], Mapping[str, Any]] | None = None,
        started_at: datetime | None = None,
    ) -> None:
        """Create a run; users call `bulk` of a resource.

        Args:
            spec: What to read.
            on_project_complete: Called in a thread when all rows of a complete project were taken, before the
                checkpoint records it: the place to write them to disk. What it returns is stored in the checkpoint, and
                returned by `resumed` when the run continues.
            started_at: When a run with a checkpoint began, for callers whose filters depend on the present time.
        """
        self.spec = spec
        self._on_project_complete = on_project_complete
        self._started_at = started_at
        self._pool = WorkerPool(spec)
        self._task: asyncio.Task[None] | None = None
        self._entered = self._over = self._advancing = False
        self._fatal: BaseException | None = None
        self._batch: WorkerBatch[T] | None = None  # the one that the consumer has
        self._rest: Iterator[T] = iter(())
        self._began: float | None = None
        self._ended = self._reported_at = 0.0
        self._plan: Plan | None = None
        self._checkpoint: Checkpoint | None = None
        self._recording: asyncio.Future[None] | None = None
        self._outcomes: dict[ProjectRef, ProjectOutcome] = {}
        self._failures: list[ProjectOutcome] = []
        self._taken = self._duplicates = self._invalid_members = self._finished_requests = 0
        self._resumed = 0  # projects that an earlier run finished

    # -- what users see ------------------------------------------------------------------------------------------

    @property
    def report(self) -> BulkReport:
        """What the run did so far; final after the loop."""
        active = self._active_walks()
        outcomes = dict(self._outcomes)
        for ref in self._pool.discovered:
            if ref not in outcomes:
                walk = active.get(ref)
                outcomes[ref] = ProjectOutcome(project=ref) if walk is None else create_outcome(ref, walk)
        return BulkReport(
            outcomes=outcomes,
            rows=self._rows(),
            requests=self._requests(),
            duplicates=self._duplicates + sum(walk.report.duplicates for walk in active.values()),
            elapsed=self._elapsed(),
            invalid_members=self._invalid_members + sum(walk.report.invalid_members for walk in active.values()),
            listed=self._pool.discovery_done,
            discovery=self._pool.discovery,
            unlisted=dict(self.spec.unlisted),
        )

    @property
    def progress(self) -> Progress:
        """How far the run is. Cheap enough to be read ten times a second."""
        pool = self._pool
        waiting = pool.batches.qsize()
        return Progress(
            projects_done=len(self._outcomes),
            projects_total=self._resumed + len(pool.discovered) if pool.discovery_done else None,
            projects_planned=pool.estimated,
            rows=self._rows(),
            requests=self._requests(),
            elapsed=self._elapsed(),
            eta=self._estimate_rest(),
            # All workers but the one whose rows the consumer has wait for it.
            limited_by="consumer" if waiting >= max(1, pool.active - 1) else self.spec.limited_by(),
        )

    @property
    def failures(self) -> Sequence[ProjectOutcome]:
        """The outcomes of failed projects in the order in which they failed; grows during the run."""
        return self._failures

    @property
    def resumed(self) -> Mapping[str, Any]:
        """What was stored with the last project of the run that this one continues; empty for a new run."""
        return {} if self._checkpoint is None else self._checkpoint.extra

    async def plan(self) -> Plan:
        """Request the first page of every project and return what the run will take, before any row.

        One request a project, at the rate limit. The run does not repeat these requests: the pages are kept in
        compressed form, about 6 kB for a page of a hundred rows. May be called before or within the block of the run;
        the plan is made once.

        Raises:
            AuthenticationError: The key was refused.
            BudgetError: The run would need more than its `max_requests`.
            HarnessError: The projects could not be listed, or `on_error="raise"` and one failed.
            RuntimeError: The run has already started.
        """
        if self._plan is None:
            self._plan = await self._make_plan()
        return self._plan

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("A bulk run can be used once; call bulk() again for another")
        self._entered = True
        self._begin()
        await self._open_checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._recording is not None:
            await asyncio.wait((self._recording,))
        self._finish()
        if self._checkpoint is not None:
            self._checkpoint.close()

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the rows as they arrive. A second loop continues where the first one stopped.

        Raises:
            AuthenticationError: The key was refused; its `report` says how far the run got.
            BudgetError: The run would need more than `max_requests`.
            HarnessError: The projects could not be listed, or `on_error="raise"` and one failed.
        """
        while True:
            for row in self._rest:
                yield row
            if not await self._advance():
                return

    async def __anext__(self) -> T:
        """Return the next row."""
        while True:
            for row in self._rest:
                return row
            if not await self._advance():
                raise StopAsyncIteration

    async def batches(self) -> AsyncGenerator[Batch[T], None]:
        """Iterate over the rows in batches as they arrive: an alternative to iterating over rows, with the same errors.

        The project of a batch is the one that was requested. Rows may spell it in another way, or not name it at all.
        """
        while True:
            items = tuple(self._rest)  # a batch, or what a loop over rows has left of it
            if items and self._batch is not None:
                yield Batch(project=self._batch.project, items=items)
            if not await self._advance():
                return

    # -- beginning and ending ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._began is None:
            self._began = self._reported_at = asyncio.get_running_loop().time()

    async def _open_checkpoint(self) -> None:
        """Open the checkpoint, if there is one. Projects that it has finished are not requested again."""
        spec = self.spec.checkpoint
        if spec is None or self._checkpoint is not None:
            return
        checkpoint = await asyncio.to_thread(Checkpoint.open, spec.path, spec.identity, lock=spec.lock)
        self._checkpoint = checkpoint
        if checkpoint.is_new:
            checkpoint.end = self._pool.end if self._plan is not None else await spec.freeze()
        self._outcomes.update(checkpoint.finished)
        self._resumed = len(checkpoint.finished)
        if self._plan is None:  # the pool of a plan holds the first pages
            self._pool = WorkerPool(self.spec, end=checkpoint.end, finished=checkpoint.lists)

    async def _make_plan(self) -> Plan:
        """Make the plan. A run whose plan failed cannot go on."""
        if self._task is not None or self._over:
            raise self._fatal or RuntimeError("The run has already started; plan it before its first row")
        self._begin()
        try:
            await self._open_checkpoint()
            await self._pool.estimate_all(self._report_progress)
            return self._pool.create_plan()
        except BaseException as error:
            self._fatal = error if isinstance(error, Exception) else RuntimeError("The plan was not completed")
            self._finish()
            raise
        finally:
            if not self._entered and self._checkpoint is not None:
                self._checkpoint.close()
                self._checkpoint = None

    async def _work(self) -> None:
        try:
            await self._pool.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised to the consumer, after the rows that arrived before
            self._fatal = error
        finally:
            self._pool.batches.put_nowait(None)

    def _finish(self) -> None:
        if not self._over:
            self._ended = asyncio.get_running_loop().time()
            self._over = True
            if isinstance(self._fatal, HarnessError):
                self._fatal.report = self.report

    # -- batches -------------------------------------------------------------------------------------------------

    async def _advance(self) -> bool:
        """Acknowledge the current batch and wait for the next; return False at the end."""
        if not self._entered:
            raise RuntimeError("Use a bulk run with 'async with'")
        if self._over:
            if self._task is None and self._fatal is not None:
                raise self._fatal  # the plan failed
            return False
        if self._task is None:
            if self.spec.max_requests is not None:
                await self.plan()
            self._task = asyncio.create_task(self._work())
        if self._advancing:
            raise RuntimeError("Another task waits for the rows of this bulk run; iterate it in one task")
        self._advancing = True
        try:
            if self._batch is not None:
                await self._acknowledge(self._batch)
            batch = await self._pool.batches.get()
        finally:
            self._advancing = False
        if batch is None:
            self._finish()
            self._report_progress(final=True)
            if self._fatal is not None:
                raise self._fatal
            return False
        self._batch, self._rest = batch, iter(batch.items)
        self._taken += len(batch.items)
        self._report_progress()
        return True

    async def _acknowledge(self, batch: WorkerBatch[T]) -> None:
        """Let the worker go on: the rows of its batch were taken."""
        if batch.outcome is not None:
            await self._close_project(batch, batch.outcome)
        self._batch = None  # not before, so that a consumer that was cancelled may continue
        if not batch.acknowledged.done():
            batch.acknowledged.set_result(None)

    async def _close_project(self, batch: WorkerBatch[T], outcome: ProjectOutcome) -> None:
        """Record the outcome of a project whose rows were all taken."""
        if outcome.status == "complete" and (self._checkpoint is not None or self._on_project_complete is not None):
            # In a thread, once, and to its end even if the consumer is cancelled meanwhile.
            if self._recording is None:
                work = asyncio.to_thread(self._record, outcome, batch.fingerprint)
                self._recording = asyncio.ensure_future(work)
            await asyncio.shield(self._recording)
            self._recording = None
        self._outcomes[outcome.project] = outcome
        report = batch.walk.report
        self._duplicates += report.duplicates
        self._invalid_members += report.invalid_members
        self._finished_requests += outcome.requests
        if outcome.error is not None:
            self._failures.append(outcome)

    def _record(self, outcome: ProjectOutcome, fingerprint: str | None) -> None:
        """Write a complete project to disk: first its rows, then the line of the checkpoint."""
        if self._checkpoint is not None:
            self._checkpoint.begin(self._started_at)
        extra = {} if self._on_project_complete is None else self._on_project_complete(outcome)
        if self._checkpoint is not None:
            self._checkpoint.record(outcome, extra, fingerprint)

    # -- progress ------------------------------------------------------------------------------------------------

    def _report_progress(self, *, final: bool = False) -> None:
        """Pass the progress to the observer, ten times a second at most. Its exceptions are logged and ignored."""
        if self.spec.on_progress is None:
            return
        now = asyncio.get_running_loop().time()
        if final or now - self._reported_at >= _PROGRESS_INTERVAL:
            self._reported_at = now
            try:
                self.spec.on_progress(self.progress)
            except Exception:
                logger.exception("on_progress raised an exception; the run continues")

    def _active_walks(self) -> Mapping[ProjectRef, Walk[T]]:
        return {ref: walk for ref, walk in self._pool.walks.items() if ref not in self._outcomes}

    def _rows(self) -> int:
        """Rows that the consumer has taken: those of its batches, without the rest of the present one."""
        return self._taken - length_hint(self._rest)

    def _requests(self) -> int:
        active = sum(walk.report.requests for walk in self._active_walks().values())
        return self._pool.discovery_requests + active + self._finished_requests

    def _elapsed(self) -> float:
        if self._began is None:
            return 0.0
        return (self._ended if self._over else asyncio.get_running_loop().time()) - self._began

    def _estimate_rest(self) -> float | None:
        """Estimate the seconds that remain, from the requests that do; None where that is not known."""
        elapsed, requests = self._elapsed(), self._requests()
        finished = len(self._outcomes) - self._resumed
        if not self._pool.discovery_done or not requests or not (finished or self._plan):
            return None
        if self._over:
            return 0.0
        left = self._pool.requests_left(self._finished_requests / finished if finished else 1.0)
        allowed = self.spec.rate()
        # A run begins with a burst, or with responses that are still to come: it is never faster than the limit.
        seconds = elapsed / requests
        return left * (seconds if allowed is None else max(seconds, 1.0 / allowed))


def with_output(
    run: BulkRun[T], on_project_complete: Callable[[ProjectOutcome], Mapping[str, Any]], started_at: datetime
) -> BulkRun[T]:
    """Return a run with the hooks of an output that is resumed together with it; see `BulkRun.__init__`."""
    return BulkRun(run.spec, on_project_complete=on_project_complete, started_at=started_at)
