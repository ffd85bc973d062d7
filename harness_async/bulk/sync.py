"""Incremental sync: the rows of many projects that are new since the last time, and those that were unfinished then.

For each project the state keeps the time up to which it was read (`through`) and the rows without an outcome. The next
window begins at `through` minus an overlap, for rows that appear late. Unfinished rows from before that are refreshed
one by one, or by a window that begins with the oldest of them, whichever takes fewer requests. Rows are upserts: new
ones, and known ones whose status may have changed.

The state of a project moves only when its window was read to the end and the consumer has taken its rows. A sync that
is repeated from an older state delivers the same rows again and loses none.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from harness_async.bulk.models import ProjectOutcome
from harness_async.bulk.run import BulkRun
from harness_async.bulk.workers import Batch, BulkSpec
from harness_async.errors import NotFoundError
from harness_async.pagination.pager import Pager
from harness_async.pagination.walk import ListEstimate, Page, Walk, WalkReport
from harness_async.types import ProjectRef

T = TypeVar("T")

RowIds: TypeAlias = tuple[str, str]
"""The ids of a row within its project."""

_VERSION = 1


@frozen(kw_only=True)
class ProjectState:
    """How far one project was read."""

    through: int
    """End of the last complete window, in milliseconds since 1970."""

    unfinished: Mapping[RowIds, int] = field(factory=dict[RowIds, int])
    """Rows that had no outcome, and when they were created."""

    newer: int = 0
    """Rows that are not older than the oldest unfinished one: the cost of a window that begins there."""


@frozen(kw_only=True)
class SyncState:
    """The state between two syncs: plain data, for the caller to store."""

    owner: str = ""
    """Host, account and filters, which have to stay the same."""

    projects: Mapping[ProjectRef, ProjectState] = field(factory=dict[ProjectRef, ProjectState])

    def to_json(self) -> str:
        """Serialize the state as JSON. It does not contain the key."""
        projects = {
            str(ref): {
                "through": state.through,
                "unfinished": [[*ids, created] for ids, created in state.unfinished.items()],
                "newer": state.newer,
            }
            for ref, state in self.projects.items()
        }
        return json.dumps({"version": _VERSION, "owner": self.owner, "projects": projects})

    @classmethod
    def from_json(cls, text: str) -> SyncState:
        """Parse a state.

        Raises:
            ValueError: The text is not a state, or one of a newer version.
        """
        try:
            data = json.loads(text)
            version = data["version"]
            projects = {
                ProjectRef.parse(name): ProjectState(
                    through=_check_int(state["through"]),
                    unfinished={(str(one), str(two)): _check_int(created) for one, two, created in state["unfinished"]},
                    newer=_check_int(state["newer"]),
                )
                for name, state in data["projects"].items()
            }
            owner = data["owner"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a sync: {error}") from error
        if version != _VERSION or not isinstance(owner, str):
            raise ValueError(f"a state of version {version!r}; this library reads version {_VERSION}")
        return cls(owner=owner, projects=projects)


def _check_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not an integer")
    return value


@frozen(kw_only=True, eq=False)
class SyncSpec(Generic[T]):
    """What a sync needs to know about the rows of a list."""

    open_list: Callable[[ProjectRef, int | None], Pager[T]]
    """Opens the list of a project from a time on, up to the server's present time."""

    refresh: Callable[[ProjectRef, RowIds], Awaitable[T]]
    """Fetches one row."""

    ids: Callable[[T], RowIds]
    created: Callable[[T], int]
    is_finished: Callable[[T], bool]
    overlap: int
    """Milliseconds by which windows overlap, for rows that appear late."""

    limit: int = 100


