"""Incremental sync: what is new in many projects since the last time, and what was unfinished then.

For each project the state keeps the moment up to which it was read (`through`) and the rows that had no outcome yet.
The next window begins at `through` less an overlap, for rows that appear late; rows without an outcome that lie before
it are refreshed one by one, or by a window that begins with the oldest of them, whichever takes fewer requests. Rows
come as upserts: new ones, and known ones again, whose status may have changed.

A project's state moves only when its window was read to the end and the consumer has taken its rows. What the caller
stores is plain data; a sync that is repeated from an older state brings the same rows again and loses none.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import field, frozen

from harness_async.bulk.models import ProjectOutcome, ProjectRef
from harness_async.bulk.run import BulkRun
from harness_async.bulk.workers import BulkSpec
from harness_async.errors import NotFoundError
from harness_async.pagination.pager import ListEstimate, Listing, ListWalk, Page, Pager, WalkReport

T = TypeVar("T")

Ids: TypeAlias = tuple[str, str]
"""What names a row within its project."""

_VERSION = 1


@frozen(kw_only=True)
class ProjectState:
    """How far one project was read."""

    through: int
    """End of the last complete window, in milliseconds since 1970."""

    unfinished: Mapping[Ids, int] = field(factory=dict[Ids, int])
    """Rows that had no outcome then, and when they were created."""

    newer: int = 0
    """Rows read that are not older than the oldest of these: what a window that begins there costs."""


@frozen(kw_only=True)
class SyncState:
    """What a sync leaves for the next one: plain data, for the caller to store."""

    owner: str = ""
    """Host, account and filters; a state goes with them."""

    projects: Mapping[ProjectRef, ProjectState] = field(factory=dict[ProjectRef, ProjectState])

    def to_json(self) -> str:
        """Write the state as JSON; the key is not in it."""
        projects = {
            str(ref): {
                "through": one.through,
                "unfinished": [[*ids, created] for ids, created in one.unfinished.items()],
                "newer": one.newer,
            }
            for ref, one in self.projects.items()
        }
        return json.dumps({"version": _VERSION, "owner": self.owner, "projects": projects})

    @classmethod
    def from_json(cls, text: str) -> SyncState:
        """Read a state.

        Raises:
            ValueError: It is no state, or one of a newer version.
        """
        try:
            data = json.loads(text)
            version = data["version"]
            projects = {
                ProjectRef.parse(name): ProjectState(
                    through=_whole(one["through"]),
                    unfinished={(str(run), str(stage)): _whole(created) for run, stage, created in one["unfinished"]},
                    newer=_whole(one["newer"]),
                )
                for name, one in data["projects"].items()
            }
            owner = data["owner"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a sync: {error}") from error
        if version != _VERSION or not isinstance(owner, str):
            raise ValueError(f"a state of version {version!r}; this library reads {_VERSION}")
        return cls(owner=owner, projects=projects)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


@frozen(kw_only=True, eq=False, repr=False)
class Rows(Generic[T]):
    """What a sync needs to know of the rows of a list."""

    open_list: Callable[[ProjectRef, int | None], Listing[T]]
    """Makes the list of a project from a moment on, up to the server's now."""

    refresh: Callable[[ProjectRef, Ids], Awaitable[T]]
    ids: Callable[[T], Ids]
    created: Callable[[T], int]
    is_finished: Callable[[T], bool]
    overlap: int
    """Milliseconds to go back for rows that appear late."""

    limit: int = 100


class SyncPager(Pager[T]):
    """The list of what is new in one project."""

    def __init__(self, rows: Rows[T], ref: ProjectRef, before: ProjectState | None, start: int | None) -> None:
        self.rows = rows
        self.ref = ref
        self.before = before
        self.start = start

    def walk(self) -> SyncWalk[T]:
        """Make a walk to be used with `async with`."""
        return SyncWalk(self)

    async def count(self) -> int | None:
        """Nobody can say without reading."""
        return None


