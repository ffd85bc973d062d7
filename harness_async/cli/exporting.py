"""The work of `export`: a bulk run on one side, a file on the other, and a view of how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from attrs import define, evolve, field, frozen
from rich.console import Console

from harness_async.bulk import BulkRun
from harness_async.checkpoint import begun
from harness_async.cli.arguments import Filters, RowFormat
from harness_async.cli.connecting import COMPLETE, INCOMPLETE, CommandError, Connection, Patience, checked, connect
from harness_async.cli.durable import DurableOutput
from harness_async.cli.report import Closing, Ending, ProgressView, may_show_progress, print_closing
from harness_async.cli.rows import RowWriter, encoder, open_output
from harness_async.cli.view import stderr
from harness_async.client import HarnessClient
from harness_async.config import RateLimit
from harness_async.errors import AuthenticationError, CheckpointError, HarnessError
from harness_async.executions import Execution
from harness_async.outcomes import Progress, ProjectLike, ProjectRef, Projects


@frozen(kw_only=True)
class ExportJob:
    """What an export is to do."""

    orgs: Sequence[str]
    projects: Sequence[ProjectRef]
    filters: Filters
    form: RowFormat
    output: str | None
    """None or "-" is standard output."""

    checkpoint: Path | None = None
    quiet: bool


async def export_rows(job: ExportJob, connection: Connection, rate_limit: RateLimit | None) -> int:
    """Write what the job asks for, and return the exit code."""
    unlisted: dict[str, HarnessError] = {}
    patience = Patience(aloud=False)
    async with connect(connection, rate_limit, patience=patience, quiet=job.quiet) as client:
        with checked():
            now = (None if job.checkpoint is None else begun(job.checkpoint)) or datetime.now(UTC)
            run = client.executions.bulk(
                _choose(client, job, unlisted), checkpoint=job.checkpoint, **job.filters.arguments(now)
            )
        if job.checkpoint is not None and job.output is not None:
            run.begun = now
            with closing(DurableOutput(Path(job.output), job.form)) as durable:
                return await _Export(job, client, run, durable, unlisted, patience).write(None)
        # After everything that may be wrong with the options: an old file is not emptied for a slip of the pen.
        with open_output(job.output) as stream:
            return await _Export(job, client, run, RowWriter(stream), unlisted, patience).write(stream)


def _choose(client: HarnessClient, job: ExportJob, unlisted: dict[str, HarnessError]) -> Projects | None:
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
    _job: ExportJob
    _client: HarnessClient
    _run: BulkRun[Execution]
    _writer: RowWriter | DurableOutput
    _unlisted: dict[str, HarnessError]
    _patience: Patience
    _console: Console = field(factory=stderr, init=False)

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
            if isinstance(self._writer, DurableOutput):
                self._run.commit = self._writer.commit
            async with self._run, asyncio.TaskGroup() as group:
                if isinstance(self._writer, DurableOutput):
                    await self._pump_whole_projects(group, self._writer)
                elif stream is not None:
                    await self._pump_rows(group, self._writer, stream)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _pump_rows(self, group: asyncio.TaskGroup, writer: RowWriter, stream: BinaryIO) -> None:
        head, encode = encoder(self._job.form)
        stream.write(head)
        group.create_task(writer.run())
        view = group.create_task(self._watch(stream))
        async for execution in self._run:
            await writer.put(encode(execution))
        writer.finish()
        view.cancel()

    async def _pump_whole_projects(self, group: asyncio.TaskGroup, output: DurableOutput) -> None:
        _, encode = encoder(self._job.form)
        output.begin(self._run.resumed)
        view = group.create_task(self._watch(None))
        async for execution in self._run:
            output.put(execution, encode(execution))
        view.cancel()

    async def _watch(self, stream: BinaryIO | None) -> None:
        if not self._job.quiet and may_show_progress(self._console, stream):
            await ProgressView(self._console, self._look, lambda: self._patience.reason).keep_up()

    def _look(self) -> Progress:
        # The client counts every request, the run only those of its projects.
        return evolve(self._run.progress, requests=self._client.stats.requests)

    def _close(self, ending: Ending) -> None:
        if self._job.quiet and ending == "complete":
            return
        report = self._run.report
        closing = Closing(
            report=report,
            stats=self._client.stats,
            rows=self._writer.rows,
            target="" if self._job.output in {None, "-"} else f"in {self._job.output}",
            ending=ending,
            resumable=self._job.checkpoint is not None,
            unlisted={**report.unlisted, **self._unlisted},
        )
        print_closing(self._console, closing)
