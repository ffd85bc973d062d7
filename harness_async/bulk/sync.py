"""Incremental sync: the rows of many projects that are new since the last time, and those whose status has changed.

For each project the state keeps the time up to which it was read (`through`) and the unfinished rows with their last
status. The next window begins at `through` minus an overlap, for rows that appear late. Unfinished rows from before
that are refreshed, or read by a window that begins with the oldest of them, whichever takes fewer requests. Rows are
upserts: new ones, and known ones whose status has changed.

The state of a project moves only when its window was read to the end and the consumer has taken its rows, and never
beyond a time that has passed for certain by the server's clock. A sync that is repeated from an older state delivers
the same rows again and loses none.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import define, evolve, field, frozen

from harness_async.bulk.models import ProjectOutcome
from harness_async.bulk.run import BulkRun
from harness_async.bulk.workers import BulkSpec, WorkerBatch
from harness_async.pagination.pager import Pager
from harness_async.pagination.source import ListEstimate, Page, WalkReport
from harness_async.pagination.walk import Walk
from harness_async.types import ProjectRef, ref_from_text, ref_to_text

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async.bulk")

RowIds: TypeAlias = tuple[str, ...]
"""The ids of a row within its project."""

_VERSION = 2
_OLDEST_VERSION = 1

MAX_CHECKS = 20
"""Syncs that check a row whose status is an unknown word, which may be final, before it counts as finished."""


@frozen(kw_only=True)
class UnfinishedRow:
    """A row that may still change.

    Attributes:
        created: When it was created, in milliseconds since 1970.
        status: Its status when it was last read.
        checks: How often it was found unchanged.
    """

    created: int
    status: str = ""
    checks: int = 0


@frozen(kw_only=True)
class ProjectState:
    """How far one project was read.

    Attributes:
        through: End of the last complete window, in milliseconds since 1970.
        unfinished: Rows that may still change.
        newer: Rows that are not older than the oldest unfinished one: the cost of a window that begins there.
        newest: When the newest row that was read was created.
    """

    through: int
    unfinished: Mapping[RowIds, UnfinishedRow] = field(factory=dict[RowIds, UnfinishedRow])
    newer: int = 0
    newest: int | None = None


@frozen(kw_only=True)
class SyncState:
    """The state between two syncs: plain data, for the caller to store.

    Attributes:
        owner: Host, account and filters, which have to stay the same.
        projects: The state of each project.
    """

    owner: str = ""
    projects: Mapping[ProjectRef, ProjectState] = field(factory=dict[ProjectRef, ProjectState])

    def to_json(self) -> str:
        """Serialize the state as JSON. It does not contain the key."""
        projects = {
            ref_to_text(ref): {
                "through": state.through,
                "unfinished": [[*ids, row.created, row.status, row.checks] for ids, row in state.unfinished.items()],
                "newer": state.newer,
                "newest": state.newest,
            }
            for ref, state in self.projects.items()
        }
        return json.dumps({"version": _VERSION, "owner": self.owner, "projects": projects})

    @classmethod
    def from_json(cls, text: str) -> SyncState:
        """Parse a state, of this version or the one before.

        Raises:
            ValueError: The text is not a state, or one of a newer version.
        """
        try:
            data = json.loads(text)
            version, owner = data["version"], data["owner"]
            if version not in {_OLDEST_VERSION, _VERSION} or not isinstance(owner, str):
                raise ValueError(f"version {version!r}; this library reads version {_VERSION}")  # noqa: TRY301
            projects = {ref_from_text(name): _parse_state(state, version) for name, state in data["projects"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"not the state of a sync: {reason}") from error
        return cls(owner=owner, projects=projects)


def _parse_state(state: Mapping[str, Any], version: int) -> ProjectState:
    unfinished: dict[RowIds, UnfinishedRow] = {}
    for row in state["unfinished"]:
        if version == _OLDEST_VERSION:
            *ids, created = row
            unfinished[_check_ids(ids)] = UnfinishedRow(created=_check_int(created))
        else:
            *ids, created, status, checks = row
            unfinished[_check_ids(ids)] = UnfinishedRow(
                created=_check_int(created), status=_check_ids([status])[0], checks=_check_int(checks)
            )
    newest = state.get("newest")
    return ProjectState(
        through=_check_int(state["through"]),
        unfinished=unfinished,
        newer=_check_int(state["newer"]),
        newest=None if newest is None else _check_int(newest),
    )


def _check_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not an integer")
    return value


def _check_ids(values: Sequence[object]) -> RowIds:
    if not values or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} are not ids")
    return tuple(map(str, values))


@frozen(kw_only=True, eq=False)
class SyncSpec(Generic[T]):
    """What a sync needs to know about the rows of a list."""

    open_list: Callable[[ProjectRef, int | None], Pager[T]]
    """Opens the list of a project from a time on, up to the server's present time."""

    refresh: Callable[[ProjectRef, Sequence[RowIds]], Awaitable[tuple[Sequence[T], int]]]
    """Fetches some of these rows, the first ones, and returns those that still exist, and the number of requests."""

    refresh_size: int = 1
    """Rows that `refresh` fetches at a time."""

    latest: Callable[[], int]
    """Returns the latest time that the server may have, in milliseconds since 1970."""

    ids: Callable[[T], RowIds]
    created: Callable[[T], int]
    status: Callable[[T], str]
    is_finished: Callable[[T], bool]
    """Whether a row will not change any more, as far as is known."""

    is_known: Callable[[T], bool] = lambda _row: True
    """Whether the status is a known word; a row with another one is checked `MAX_CHECKS` times at most."""

    overlap: int
    """Milliseconds by which windows overlap, for rows that appear late."""

    limit: int = 100


