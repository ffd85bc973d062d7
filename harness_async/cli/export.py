"""The work of `export`: a bulk run on one side, a file on the other, and a view of how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from attrs import define, evolve, field, frozen
from rich.console import Console

from harness_async.bulk import BulkRun
from harness_async.checkpoint import begun
from harness_async.cli.connection import (
    COMPLETE,
    INCOMPLETE,
    CommandError,
    Connection,
    RetryNotifier,
    connect,
    usage_errors,
)
from harness_async.cli.console import print_note, print_trimmed, sanitize, stderr_console, stdout_console
from harness_async.cli.options import Filters, RowFormat
from harness_async.cli.progress import ExportStatus, ExportSummary, ProgressDisplay, may_show_progress, print_summary
from harness_async.cli.resumable_output import ResumableOutput
from harness_async.cli.writers import RowWriter, create_encoder, open_output
from harness_async.client import HarnessClient
from harness_async.config import RateLimit
from harness_async.errors import AuthenticationError, CheckpointError, HarnessError
from harness_async.executions import Execution
from harness_async.outcomes import Plan, Progress, ProjectLike, ProjectRef, Projects, reason


@frozen(kw_only=True)
class ExportSpec:
    """What an export is to do."""

    orgs: Sequence[str]
    projects: Sequence[ProjectRef]
    filters: Filters
    form: RowFormat
    output: str | None
    """None or "-" is standard output."""

    checkpoint: Path | None = None
    max_requests: int | None = None
    plan_only: bool = False
    quiet: bool


async def export_rows(job: ExportSpec, connection: Connection, rate_limit: RateLimit | None) -> int:
    """Write what the job asks for, and return the exit code."""
    unlisted: dict[str, HarnessError] = {}
    patience = RetryNotifier(prints_note=False)
    # A plan alone must not begin a run: what comes after it would be left out of the run that is done later.
    checkpoint = job.checkpoint if not job.plan_only or (job.checkpoint and job.checkpoint.exists()) else None
    async with connect(connection, rate_limit, patience=patience, quiet=job.quiet) as client:
        with usage_errors():
            now = (None if checkpoint is None else begun(checkpoint)) or datetime.now(UTC)
            run = client.executions.bulk(
                _choose(client, job, unlisted),
                checkpoint=checkpoint,
                max_requests=job.max_requests,
                **job.filters.arguments(now),
            )
        if checkpoint is not None:
            run.begun = now
        view = _View(job, client, run, patience)
        if job.plan_only:
            return _print_plan(await view.plan(), {**run.report.unlisted, **unlisted})
        if job.max_requests is not None:
            await view.plan()
        if job.checkpoint is not None and job.output is not None:
            with closing(ResumableOutput(Path(job.output), job.form)) as durable:
                return await _Export(job, client, run, durable, unlisted, view).write(None)
        # After everything that may be wrong with the options: an old file is not emptied for a slip of the pen.
        with open_output(job.output) as stream:
            return await _Export(job, client, run, RowWriter(stream), unlisted, view).write(stream)


@define
class _View:
    """The progress of a run, where it is to be seen."""

    _job: ExportSpec
    _client: HarnessClient
    _run: BulkRun[Execution]
    _patience: RetryNotifier
    console: Console = field(factory=stderr_console, init=False)

    async def keep_up(self, rows: BinaryIO | None) -> None:
        """Show how far the run is until cancelled; `rows` is where its rows go."""
        if not self._job.quiet and may_show_progress(self.console, rows):
            view = ProgressDisplay(self.console, self._look, lambda: self._patience.reason, lambda: self._run.failures)
            await view.keep_up()

    def _look(self) -> Progress:
        # The client counts every request, the run only those of its projects.
        return evolve(self._run.progress, requests=self._client.stats.requests)

    async def plan(self) -> Plan:
        """Plan the run, with its progress."""
        watch = asyncio.create_task(self.keep_up(None))
        try:
            return await self._run.plan()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


def _print_plan(plan: Plan, unlisted: Mapping[str, HarnessError]) -> int:
    """Print the plan, and return the exit code."""
    for line in str(plan).splitlines():
        print_trimmed(stdout_console(), sanitize(line))
    for org, error in unlisted.items():
        print_note(f"{org}/*: projects not listed: {reason(error)}")
    return INCOMPLETE if plan.failed or unlisted else COMPLETE


def _choose(client: HarnessClient, job: ExportSpec, unlisted: dict[str, HarnessError]) -> Projects | None:
    """Give the projects that were asked for; an organization that cannot be listed does not end the rest."""
    if not job.orgs:
        return job.projects or None

    def skip(org: str, error: HarnessError) -> bool:
        if isinstance(error, AuthenticationError):
            return False
        unlisted[org] = error
        return True

    async def chain() -> AsyncIterator[ProjectLike]:
        for project in job.projects:
            yield project
        async with client.projects.walk_all(list(dict.fromkeys(job.orgs)), skip).walk() as walk:
            async for found in walk:
                yield found

    return chain()


@define
class _Export:
    _job: ExportSpec
    _client: HarnessClient
    _run: BulkRun[Execution]
    _writer: RowWriter | ResumableOutput
    _unlisted: dict[str, HarnessError]
    _view: _View

    async def write(self, stream: BinaryIO | None) -> int:
        """Write all rows and close with the table, however it ends."""
        try:
            await self._pump(stream)
        except asyncio.CancelledError:
            self._close("interrupted")
            raise
        except CheckpointError:  # nothing was begun
            raise
        except HarnessError:
            self._close("stopped")
            raise
        except BrokenPipeError:  # whoever closed the pipe has what they wanted
            raise
        except OSError as error:
            self._close("stopped")
            where = self._job.output or "standard output"
            raise CommandError(f"Cannot write {where}: {error.strerror}.", code=INCOMPLETE) from error
        report = self._run.report
        failed = bool(report.failed or report.unlisted or self._unlisted)
        self._close("incomplete" if failed else "complete")
        return INCOMPLETE if failed else COMPLETE

    async def _pump(self, stream: BinaryIO | None) -> None:
        """Take rows and hand them to the writer, with the view at work beside it."""
        try:
            if isinstance(self._writer, ResumableOutput):
                self._run.commit = self._writer.commit
            async with self._run, asyncio.TaskGroup() as group:
                if isinstance(self._writer, ResumableOutput):
                    await self._pump_whole_projects(group, self._writer)
                elif stream is not None:
                    await self._pump_rows(group, self._writer, stream)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _pump_rows(self, group: asyncio.TaskGroup, writer: RowWriter, stream: BinaryIO) -> None:
        head, encode = create_encoder(self._job.form)
        stream.write(head)
        group.create_task(writer.run())
        view = group.create_task(self._view.keep_up(stream))
        async for execution in self._run:
            await writer.put(encode(execution))
        writer.finish()
        view.cancel()

    async def _pump_whole_projects(self, group: asyncio.TaskGroup, output: ResumableOutput) -> None:
        _, encode = create_encoder(self._job.form)
        output.begin(self._run.resumed)
        view = group.create_task(self._view.keep_up(None))
        async for execution in self._run:
            output.put(execution, encode(execution))
        view.cancel()

    def _close(self, ending: ExportStatus) -> None:
        if self._job.quiet and ending == "complete":
            return
        report = self._run.report
        closing = ExportSummary(
            report=report,
            stats=self._client.stats,
            rows=self._writer.rows,
            target="" if self._job.output in {None, "-"} else f"in {self._job.output}",
            ending=ending,
            checkpoint=self._job.checkpoint,
            unlisted={**report.unlisted, **self._unlisted},
        )
        print_summary(self._view.console, closing)