def choose_start(before: ProjectState, overlap: int, limit: int) -> int:
    """Choose where a window begins: at the last end less the overlap, or at the oldest row without an outcome.

    The latter where the pages it takes more are no more than the single requests it saves.
    """
    start = before.through - overlap
    early = [created for created in before.unfinished.values() if created < start]
    more_pages = max(0, -(-before.newer // limit) - 1)
    return min(early) if early and more_pages < len(early) else start


class SyncWalk(ListWalk[T]):
    """One project's window, then what was unfinished and lies before it."""

    def __init__(self, pager: SyncPager[T]) -> None:
        super().__init__()
        self._pager = pager
        before = pager.before
        rows = pager.rows
        self._start = pager.start if before is None else choose_start(before, rows.overlap, rows.limit)
        self._inner = rows.open_list(pager.ref, self._start).walk()
        self._left: dict[Ids, int] = {} if before is None else dict(before.unfinished)
        self._unfinished: dict[Ids, int] = {}
        self._times: list[int] = []
        self._window_read = False
        self._refreshed: int = 0

    @property
    def report(self) -> WalkReport:
        """What the window guarantees, and what it and the refreshes cost."""
        inner = self._inner.report
        return WalkReport(
            consistency=inner.consistency,
            requests=self.requests + inner.requests,
            pages=inner.pages,
            rows=inner.rows + self._refreshed,
            duplicates=inner.duplicates,
            window=inner.window,
        )

    @property
    def is_over(self) -> bool:
        """Whether all has been read, so that the next page is None."""
        return self._window_read and not self._left

    async def fetch_first_page(self) -> ListEstimate:
        """Ask for the first page of the window now and keep it; rows to refresh take a request each."""
        window = await self._inner.fetch_first_page()
        old = sum(self._start is not None and created < self._start for created in self._left.values())
        self.expect(window.requests + old)
        return ListEstimate(rows=window.rows, requests=self.expected)

    async def next_page(self) -> Page[T] | None:
        """Wait for the next page of the window, then for rows without an outcome, one by one."""
        while not self._window_read:
            self._inner.prefetch = self.prefetch
            page = await self._inner.next_page()
            self._window_read = page is None or self._inner.is_over
            if page is None:
                break
            news = [row for row in page.items if self._note(row)]
            self.expect(self._inner.expected + len(self._left))
            if news:
                return Page(items=news, number=page.number, size=page.size, total_items=page.total_items)
        while self._left:
            changed = await self._refresh()
            if changed is not None:
                return Page(items=[changed], number=0, size=1)
        return None

    def _note(self, row: T) -> bool:
        """Note a row of the window, and tell whether it is news: new, perhaps late, or unfinished until now."""
        rows, before = self._pager.rows, self._pager.before
        ids, created = rows.ids(row), rows.created(row)
        was_unfinished = self._left.pop(ids, None) is not None
        self._times.append(created)
        if not rows.is_finished(row):
            self._unfinished[ids] = created
            if was_unfinished:
                return False
        return before is None or was_unfinished or created >= before.through - rows.overlap

    async def _refresh(self) -> T | None:
        """Look at one row that was unfinished; give it if it has an outcome now."""
        ids, created = next(iter(self._left.items()))
        try:
            row = await self._pager.rows.refresh(self._pager.ref, ids)
        except NotFoundError as error:
            del self._left[ids]
            self.count_sends(len(error.attempts))
            return None
        del self._left[ids]
        self.count_sends(1)
        if not self._pager.rows.is_finished(row):
            self._unfinished[ids] = created
            return None
        self._refreshed += 1
        return row

    @property
    def after(self) -> ProjectState | None:
        """The state of the project for the next time; None as long as it was not read to the end."""
        window = self._inner.report.window
        if not self._window_read or self._left or window is None or window[1] is None:
            return None
        newer = 0
        if self._unfinished:
            oldest = min(self._unfinished.values())
            newer = sum(time >= oldest for time in self._times)
            before = self._pager.before
            if before is not None and self._start is not None and oldest < self._start:
                newer += before.newer
        return ProjectState(through=window[1], unfinished=self._unfinished, newer=newer)

    async def aclose(self) -> None:
        """End the walk and wait until nothing of it is under way. May be called twice."""
        await self._inner.aclose()


class SyncRun(BulkRun[T]):
    """A bulk run over what is new since a state; `state` is the one for the next time.

    Used as a `BulkRun`: `async with`, then iterate. `state` may be read at any time: of projects that are not
    complete it has what the last state had.
    """

    def __init__(self, spec: BulkSpec[T], before: SyncState, owner: str, *, whole: bool) -> None:
        super().__init__(spec)
        self._before = before
        self._owner = owner
        self._whole = whole
        self._after: dict[ProjectRef, ProjectState] = dict(before.projects)

    async def _close_project(self, outcome: ProjectOutcome) -> None:
        walk: Any = self._pool.walks[outcome.project]
        await super()._close_project(outcome)
        if outcome.status == "complete" and walk.after is not None:
            self._after[outcome.project] = walk.after

    @property
    def appeared(self) -> tuple[ProjectRef, ...]:
        """Projects that the last state did not have."""
        return tuple(ref for ref in self._outcomes if ref not in self._before.projects)

    @property
    def vanished(self) -> tuple[ProjectRef, ...]:
        """Projects of the last state that the key does not see any more; () until all projects are listed."""
        if not (self._whole and self._pool.listed) or self._spec.unlisted:
            return ()
        return tuple(ref for ref in self._before.projects if ref not in self._outcomes)

    @property
    def state(self) -> SyncState:
        """The state for the next time, without the projects that vanished."""
        gone = set(self.vanished)
        return SyncState(owner=self._owner, projects={ref: one for ref, one in self._after.items() if ref not in gone})