def choose_start(before: ProjectState, overlap: int, limit: int, refresh_size: int = 1) -> int:
    """Choose the start of a window: the last end minus the overlap, or the oldest unfinished row.

    The latter where it takes no more additional pages than the requests for single rows that it saves.
    """
    start = before.through - overlap
    early = [row.created for row in before.unfinished.values() if row.created < start]
    additional_pages = max(0, -(-before.newer // limit) - 1)
    return min(early) if early and additional_pages < -(-len(early) // refresh_size) else start


def pull_back(before: ProjectState | None, latest: int) -> ProjectState | None:
    """Correct a state that lies in the future, because a clock was wrong when it was written.

    It is pulled back to the newest row that was read, which the server's own clock has stamped. Where that is not
    known, or lies in the future too, the project is read from the beginning.
    """
    if before is None or before.through <= latest:
        return before
    logger.warning("the state of a sync lies %d s in the future; reading again", (before.through - latest) // 1000)
    if before.newest is None or before.newest > latest:
        return None
    return evolve(before, through=before.newest)


@define(eq=False)
class SyncReader(Pager[T]):
    """The rows of one project that are new since a state."""

    spec: SyncSpec[T]
    ref: ProjectRef
    before: ProjectState | None
    start: int | None
    """Start of the window of a project without a state."""

    def walk(self) -> SyncWalk[T]:
        """Create a walk."""
        return SyncWalk(self)

    async def count(self) -> int | None:
        """Return None: the number of new rows is not known before they are read."""
        return None


class SyncWalk(Walk[T]):
    """Reads the window of one project, then the unfinished rows from before it."""

    expected_requests: int

    def __init__(self, reader: SyncReader[T]) -> None:
        super().__init__()
        spec = self._spec = reader.spec
        self._ref = reader.ref
        self._before = before = pull_back(reader.before, spec.latest())
        self._start = reader.start
        if before is not None:
            self._start = choose_start(before, spec.overlap, spec.limit, spec.refresh_size)
        self._window = spec.open_list(self._ref, self._start).walk()
        self._to_refresh: dict[RowIds, UnfinishedRow] = {} if reader.before is None else dict(reader.before.unfinished)
        self._unfinished: dict[RowIds, UnfinishedRow] = {}
        self._times: list[int] = []
        self._window_done = False
        self._refreshed: int = 0

    @property
    def report(self) -> WalkReport:
        """What the window guarantees, and the cost of window and refreshes."""
        window = self._window.report
        return evolve(window, requests=self.requests + window.requests, rows=window.rows + self._refreshed)

    @property
    def is_done(self) -> bool:
        """Whether everything was read, so that the next page is None."""
        return self._window_done and not self._to_refresh

    async def fetch_first_page(self) -> ListEstimate:
        """Request the first page of the window and keep it. Rows to refresh take further requests."""
        estimate = await self._window.fetch_first_page()
        old = sum(self._start is not None and row.created < self._start for row in self._to_refresh.values())
        self.expected_requests = estimate.requests + -(-old // self._spec.refresh_size)
        return ListEstimate(rows=estimate.rows, requests=self.expected_requests)

    async def next_page(self) -> Page[T] | None:
        """Return the next page of the window, then the unfinished rows from before it."""
        while not self._window_done:
            self._window.prefetch = self.prefetch
            page = await self._window.next_page()
            self._window_done = page is None or self._window.is_done
            if page is None:
                break
            items = [row for row in page.items if self._is_news(row)]
            self.expected_requests = self._window.expected_requests + -(
                -len(self._to_refresh) // self._spec.refresh_size
            )
            if items:
                return Page(items=items, number=page.number, size=page.size, total_items=page.total_items)
        while self._to_refresh:
            rows = await self._refresh()
            if rows:
                self._refreshed += len(rows)
                return Page(items=rows, number=0, size=len(rows))
        return None

    def _is_news(self, row: T) -> bool:
        """Record a row of the window; return whether it is new, may be late, or has changed."""
        spec, before = self._spec, self._before
        ids, created = spec.ids(row), spec.created(row)
        self._times.append(created)
        last = self._to_refresh.pop(ids, None)
        if last is not None:
            return self._has_changed(ids, row, last)
        self._keep_if_unfinished(ids, row, 0)
        # A row whose time is missing (0) may be new.
        return before is None or not created or created >= before.through - spec.overlap

    def _has_changed(self, ids: RowIds, row: T, last: UnfinishedRow) -> bool:
        # A state of an older version does not hold the status, only that there was no outcome.
        changed = self._spec.status(row) != last.status if last.status else self._spec.is_finished(row)
        self._keep_if_unfinished(ids, row, 0 if changed else last.checks + 1)
        return changed

    def _keep_if_unfinished(self, ids: RowIds, row: T, checks: int) -> None:
        spec = self._spec
        if not spec.is_finished(row) and (spec.is_known(row) or checks < MAX_CHECKS):
            self._unfinished[ids] = UnfinishedRow(created=spec.created(row), status=spec.status(row), checks=checks)

    async def _refresh(self) -> Sequence[T]:
        """Fetch some rows that were unfinished; return those that have changed."""
        wanted = [*self._to_refresh][: self._spec.refresh_size]
        try:
            rows, requests = await self._spec.refresh(self._ref, wanted)
        except ValueError:  # an id of the server that cannot stand in a path
            self._keep_unrequestable(wanted)
            return ()
        self.count_requests(requests)
        lasts = {ids: self._to_refresh.pop(ids) for ids in wanted}
        return [
            row for row in rows if (ids := self._spec.ids(row)) in lasts and self._has_changed(ids, row, lasts[ids])
        ]

    def _keep_unrequestable(self, wanted: Sequence[RowIds]) -> None:
        """Keep rows whose ids cannot be requested for a while: a window that reaches back to them shows them."""
        for ids in wanted:
            row = self._to_refresh.pop(ids)
            if row.checks < MAX_CHECKS:
                self._unfinished[ids] = evolve(row, checks=row.checks + 1)

    @property
    def after(self) -> ProjectState | None:
        """The state of the project for the next sync; None until it was read to the end."""
        window = self._window.report.window
        before = self._before
        newest = max(self._times, default=None if before is None else before.newest)
        # Without a trustworthy clock, what was read proves how far the list was read.
        end = newest if window is None or window.end is None else window.end
        if not self.is_done or (end is None and before is None):
            return None
        through = max(each for each in (end, None if before is None else before.through) if each is not None)
        newer = 0
        if self._unfinished:
            oldest = min(row.created for row in self._unfinished.values())
            newer = sum(time >= oldest for time in self._times)
            if before is not None and self._start is not None and oldest < self._start:
                newer += before.newer
        return ProjectState(through=through, unfinished=self._unfinished, newer=newer, newest=newest)

    async def aclose(self) -> None:
        """End the walk and wait until none of its requests is in flight. May be called twice."""
        await self._window.aclose()


class SyncRun(BulkRun[T]):
    """A bulk run over the rows that are new since a state; `state` is the one for the next time.

    Used as a `BulkRun`: `async with`, then iterate. `state` can be read at any time: projects that are not complete
    keep their last state.
    """

    def __init__(self, spec: BulkSpec[T], before: SyncState, *, all_projects: bool) -> None:
        """Create a run; users call `sync` of a resource.

        Args:
            spec: What to read; its lists are `SyncReader`.
            before: The state of the last sync.
            all_projects: Whether the run reads every project that the key can see.
        """
        super().__init__(spec)
        self._before = before
        self._all_projects = all_projects
        self._after: dict[ProjectRef, ProjectState] = dict(before.projects)

    async def _close_project(self, batch: WorkerBatch[T], outcome: ProjectOutcome) -> None:
        await super()._close_project(batch, outcome)
        walk: Any = batch.walk
        if outcome.status == "complete" and walk.after is not None:
            self._after[outcome.project] = walk.after

    @property
    def appeared(self) -> tuple[ProjectRef, ...]:
        """Projects that are not in the last state."""
        return tuple(ref for ref in self._pool.discovered if ref not in self._before.projects)

    @property
    def vanished(self) -> tuple[ProjectRef, ...]:
        """Projects of the last state that the key does not see any more.

        () until all projects are listed, and where the list of projects is not proved to be complete.
        """
        pool = self._pool
        is_certain = self._all_projects and pool.discovery_done and pool.discovery != "best_effort"
        if not is_certain or self.spec.unlisted:
            return ()
        return tuple(ref for ref in self._before.projects if ref not in pool.discovered)

    @property
    def state(self) -> SyncState:
        """The state for the next sync, without the projects that vanished."""
        gone = set(self.vanished)
        projects = {ref: state for ref, state in self._after.items() if ref not in gone}
        return SyncState(owner=self._before.owner, projects=projects)
