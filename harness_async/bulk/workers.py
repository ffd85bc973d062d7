"""The fetching side of a run over many projects: a feeder, a fixed crew of workers, and what they hand over.

    projects ──> feeder ──> refs ──> K workers ──> hands ──> the consumer's loop (`bulk`)
                        (queue of K)

A fixed crew of K workers takes projects from a lazy iterable, walks each project's list, and hands its pages over.
A worker that has handed a page over waits until the consumer is done with it before it reads the next one, so ten
thousand projects do not mean ten thousand tasks, and however slow the consumer is, no more pages are alive than the
crew's walks may hold: K times their width.

What became of a project travels behind its last page or with it: the project is complete when the consumer has taken
its rows, not when they were fetched.

A failure is the outcome of its own project. What concerns all of them ends the run: a refused key, projects that
cannot be listed, a broken iterable, and with `on_error="raise"` the first failure.

The module knows no resource: it walks whatever list it is given for a project.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from attrs import define, evolve, field, frozen

from harness_async.bulk.checkpoint import CheckpointPlan
from harness_async.bulk.models import (
    LimitedBy,
    OutcomeStatus,
    Plan,
    Progress,
    ProjectOutcome,
    ProjectRef,
    Projects,
    as_ref,
)
from harness_async.errors import (
    APIStatusError,
    AuthenticationError,
    BudgetError,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
)
from harness_async.pagination.pager import ListEstimate, Listing, ListWalk, Pager, Walk

T = TypeVar("T")

OnError: TypeAlias = Literal["collect", "raise"]

MAX_PREFETCH = 8
"""Pages of one project under way at once, at most: more than hide the latency only take the pace from the others."""

SAME_REFUSALS = 20
"""Projects that come first and are all refused alike before the run is given up: it is the key or an argument then, and
the other ten thousand would be refused too."""


@frozen(kw_only=True, eq=False, repr=False)
class BulkSpec(Generic[T]):
    """What a run is to do."""

    open_list: Callable[[ProjectRef, int | None], Listing[T]]
    """Makes the list of a project, up to a frozen end of the whole run if there is one."""

    projects: Projects
    bottleneck: Callable[[], LimitedBy]
    """Says what holds requests back at this moment."""

    rate: Callable[[], float | None] = lambda: None
    """Says how many requests a second the limit allows at this moment, if there is one."""

    concurrency: int = 32
    max_in_flight: int = 32
    """Requests under way at once, which the projects at hand share."""

    max_requests: int | None = None
    on_error: OnError = "collect"
    on_progress: Callable[[Progress], None] | None = None
    checkpoint: CheckpointPlan | None = None
    unlisted: dict[str, HarnessError]
    """Filled by whoever lists the projects: organizations that could not be."""


@define(eq=False, repr=False)
class Batch(Generic[T]):
    """What a worker hands over: rows of a project, what became of it, or both. Then it waits for `taken`."""

    rows: Sequence[T]
    outcome: ProjectOutcome | None
    taken: asyncio.Future[None]


class Hands(Generic[T]):
    """What the workers hand over and the one consumer has not taken: at most one thing of each, and None at the end."""

    def __init__(self) -> None:
        self._hands: deque[Batch[T] | None] = deque()
        self._wanted: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._hands)

    def put(self, hand: Batch[T] | None) -> None:
        """Hand something over."""
        self._hands.append(hand)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def get(self) -> Batch[T] | None:
        """Wait for the next thing."""
        while not self._hands:
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return self._hands.popleft()


@frozen(eq=False, repr=False)
class _Looked(Generic[T]):
    """A project whose first page was asked for ahead of the run."""

    walk: ListWalk[T]
    found: ListEstimate | HarnessError

    @property
    def left(self) -> int:
        """Requests that reading it still takes."""
        return self.walk.left if isinstance(self.found, ListEstimate) else 0


@define(eq=False, repr=False)
class _Refusals:
    """What the first projects were refused with; None from the first that could be read: then the key is good."""

    _kinds: Counter[tuple[type[HarnessError], str | None]] | None = field(factory=Counter)

    def record_success(self) -> None:
        """Note a project that could be read."""
        self._kinds = None

    def are_hopeless(self, error: HarnessError) -> bool:
        """Count a refusal, and say when they are too many to be the projects' own."""
        if self._kinds is None:
            return False
        self._kinds[(type(error), getattr(error, "code", None))] += 1
        is_refusal = isinstance(error, APIStatusError) and error.status < 500  # noqa: PLR2004
        return is_refusal and len(self._kinds) == 1 and self._kinds.total() >= SAME_REFUSALS


