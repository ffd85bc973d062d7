"""One list for each of many projects, fetched concurrently: what `executions.bulk` returns.

The crew fetches (`crew`); here is the consumer's side: rows one by one, outcomes as projects are done with, progress,
the plan, and the checkpoint that is written when the consumer has taken the last row of a project.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import length_hint
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, get_args

from harness_async.bulk.checkpoint import Checkpoint
from harness_async.bulk.models import BulkReport, Plan, Progress, ProjectOutcome, ProjectRef
from harness_async.bulk.workers import Batch, BulkSpec, OnError, WorkerPool, pending
from harness_async.errors import HarnessError

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async")

_PROGRESS_INTERVAL = 0.1
"""Seconds between two calls of `on_progress`: ten a second are as many as anybody can watch."""


def check_on_error(value: object) -> OnError:
    """Return what to do about a failed project, or raise `ValueError`."""
    if value not in get_args(OnError):
        raise ValueError(f"on_error must be 'collect' or 'raise', not {value!r}")
    return value  # type: ignore[return-value]


class BulkRun(Generic[T]):
    """The rows of many projects as they come, and a report.

    Use it with `async with`; iterate it once, in one task. Rows of one project come in the order of its list; rows
    of different projects are mixed. Nothing is asked for before the first row is, or the plan. Leaving the block ends
    whatever is still under way.
    """

    def __init__(self, spec: BulkSpec[T]) -> None:
        self._spec = spec
        self._outcomes: dict[ProjectRef, ProjectOutcome] = {}
        self._pool = WorkerPool(spec, self._outcomes)
        self._task: asyncio.Task[None] | None = None
        self._entered = False
        self._fatal: BaseException | None = None
        self._hand: Batch[T] | None = None  # what the consumer is at
        self._rest: Iterator[T] = iter(())
        self._began: float | None = None
        self._ended = self._told = 0.0
        self._over = False
        self._plan: Plan | None = None
        self._checkpoint: Checkpoint | None = None
        self._securing: asyncio.Future[None] | None = None
        self._failures: list[ProjectOutcome] = []
        self._done = self._taken = self._requests = self._duplicates = 0
        self._resumed = 0  # of those done, by earlier runs
        self.started_at: datetime | None = None
        """When a run with a checkpoint began, where the caller counts times back from then: `checkpoint.begun`."""

        self.on_project_complete: Callable[[ProjectOutcome], Mapping[str, Any]] | None = None
        """Called in a thread when all rows of a complete project were taken, before the checkpoint says so: the place
        to put them on disk. What it returns is kept with the project and comes back as `resumed`."""

    # -- what users see ------------------------------------------------------------------------------------------

    @property
    def report(self) -> BulkReport:
        """What the run did so far; final after the loop."""
        walks = self._pool.walks
        return BulkReport(
            outcomes={**self._outcomes, **{ref: pending(ref, walk) for ref, walk in walks.items()}},
            rows=self._rows(),
            requests=self._requests + self._pool.requests,
            duplicates=self._duplicates + sum(walk.report.duplicates for walk in walks.values()),
            elapsed=self._elapsed(),
            unlisted=dict(self._spec.unlisted),
        )

    @property
    def progress(self) -> Progress:
        """How far the run is; cheap enough to ask ten times a second."""
        pool = self._pool
        waiting = len(pool.hands)
        return Progress(
            projects_done=self._done,
            projects_total=len(self._outcomes) if pool.listed else None,
            projects_planned=pool.looked,
            rows=self._rows(),
            requests=self._requests + pool.requests,
            elapsed=self._elapsed(),
            eta=self._estimate(),
            # Of the workers all but the one whose rows the consumer has wait for it.
            limited_by="consumer" if waiting >= max(1, pool.fetching - 1) else self._spec.bottleneck(),
        )

    @property
    def failures(self) -> Sequence[ProjectOutcome]:
        """The outcomes of failed projects, in the order in which they failed; grows while the run goes on."""
        return self._failures

    @property
    def resumed(self) -> Mapping[str, Any]:
        """What `commit` returned for the last project of the run that this one continues; empty for a new run."""
        return {} if self._checkpoint is None else self._checkpoint.extra

    async def plan(self) -> Plan:
        """Ask for the first page of every project and say what the run will take, before it is asked for rows.

        One request a project, at the pace of the client; the run does not ask for those pages again. Until then they
        wait packed, a page of a hundred rows in about 6 kB. May be called in the block of the run or before it, and
        again: the plan is made once.

        Raises:
            AuthenticationError: The key was refused.
            BudgetError: The run would take more than its `max_requests`; no more was asked for than shows it.
            HarnessError: The projects could not be listed, or `on_error="raise"` and one failed.
            RuntimeError: The run has begun already.
        """
        if self._plan is None:
            await self._estimate_all()
        assert self._plan is not None  # noqa: S101 - for the type checker
        return self._plan

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("A bulk run runs once; call bulk() again for another")
        self._entered = True
        await self._open_checkpoint()
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._securing is not None:
            await asyncio.wait((self._securing,))
        self._finish()
        if self._checkpoint is not None:
            self._checkpoint.close()

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the rows as they come; a second loop goes on where the first was left.

        Raises:
            AuthenticationError: The key was refused; `report` on it says how far the run came.
            BudgetError: The run would take more than `max_requests`.
            HarnessError: The projects could not be listed, or `on_error="raise"` and one failed.
        """
        while True:
            for row in self._rest:
                yield row
            if not await self._advance():
                return

    async def __anext__(self) -> T:
        """Wait for the next row."""
        while True:
            for row in self._rest:
                return row
            if not await self._advance():
                raise StopAsyncIteration

    # -- beginning and ending ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._began is None:
            self._began = self._told = asyncio.get_running_loop().time()

    async def _open_checkpoint(self) -> None:
        """Open the checkpoint, if there is one; what it has finished is neither asked for nor delivered again."""
        plan = self._spec.checkpoint
        if plan is None or self._checkpoint is not None:
            return
        end = None if plan.path.exists() and plan.path.stat().st_size else await plan.freeze()
        self._checkpoint = await asyncio.to_thread(Checkpoint.open, plan.path, plan.identity, end, self.started_at)
        self._pool.end = self._checkpoint.end
        self._outcomes.update(self._checkpoint.finished)
        self._done = self._resumed = len(self._checkpoint.finished)

    async def _estimate_all(self) -> None:
        """Make the plan; a run whose plan was not made to the end cannot go on."""
        if self._task is not None or self._over:
            raise self._fatal or RuntimeError("The run has begun already; plan it before its first row")
        self._begin()
        try:
            await self._open_checkpoint()
            await self._pool.estimate_all(self._report_progress)
            self._plan = self._pool.make_plan()
        except BaseException as error:
            self._fatal = error if isinstance(error, Exception) else RuntimeError("The plan was left unfinished")
            self._finish()
            raise
        finally:
            if not self._entered and self._checkpoint is not None:
                self._checkpoint.close()
                self._checkpoint = None

    async def _work(self) -> None:
        try:
            await self._pool.work()
        except Exception as error:  # noqa: BLE001 - raised to the consumer, behind the rows that came before
            self._fatal = error
        self._pool.hands.put(None)

    def _finish(self) -> None:
        if not self._over:
            self._ended = asyncio.get_running_loop().time()
            self._over = True
            if isinstance(self._fatal, HarnessError):
                self._fatal.report = self.report

    # -- the consumer's side -------------------------------------------------------------------------------------

    async def _advance(self) -> bool:
        """Take the next thing the crew hands over; False at the end."""
        if not self._entered:
            raise RuntimeError("Use a bulk run with 'async with'")
        if self._over:
            if self._task is None and self._fatal is not None:
                raise self._fatal  # a plan that failed, and no run
            return False
        if self._task is None:
            if self._spec.max_requests is not None and self._plan is None:
                await self._estimate_all()
            self._task = asyncio.create_task(self._work())
        if self._hand is not None:
            await self._acknowledge(self._hand)
        hand = await self._pool.hands.get()
        if hand is None:
            self._finish()
            self._report_progress(final=True)
            if self._fatal is not None:
                raise self._fatal
            return False
        self._hand, self._rest = hand, iter(hand.rows)
        self._taken += len(hand.rows)
        self._report_progress()
        return True

    async def _acknowledge(self, hand: Batch[T]) -> None:
        """Be done with what was taken last: its rows are the consumer's now."""
        if hand.outcome is not None:
            await self._close_project(hand.outcome)
        self._hand = None  # here, so that a consumer cancelled meanwhile may try again
        if not hand.taken.done():
            hand.taken.set_result(None)

    async def _close_project(self, outcome: ProjectOutcome) -> None:
        if outcome.status == "complete" and (self._checkpoint is not None or self.on_project_complete is not None):
            # In a thread, once, and to its end even if the consumer is cancelled meanwhile.
            self._securing = self._securing or asyncio.ensure_future(asyncio.to_thread(self._commit, outcome))
            await asyncio.shield(self._securing)
            self._securing = None
        walk = self._pool.walks.pop(outcome.project)
        self._outcomes[outcome.project] = outcome
        self._requests += walk.report.requests
        self._duplicates += walk.report.duplicates
        self._done += 1
        if outcome.error is not None:
            self._failures.append(outcome)

    def _commit(self, outcome: ProjectOutcome) -> None:
        """Put a complete project on disk: first its rows, which is the consumer's part, then that it is complete."""
        extra = {} if self.on_project_complete is None else self.on_project_complete(outcome)
        if self._checkpoint is not None:
            self._checkpoint.record(outcome, extra)

    # -- progress ------------------------------------------------------------------------------------------------

    def _report_progress(self, *, final: bool = False) -> None:
        """Hand the progress to the observer, but not too often; what it raises is its own affair."""
        if self._spec.on_progress is None:
            return
        now = asyncio.get_running_loop().time()
        if final or now - self._told >= _PROGRESS_INTERVAL:
            self._told = now
            try:
                self._spec.on_progress(self.progress)
            except Exception:
                logger.exception("on_progress raised; the run goes on")

    def _rows(self) -> int:
        """Count the rows that the consumer got: those taken but for the rest. One by one it would be 5 us a page."""
        return self._taken - length_hint(self._rest)

    def _elapsed(self) -> float:
        if self._began is None:
            return 0.0
        return (self._ended if self._over else asyncio.get_running_loop().time()) - self._began

    def _estimate(self) -> float | None:
        """Estimate the seconds that are left, by the requests that are; None where nobody can know."""
        elapsed, requests, done = self._elapsed(), self._requests + self._pool.requests, self._done - self._resumed
        if not self._pool.listed or not requests or not (done or self._plan):
            return None
        if self._over:
            return 0.0
        left = self._pool.requests_left(self._requests / done if done else 1.0)
        allowed = self._spec.rate()
        # A run begins with a burst, or with answers that are still to come: it is never faster than the limit.
        seconds = elapsed / requests
        return left * (seconds if allowed is None else max(seconds, 1.0 / allowed))
