"""Creates bulk runs from any list: what the `bulk` methods of all resources have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, get_args

from attrs import frozen

from harness_async.bulk.checkpoint import CheckpointSpec, Identity
from harness_async.bulk.models import Progress
from harness_async.bulk.run import BulkRun
from harness_async.bulk.sync import SyncReader, SyncRun, SyncSpec, SyncState
from harness_async.bulk.workers import BulkSpec
from harness_async.errors import HarnessError
from harness_async.http.session import Session
from harness_async.pagination.pager import Pager
from harness_async.types import Consistency, OnError, ProjectRef, Projects, TimeWindow, check_projects
from harness_async.validation import check_choice, check_int

T = TypeVar("T")


class BulkOptions(TypedDict, total=False):
    """The options that the `bulk` methods of all resources share."""

    concurrency: int
    """Projects that are read at a time (default 32). Requests are paced and limited by the client."""

    on_error: OnError
    """`collect` (default) makes a failure the outcome of its project; `raise` ends the run at the first failure."""

    checkpoint: str | os.PathLike[str] | None
    """A file that stores what the run has finished. A run with the same path and arguments continues where the last one
    stopped, up to the same time: a project whose rows were all taken is neither requested nor delivered again. The file
    is written in a thread."""

    checkpoint_lock: bool
    """Lock the checkpoint against other processes (default); False for file systems without locks."""

    on_progress: Callable[[Progress], None] | None
    """Called with the `Progress` at most ten times a second, in the loop of the client."""

    max_requests: int | None
    """Refuse a run that would need more, with `BudgetError`: the run is planned first (`BulkRun.plan`), and no more
    pages are requested than prove it. Retries, and rows that change meanwhile, may still add a few."""


class SyncOptions(TypedDict, total=False):
    """The options that the `sync` methods of all resources share."""

    concurrency: int
    """Projects that are read at a time (default 32). Requests are paced and limited by the client."""

    on_error: OnError
    """`collect` (default) makes a failure the outcome of its project; `raise` ends the run at the first failure."""

    on_progress: Callable[[Progress], None] | None
    """Called with the `Progress` at most ten times a second, in the loop of the client."""


@frozen(eq=False)
class BulkFactory:
    """Creates the bulk runs of one client."""

    session: Session
    discover: Callable[[dict[str, HarnessError]], Pager[Any]]
    """Lists all projects; organizations that cannot be listed are added to the mapping."""

    def bulk(
        self,
        open_list: Callable[[ProjectRef, int | None], Pager[T]],
        projects: Projects | None,
        *,
        filters: Mapping[str, object] | None,
        end: int | None = None,
        freezes: bool = False,
        concurrency: int = 32,
        on_error: OnError = "collect",
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_lock: bool = True,
        on_progress: Callable[[Progress], None] | None = None,
        max_requests: int | None = None,
    ) -> BulkRun[T]:
        """Create a run; `ExecutionsAPI.bulk` describes the arguments.

        Args:
            open_list: Opens the list of a project, up to the frozen end of the run.
            projects: The projects, or None for all that the key can see.
            filters: What a checkpoint has to have in common with the run; None: nothing but the account.
            end: The end of the time window, where the caller gave one.
            freezes: Whether all windows of a run with a checkpoint end at the time at which it began.
            concurrency: As in `BulkOptions`, like the other arguments.
            on_error: `collect` or `raise`.
            checkpoint: The file of the checkpoint.
            checkpoint_lock: Whether to lock it.
            on_progress: Receives the progress.
            max_requests: The most requests.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used.
        """
        checkpoint_spec = None
        if checkpoint is not None:
            freeze = self._freezer(end, freezes=freezes)
            identity = Identity.of(str(self.session.base_url), self.session.account_id, filters or {"list": "any"})
            checkpoint_spec = CheckpointSpec(
                path=Path(checkpoint), identity=identity, freeze=freeze, lock=checkpoint_lock
            )
        spec = self._spec(open_list, projects, concurrency=concurrency, on_error=on_error, on_progress=on_progress)
        spec.checkpoint, spec.stores_lists = checkpoint_spec, filters is None
        spec.max_requests = None if max_requests is None else check_int("max_requests", max_requests, 0)
        return BulkRun(spec)

    def bulk_any(
        self, open_list: Callable[[ProjectRef], Pager[T]], projects: Projects | None, **options: Unpack[BulkOptions]
    ) -> BulkRun[T]:
        """Create a run over lists that the caller opens; see `HarnessClient.bulk`.

        Raises:
            TypeError: `open_list` cannot be called, or an argument has the wrong type.
            ValueError: An argument cannot be used.
        """
        if not callable(open_list):
            raise TypeError(f"open_list must be a function of a ProjectRef, not {type(open_list).__name__}")

        def open_checked(ref: ProjectRef, _end: int | None) -> Pager[T]:
            pager: object = open_list(ref)
            if not isinstance(pager, Pager):
                if isinstance(pager, Coroutine):
                    pager.close()
                raise TypeError(
                    "open_list must return a Pager without awaiting, as `workspaces.list` does, "
                    f"not {type(pager).__name__}"
                )
            return pager

        return self.bulk(open_checked, projects, filters=None, **options)

    def bulk_window(
        self,
        open_list: Callable[[ProjectRef, TimeWindow], Pager[T]],
        projects: Projects | None,
        window: TimeWindow,
        *,
        consistency: Consistency,
        filters: Mapping[str, object],
        **options: Unpack[BulkOptions],
    ) -> BulkRun[T]:
        """Create a run over lists with a time window, whose end a checkpoint freezes for all of them."""
        check_choice("consistency", consistency, get_args(Consistency))
        return self.bulk(
            lambda ref, end: open_list(ref, window if end is None else TimeWindow(window.start, end)),
            projects,
            filters={**filters, "start_time": window.start, "end_time": window.end, "consistency": consistency},
            end=window.end,
            freezes=consistency != "live",
            **options,
        )

    def sync(
        self,
        rows: SyncSpec[T],
        state: SyncState | None,
        projects: Projects | None,
        *,
        owner: str,
        start: int | None,
        consistency: Consistency,
        concurrency: int = 32,
        on_error: OnError = "collect",
        on_progress: Callable[[Progress], None] | None = None,
    ) -> SyncRun[T]:
        """Create a sync; `ExecutionsAPI.sync` describes the arguments.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used, or the state belongs to another `owner`.
        """
        check_choice("consistency", consistency, get_args(Consistency))
        if consistency == "live":
            raise ValueError("consistency must be 'checked' or 'strict': a sync must know that it missed nothing")
        before = SyncState(owner=owner) if state is None else state
        if before.owner != owner:
            raise ValueError(f"the state belongs to another list, host, account or filter: {before.owner}, not {owner}")
        spec = self._spec(
            lambda ref, _end: SyncReader(rows, ref, before.projects.get(ref), start),
            projects,
            concurrency=concurrency,
            on_error=on_error,
            on_progress=on_progress,
        )
        return SyncRun(spec, before, all_projects=projects is None)

    def _spec(
        self,
        open_list: Callable[[ProjectRef, int | None], Pager[T]],
        projects: Projects | None,
        *,
        concurrency: int,
        on_error: OnError,
        on_progress: Callable[[Progress], None] | None,
    ) -> BulkSpec[T]:
        check_choice("on_error", on_error, get_args(OnError))
        if on_progress is not None and not callable(on_progress):
            raise TypeError(f"on_progress must be a function of a Progress, not {type(on_progress).__name__}")
        unlisted: dict[str, HarnessError] = {}
        sender = self.session.sender
        return BulkSpec(
            open_list=open_list,
            projects=self.discover(unlisted) if projects is None else check_projects(projects),
            limited_by=sender.limited_by,
            rate=sender.rate,
            concurrency=check_int("concurrency", concurrency, 1),
            max_in_flight=sender.max_in_flight,
            on_error=on_error,
            on_progress=on_progress,
            unlisted=unlisted,
        )

    def _freezer(self, end: int | None, *, freezes: bool) -> Callable[[], Awaitable[int | None]]:
        session, clock = self.session, self.session.sender.transport.clock

        async def freeze() -> int | None:
            if not freezes or end is not None:
                return end
            if not clock.is_known:
                # One request returns the server's time; whatever its status, the run itself will meet it again.
                with contextlib.suppress(HarnessError):
                    await session.request("GET", "/v1/orgs", params={"limit": 1, "page": 0})
            return clock.certain()

        return freeze