class WorkerPool(Generic[T]):
    """Feeder and workers. One task runs `survey`, if at all, then `work`."""

    def __init__(self, spec: BulkSpec[T], outcomes: dict[ProjectRef, ProjectOutcome]) -> None:
        """Work on a job; `outcomes` gets the projects as they are met, and has those that are not to be asked for."""
        self.spec = spec
        self.end: int | None = None
        """Frozen end of the windows of the whole run."""

        self.hands: Hands[T] = Hands()
        self.walks: dict[ProjectRef, ListWalk[T]] = {}
        """Of the projects at hand, up to when the consumer has taken all of them."""

        self.listed: bool = False
        """Whether all projects are known."""

        self.fetching: int = 0
        """Projects that are being read."""

        self.looked: int = 0
        """Projects whose first page was asked for by `survey`."""

        self._outcomes = outcomes
        self._met = self._begun = 0  # projects given to the workers, and begun by them
        self._listing: Walk[Any] | None = None
        self._refusals = _Refusals()
        self._surveyed = False  # whether there was a survey
        self._waiting: dict[ProjectRef, _Looked[T]] = {}  # projects looked at and not begun
        self._sent_ahead = self._left = 0  # of those: requests made, and requests still to make

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        """Requests made for the list of projects, for those at hand and for those that were looked at."""
        listing = 0 if self._listing is None else self._listing.report.requests
        return listing + self._sent_ahead + sum(walk.report.requests for walk in self.walks.values())

    def requests_left(self, mean: float) -> float:
        """Estimate the requests that are still to be made, `mean` for each project that nothing is known of."""
        at_hand = sum(walk.left for walk in self.walks.values())
        return at_hand + (self._left if self._surveyed else (self._met - self._begun) * mean)

    def _least(self) -> int:
        """Count the requests that the run takes at least: those made, those known of, one for each unseen project."""
        return self.requests + self._left + self._met - self.looked

    def make_plan(self) -> Plan:
        """Say what is known of the run by now; all of it after `survey`."""
        found = [looked.found for looked in self._waiting.values() if isinstance(looked.found, ListEstimate)]
        return Plan(
            projects=self._met,
            failed=len(self._waiting) - len(found),
            rows=sum(fetch_first_page.rows or 0 for fetch_first_page in found),
            uncounted=sum(fetch_first_page.rows is None for fetch_first_page in found),
            requests=self._least(),
            made=self.requests,
            rate=self.spec.rate(),
        )

    # -- the work ------------------------------------------------------------------------------------------------

    async def estimate_all(self, tell: Callable[[], None]) -> None:
        """Ask for the first page of every project and keep it; `tell` is called after each.

        Raises:
            BudgetError: The run turns out to take more requests than it may.
        """

        async def look(ref: ProjectRef) -> None:
            self._check_budget()
            looked = await self._estimate_project(ref)
            self._waiting[ref] = looked
            self.looked += 1
            self._sent_ahead += looked.walk.report.requests
            self._left += looked.left
            tell()

        await self._together(self._discover_projects(), look)
        self._check_budget()
        self._surveyed = True

    async def work(self) -> None:
        """Read every project and hand over what comes."""
        refs = _each(tuple(self._waiting)) if self._surveyed else self._discover_projects()
        await self._together(refs, self._process_project)

    async def _together(self, refs: AsyncIterator[ProjectRef], work: Callable[[ProjectRef], Awaitable[None]]) -> None:
        """Let K workers work on projects as they become known; the first error ends all of it and is raised."""
        # Projects that we list ourselves may run ahead: they are small, and only when all are known can anybody say
        # how long the rest will take. What a caller's iterable does is the caller's, so that one is taken as needed.
        prefetch = 0 if isinstance(self.spec.projects, Pager | Sequence) else self.spec.concurrency
        queue: asyncio.Queue[ProjectRef | None] = asyncio.Queue(prefetch)

        async def receive() -> None:
            async for ref in refs:
                await queue.put(ref)
            self.listed = True
            for _ in range(self.spec.concurrency):
                await queue.put(None)

        async def worker() -> None:
            while (ref := await queue.get()) is not None:
                await work(ref)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(receive())
                for _ in range(self.spec.concurrency):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _discover_projects(self) -> AsyncIterator[ProjectRef]:
        """Give the projects, each once, as they become known."""
        async for ref in self._iterate():
            if ref not in self._outcomes:
                self._outcomes[ref] = ProjectOutcome(project=ref)
                self._met += 1
                yield ref

    async def _iterate(self) -> AsyncIterator[ProjectRef]:
        projects = self.spec.projects
        if isinstance(projects, Pager):
            self._listing = walk = projects.walk()
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

    async def _estimate_project(self, ref: ProjectRef) -> _Looked[T]:
        walk = self.spec.open_list(ref, self.end).walk()
        try:
            found: ListEstimate | HarnessError = await walk.fetch_first_page()
            self._refusals.record_success()
        except HarnessError as error:
            self._consider(error)
            found = error
        return _Looked(walk, found)

    async def _process_project(self, ref: ProjectRef) -> None:
        """Read one project and hand over its pages; its failure becomes its outcome."""
        self._begun += 1
        looked = self._waiting.pop(ref, None)
        if looked is None:
            walk = self.walks[ref] = self.spec.open_list(ref, self.end).walk()
        else:
            walk = self.walks[ref] = looked.walk
            self._sent_ahead -= walk.report.requests
            self._left -= looked.left
            if isinstance(looked.found, HarnessError):
                await self._hand_over((), self._failed(ref, walk, looked.found))
                return
        self._rebalance_prefetch(1)
        try:
            await self._read(ref, walk)
        finally:
            self._rebalance_prefetch(-1)

    async def _read(self, ref: ProjectRef, walk: ListWalk[T]) -> None:
        outcome: ProjectOutcome | None = None
        try:
            async with walk:
                while outcome is None:
                    page = await walk.next_page()
                    rows: Sequence[T] = () if page is None else page.items
                    if page is None or walk.is_over:
                        outcome = self._complete(ref, walk)
                    if rows or outcome is not None:
                        await self._hand_over(rows, outcome)
                    del page, rows  # not alive any more while the next one is fetched
        except HarnessError as error:
            self._consider(error)
            await self._hand_over((), self._failed(ref, walk, error))

    async def _hand_over(self, rows: Sequence[T], outcome: ProjectOutcome | None) -> None:
        """Give the consumer something and wait until it is done with that."""
        taken = asyncio.get_running_loop().create_future()
        self.hands.put(Batch(rows, outcome, taken))
        await taken

    def _complete(self, ref: ProjectRef, walk: ListWalk[T]) -> ProjectOutcome:
        self._refusals.record_success()
        report = walk.report
        return evolve(pending(ref, walk), status="complete", consistency=report.consistency, window=report.window)

    def _failed(self, ref: ProjectRef, walk: ListWalk[T], error: HarnessError) -> ProjectOutcome:
        return evolve(pending(ref, walk), status=status_of(error), error=error)

    def _check_budget(self) -> None:
        """Raise `BudgetError` if the run is known to take more requests than it may."""
        most, least = self.spec.max_requests, self._least()
        if most is not None and least > most:
            error = BudgetError(f"The run would take at least {least:,} requests, more than max_requests={most:,}")
            error.plan = self.make_plan()
            raise error

    def _consider(self, error: HarnessError) -> None:
        """Raise the error of a project if it concerns the run."""
        everyone = isinstance(error, AuthenticationError) or self.spec.on_error == "raise"
        if everyone or self._refusals.are_hopeless(error):
            raise error

    def _rebalance_prefetch(self, more: int) -> None:
        """Note a project begun or done with, and share the places out anew: none or several pages ahead for each.

        While many projects are at work each asks for a page at a time, so that a huge one does not take the pace from
        the small ones; when it is left alone it gets what the others had.
        """
        self.fetching += more
        share, rest = divmod(self.spec.max_in_flight, max(1, self.fetching))
        for number, walk in enumerate(self.walks.values()):
            pages = min(MAX_PREFETCH, share + (number < rest))  # what cannot be shared evenly goes to the oldest
            walk.prefetch = pages if pages > 1 else 0


async def _each(refs: Iterable[ProjectRef]) -> AsyncIterator[ProjectRef]:
    for ref in refs:
        yield ref


def pending(ref: ProjectRef, walk: ListWalk[Any]) -> ProjectOutcome:
    """Make the outcome, so far, of a project that is being read."""
    report = walk.report
    return ProjectOutcome(project=ref, rows=report.rows, requests=report.requests, retries=walk.retries)


def status_of(error: HarnessError) -> OutcomeStatus:
    """Say which outcome an error is."""
    if isinstance(error, PermissionDeniedError):
        return "denied"
    return "not_found" if isinstance(error, NotFoundError) else "failed"
