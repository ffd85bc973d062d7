"""The command `export`: a bulk run, its output, and its progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from attrs import define, evolve, field, frozen
from rich.console import Console

from harness_async import (
    AuthenticationError,
    BulkRun,
    CheckpointError,
    Execution,
    HarnessClient,
    HarnessError,
    Plan,
    Progress,
    Project,
    ProjectRef,
)
from harness_async.bulk.checkpoint import read_started_at
from harness_async.bulk.run import with_output
from harness_async.cli.connection import Connection, RetryNotifier, connect, run_command
from harness_async.cli.console import stderr_console
from harness_async.cli.errors import COMPLETE, INCOMPLETE, CommandError, usage_errors
from harness_async.cli.options import (
    Filters,
    OrgsOption,
    ProjectsOption,
    RowFormat,
    RowFormatOption,
    SinceOption,
    StatusOption,
    UntilOption,
    WorkspaceOption,
)
from harness_async.cli.progress import (
    ExportStatus,
    ExportSummary,
    ProgressDisplay,
    may_show_progress,
    print_plan,
    print_summary,
)
from harness_async.cli.resumable_output import ResumableOutput
from harness_async.cli.writers import RowWriter, choose_format, create_encoder, open_output


@frozen(kw_only=True)
class ExportSpec:
    """The options of an export."""

    orgs: Sequence[str]
    projects: Sequence[ProjectRef]
    filters: Filters
    row_format: RowFormat
    output: str | None
    """None is stdout."""

    checkpoint: Path | None = None
    max_requests: int | None = None
    plan_only: bool = False
    quiet: bool


def export(
    *,
    org: OrgsOption = None,
    project: ProjectsOption = None,
    status: StatusOption = None,
    workspace: WorkspaceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    row_format: RowFormatOption = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Output file (overwritten). Default: stdout.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            dir_okay=False,
            help="Record completed projects in this file, so that the same command resumes an interrupted export. "
            "Requires --output. The rows of a project are written when it is complete.",
        ),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option(
            "--max-requests", metavar="N", min=0, help="Fail without writing rows if more requests are needed."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print an estimate and exit. Sends one request for each project.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Hide the progress, and the summary unless something failed.")
    ] = False,
    connection: Connection,
) -> None:
    """Write the executions of many projects to a file or stdout, one row per line.

    Without --org and --project, every project that the key can read is exported; with both, all that are named. Rows
    of different projects are interleaved. Failures are listed at the end, and the exit code is then 1.
    """
    spec = ExportSpec(
        orgs=org or (),
        projects=project or (),
        filters=Filters(status=status or None, workspace=workspace, start_time=since, end_time=until),
        row_format=choose_format(row_format, output),
        output=None if output == "-" else output,
        checkpoint=checkpoint,
        max_requests=max_requests,
        plan_only=plan,
        quiet=quiet,
    )
    run_command(export_rows(spec, connection))


async def export_rows(spec: ExportSpec, connection: Connection) -> int:
    """Write the selected rows, or print the plan. Return the exit code."""
    if spec.checkpoint is not None and spec.output is None:
        raise CommandError(
            "--checkpoint requires --output FILE.", "Rows written to stdout cannot be replaced when an export resumes."
        )
    if spec.checkpoint is not None and connection.demo:
        raise CommandError(
            "--checkpoint cannot be combined with --demo.",
            "The demo server ends with the command: remove --checkpoint.",
        )
    notifier = RetryNotifier(prints_note=False)
    async with connect(connection, notifier=notifier, quiet=spec.quiet) as client:
        export = _Export.create(spec, client, notifier)
        if spec.plan_only:
            return await export.show_plan()
        return await export.write()


@define
class _Export:
    """An export: the bulk run on one side, the output file and the progress display on the other."""

    spec: ExportSpec
    client: HarnessClient
    notifier: RetryNotifier
    run: BulkRun[Execution]
    resumable: ResumableOutput | None
    """The output of an export with a checkpoint."""

    unlisted: dict[str, HarnessError]
    """Organizations of `--org` whose projects could not be listed."""

    console: Console = field(factory=stderr_console, init=False)

    @classmethod
    def create(cls, spec: ExportSpec, client: HarnessClient, notifier: RetryNotifier) -> _Export:
        """Create the run of an export. Nothing is opened or requested.

        Raises:
            CommandError: An option has an invalid value.
        """
        # A plan must not create a checkpoint, which would fix the end of the time range of the export that follows.
        checkpoint = spec.checkpoint if not spec.plan_only or (spec.checkpoint and spec.checkpoint.exists()) else None
        # Ages such as 7d are subtracted from the start of the run, which for a resumed run is its first start.
        started_at = (None if checkpoint is None else read_started_at(checkpoint)) or datetime.now(UTC)
        unlisted: dict[str, HarnessError] = {}
        with usage_errors():
            run = client.executions.bulk(
                _select_projects(client, spec, unlisted),
                checkpoint=checkpoint,
                max_requests=spec.max_requests,
                **spec.filters.arguments(started_at),
            )
        resumable = None
        if checkpoint is not None and spec.output is not None:
            resumable = ResumableOutput(Path(spec.output), spec.row_format)
            run = with_output(run, resumable.commit, started_at)
        return cls(spec, client, notifier, run, resumable, unlisted)

    async def show_plan(self) -> int:
        """Print the plan. Return the exit code."""
        plan = await self._plan()
        unlisted = {**self.run.report.unlisted, **self.unlisted}
        print_plan(plan, unlisted)
        return INCOMPLETE if plan.failed or unlisted else COMPLETE

    async def write(self) -> int:
        """Write all rows and print the summary, also after an error. Return the exit code."""
        if self.spec.max_requests is not None:
            await self._plan()  # before the output is opened, which empties the file
        if self.resumable is not None:
            with closing(self.resumable):
                return await self._write_and_summarize(self.resumable, None)
        with open_output(self.spec.output) as stream:
            return await self._write_and_summarize(RowWriter(stream), stream)

    async def _plan(self) -> Plan:
        async with self._progress_display(None):
            return await self.run.plan()

    async def _write_and_summarize(self, writer: RowWriter | ResumableOutput, stream: BinaryIO | None) -> int:
        try:
            async with self.run, self._progress_display(stream):
                if isinstance(writer, ResumableOutput):
                    await self._write_projects(writer)
                elif stream is not None:
                    await self._write_rows(writer, stream)
        except asyncio.CancelledError:
            self._print_summary("interrupted", writer.rows)
            raise
        except HarnessError as error:
            if self.run.report.outcomes or not isinstance(error, CheckpointError):  # else nothing was requested
                self._print_summary("stopped", writer.rows)
            raise
        except BrokenPipeError:  # the reader of stdout needs no summary
            raise
        except OSError as error:
            self._print_summary("stopped", writer.rows)
            output = self.spec.output or "standard output"
            raise CommandError(f"Cannot write {output}: {error.strerror}.", code=INCOMPLETE) from error
        report = self.run.report
        failed = bool(report.failed or report.unlisted or self.unlisted)
        self._print_summary("incomplete" if failed else "complete", writer.rows)
        return INCOMPLETE if failed else COMPLETE

    async def _write_rows(self, writer: RowWriter, stream: BinaryIO) -> None:
        header, encode = create_encoder(self.spec.row_format)
        stream.write(header)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(writer.run())
                async for execution in self.run:
                    await writer.put(encode(execution))
                writer.finish()
        except BaseExceptionGroup as group_error:
            error = group_error.exceptions[0]
            raise error from error.__cause__

    async def _write_projects(self, output: ResumableOutput) -> None:
        _, encode = create_encoder(self.spec.row_format)
        output.open(self.run.resumed)
        async for execution in self.run:
            output.put(execution, encode(execution))

    def _progress_display(self, stream: BinaryIO | None) -> AbstractAsyncContextManager[object]:
        """Show the progress during a block. `stream` receives the rows."""
        if self.spec.quiet or not may_show_progress(self.console, stream):
            return nullcontext()
        return ProgressDisplay(
            self.console,
            get_progress=self._progress,
            get_failures=lambda: self.run.failures,
            get_retry_reason=lambda: self.notifier.reason,
        )

    def _progress(self) -> Progress:
        # The client counts all requests, the run only those of its projects.
        return evolve(self.run.progress, requests=self.client.stats.requests)

    def _print_summary(self, status: ExportStatus, rows: int) -> None:
        if self.spec.quiet and status == "complete":
            return
        report = self.run.report
        summary = ExportSummary(
            status=status,
            report=report,
            stats=self.client.stats,
            rows=rows,
            output=self.spec.output,
            checkpoint=self.spec.checkpoint,
            unlisted={**report.unlisted, **self.unlisted},
        )
        print_summary(self.console, summary)


def _select_projects(
    client: HarnessClient, spec: ExportSpec, unlisted: dict[str, HarnessError]
) -> Sequence[ProjectRef] | AsyncIterator[ProjectRef | Project] | None:
    """Return the projects of `--project` and `--org`, or None for all.

    An organization that cannot be listed is added to `unlisted`, except if the key is rejected.
    """
    if not spec.orgs:
        return spec.projects or None

    def skip(org: str, error: HarnessError) -> bool:
        if isinstance(error, AuthenticationError):
            return False
        unlisted[org] = error
        return True

    async def iterate() -> AsyncIterator[ProjectRef | Project]:
        for ref in spec.projects:
            yield ref
        async with client.projects.walk_all(list(dict.fromkeys(spec.orgs)), skip).walk() as walk:
            async for project in walk:
                yield project

    return iterate()