def choose_start(before: ProjectState, overlap: int, limit: int) -> int:
    """Choose the start of a window: the last end minus the overlap, or the oldest unfinished row.

    The latter where it takes no more additional pages than the single requests it saves.
    """
    start = before.through - overlap
    early = [created for created in before.unfinished.values() if created < start]
    additional_pages = max(0, -(-before.newer // limit) - 1)
    return min(early) if early and additional_pages < len(early) else start


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

    def __init__(self, reader: SyncReader[T]) -> None:
        super().__init__()
        self._spec, self._ref, self._before = reader.spec, reader.ref, reader.before
        before, spec = self._before, self._spec
        self._start = reader.start if before is None else choose_start(before, spec.overlap, spec.limit)
        self._window = spec.open_list(self._ref, self._start).walk()
        self._to_refresh: dict[RowIds, int] = {} if before is None else dict(before.unfinished)
        self._unfinished: dict[RowIds, int] = {}
        self._times: list[int] = []
        self._window_done = False
        self._refreshed: int = 0

    @property
    def report(self) -> WalkReport:
        """What the window guarantees, and the cost of window and refreshes."""
        window = self._window.report
        return WalkReport(
            guarantee=window.guarantee,
            requests=self.requests + window.requests,
            pages=window.pages,
            rows=window.rows + self._refreshed,
            duplicates=window.duplicates,
            window=window.window,
        )

    @property
    def is_done(self) -> bool:
        """Whether everything was read, so that the next page is None."""
        return self._window_done and not self._to_refresh

    async def fetch_first_page(self) -> ListEstimate:
        """Request the first page of the window and keep it. Each row to refresh takes one more request."""
        estimate = await self._window.fetch_first_page()
        old = sum(self._start is not None and created < self._start for created in self._to_refresh.values())
        self.expected_requests = estimate.requests + old
        return ListEstimate(rows=estimate.rows, requests=self.expected_requests)

    async def next_page(self) -> Page[T] | None:
        """Return the next page of the window, then the unfinished rows one by one."""
        while not self._window_done:
            self._window.prefetch = self.prefetch
            page = await self._window.next_page()
            self._window_done = page is None or self._window.is_done
            if page is None:
                break
            items = [row for row in page.items if self._is_news(row)]
            self.expected_requests = self._window.expected_requests + len(self._to_refresh)
            if items:
                return Page(items=items, number=page.number, size=page.size, total_items=page.total_items)
        while self._to_refresh:
            row = await self._refresh()
            if row is not None:
                return Page(items=[row], number=0, size=1)
        return None

    def _is_news(self, row: T) -> bool:
        """Record a row of the window; return whether it is new, may be late, or was unfinished until now."""
        spec, before = self._spec, self._before
        ids, created = spec.ids(row), spec.created(row)
        was_unfinished = self._to_refresh.pop(ids, None) is not None
        self._times.append(created)
        if not spec.is_finished(row):
            self._unfinished[ids] = created
            if was_unfinished:
                return False
        return before is None or was_unfinished or created >= before.through - spec.overlap

    async def _refresh(self) -> T | None:
        """Fetch one row that was unfinished; return it if it has an outcome now."""
        ids, created = next(iter(self._to_refresh.items()))
        try:
            row = await self._spec.refresh(self._ref, ids)
        except NotFoundError as error:
            del self._to_refresh[ids]
            self.count_requests(len(error.attempts))
            return None
        del self._to_refresh[ids]
        self.count_requests(1)
        if not self._spec.is_finished(row):
            self._unfinished[ids] = created
            return None
        self._refreshed += 1
        return row

    @property
    def after(self) -> ProjectState | None:
        """The state of the project for the next sync; None until it was read to the end."""
        window = self._window.report.window
        if not self.is_done or window is None or window.end is None:
            return None
        newer = 0
        if self._unfinished:
            oldest = min(self._unfinished.values())
            newer = sum(time >= oldest for time in self._times)
            if self._before is not None and self._start is not None and oldest < self._start:
                newer += self._before.newer
        return ProjectState(through=window.end, unfinished=self._unfinished, newer=newer)

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

    async def _close_project(self, batch: Batch[T], outcome: ProjectOutcome) -> None:
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
        """Projects of the last state that the key does not see any more; () until all projects are listed."""
        if not (self._all_projects and self._pool.discovery_done) or self.spec.unlisted:
            return ()
        return tuple(ref for ref in self._before.projects if ref not in self._pool.discovered)

    @property
    def state(self) -> SyncState:
        """The state for the next sync, without the projects that vanished."""
        gone = set(self.vanished)
        projects = {ref: state for ref, state in self._after.items() if ref not in gone}
        return SyncState(owner=self._before.owner, projects=projects)
