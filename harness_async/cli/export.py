"""The command `export`: a bulk run, its output, and its progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from attrs import define, evolve, field, frozen
from rich.console import Console

from harness_async import (
    BulkRun,
    CheckpointError,
    HarnessClient,
    HarnessError,
    Plan,
    Progress,
    ProjectRef,
)
from harness_async.bulk.checkpoint import read_started_at
from harness_async.bulk.run import with_output
from harness_async.cli.connection import Connection, connect, run_command
from harness_async.cli.console import stderr_console
from harness_async.cli.errors import COMPLETE, INCOMPLETE, CommandError, usage_errors
from harness_async.cli.export_report import ExportStatus, ExportSummary, print_plan, print_summary
from harness_async.cli.files import WriteError, is_disk_full, open_output
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
from harness_async.cli.pauses import PauseNotifier
from harness_async.cli.progress import Watched, show_progress
from harness_async.cli.resources import RESOURCES, ExportResource, Resource
from harness_async.cli.resumable_output import ResumableOutput
from harness_async.cli.row_writer import RowWriter, write_rows
from harness_async.cli.selection import check_spelling, select_projects
from harness_async.cli.targets import Target, check_distinct, find_target
from harness_async.cli.writers import choose_format, create_encoder


@frozen(kw_only=True)
class ExportSpec:
    """The options of an export."""

    resource: Resource
    orgs: Sequence[str]
    projects: Sequence[ProjectRef]
    filters: Filters
    row_format: RowFormat
    raw_csv: bool = False
    output: str
    """A file, or `-` for stdout."""

    checkpoint: Path | None = None
    locks: bool = True
    """Whether the checkpoint is locked."""

    max_requests: int | None = None
    plan_only: bool = False
    quiet: bool

    @property
    def format_options(self) -> str:
        """The options that the encoding of rows depends on."""
        raw = " --raw-csv" if self.raw_csv and self.row_format is RowFormat.CSV else ""
        return f"--format {self.row_format}{raw}"


def export(
    resource: Annotated[
        ExportResource,
        typer.Argument(
            metavar="RESOURCE",
            help="What to export: executions (default), pipeline-executions, workspaces, activities, pipelines, "
            "services or environments.",
            show_default=False,
            show_choices=False,
        ),
    ] = ExportResource.EXECUTIONS,
    *,
    org: OrgsOption = None,
    project: ProjectsOption = None,
    status: StatusOption = None,
    workspace: WorkspaceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    row_format: RowFormatOption = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Output file, replaced with the first row. Default: - for stdout.",
            show_default=False,
        ),
    ] = "-",
    raw_csv: Annotated[
        bool,
        typer.Option(
            "--raw-csv", help="Do not prefix CSV text with ' where a spreadsheet would run it as a formula (=1+1)."
        ),
    ] = False,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Record completed projects in this file, so that the same command resumes an interrupted export. "
            "Requires --output. The rows of a project are written when it is complete.",
        ),
    ] = None,
    no_lock: Annotated[
        bool,
        typer.Option("--no-lock", help="Do not lock the checkpoint, for file systems without locks."),
    ] = False,
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
    """Write the executions, or another list, of many projects to a file or stdout, one row per line.

    Without --org and --project, every project that the key can read is exported; with both, all that are named. Rows
    of different projects are interleaved. Failures are listed at the end, and the exit code is then 1.

    Executions and activities have all filters, pipeline executions all but --workspace, and workspaces --status.
    """
    filters = Filters(status=status or None, workspace=workspace, start_time=since, end_time=until)
    run_command(
        _export(
            ExportSpec(
                resource=RESOURCES[resource],
                orgs=org or (),
                projects=project or (),
                filters=filters,
                row_format=choose_format(row_format, output),
                raw_csv=raw_csv,
                output=output,
                checkpoint=None if checkpoint is None else Path(checkpoint),
                locks=not no_lock,
                max_requests=max_requests,
                plan_only=plan,
                quiet=quiet,
            ),
            connection,
        )
    )


def _check(spec: ExportSpec, connection: Connection) -> Target:
    """Check the options against each other, and return the output.

    Raises:
        CommandError: They do not fit.
    """
    spec.resource.check(spec.filters)
    check_spelling(spec.projects)
    checkpoint = spec.checkpoint
    if checkpoint is not None and spec.output == "-":
        raise CommandError(
            "--checkpoint requires --output FILE.", "Rows written to stdout cannot be replaced when an export resumes."
        )
    if checkpoint is not None and connection.demo:
        raise CommandError(
            "--checkpoint cannot be combined with --demo.",
            "The demo server ends with the command: remove --checkpoint.",
        )
    check_distinct({**connection.files, "--output": spec.output, "--checkpoint": checkpoint})
    if checkpoint is not None:
        find_target("--checkpoint", str(checkpoint), regular=True)
    return find_target("--output", spec.output, regular=checkpoint is not None)


async def _export(spec: ExportSpec, connection: Connection) -> int:
    """Write the selected rows, or print the plan. Return the exit code."""
    output = _check(spec, connection)
    notifier = PauseNotifier(prints=False)
    async with connect(connection, notifier=notifier, quiet=spec.quiet) as client:
        export = _Export.create(spec, output, client, notifier)
        if spec.plan_only:
            return await export.show_plan()
        return await export.write()


@define
class _Export:
    """An export: the bulk run on one side, the output file and the progress display on the other."""

    spec: ExportSpec
    output: Target
    client: HarnessClient
    notifier: PauseNotifier
    run: BulkRun[Any]
    header: bytes
    encode: Callable[[Any], bytes]
    resumable: ResumableOutput | None
    """The output of an export with a checkpoint."""

    unlisted: dict[str, HarnessError]
    """Organizations of `--org` whose projects could not be listed."""

    console: Console = field(factory=stderr_console, init=False)
    rows: Callable[[], int] = field(default=int, init=False)
    """Returns the number of rows in the output."""

    @classmethod
    def create(cls, spec: ExportSpec, output: Target, client: HarnessClient, notifier: PauseNotifier) -> _Export:
        """Create the run of an export. Nothing is opened or requested.

        Raises:
            CommandError: An option has an invalid value.
        """
        # A plan must not create a checkpoint, which would fix the end of the time range of the export that follows.
        checkpoint = spec.checkpoint if not spec.plan_only or (spec.checkpoint and spec.checkpoint.exists()) else None
        # Ages such as 7d are subtracted from the start of the run, which for a resumed run is its first start.
        started_at = (None if checkpoint is None else read_started_at(checkpoint)) or datetime.now(UTC)
        unlisted: dict[str, HarnessError] = {}
        resource = spec.resource
        with usage_errors():
            run: BulkRun[Any] = resource.api(client).bulk(
                select_projects(client, spec.orgs, spec.projects, unlisted),
                checkpoint=checkpoint,
                checkpoint_lock=spec.locks,
                max_requests=spec.max_requests,
                **resource.arguments(spec.filters, started_at),
            )
        header, encode = create_encoder(spec.row_format, resource.columns, raw=spec.raw_csv)
        resumable = None
        if checkpoint is not None:
            resumable = ResumableOutput(output, spec.format_options, header)
            run = with_output(run, resumable.commit, started_at)
        return cls(
            spec,
            output,
            client,
            notifier,
            run,
            header,
            lambda row: encode(resource.to_row(row)),
            resumable,
            unlisted,
        )

    async def show_plan(self) -> int:
        """Print the plan. Return the exit code."""
        plan = await self._plan()
        unlisted = {**self.run.report.unlisted, **self.unlisted}
        print_plan(plan, unlisted)
        return INCOMPLETE if plan.failed or unlisted else COMPLETE

    async def write(self) -> int:
        """Write all rows and print the summary, also after an error. Return the exit code."""
        if self.spec.max_requests is not None:
            await self._plan()  # before a named pipe is opened
        try:
            await (self._write_rows() if self.resumable is None else self._write_projects(self.resumable))
        except asyncio.CancelledError:
            self._print_summary("interrupted")
            raise
        except WriteError as error:
            self._print_summary("stopped", rows=0 if error.is_undone else None)
            raise
        except HarnessError as error:
            if self.run.report.outcomes or not isinstance(error, CheckpointError):  # else nothing was requested
                self._print_summary("stopped")
            if isinstance(error, CheckpointError) and is_disk_full(error.__cause__):  # not a wrong path
                raise CommandError(f"{error}.", code=INCOMPLETE) from error
            raise
        failed = self._has_failures()
        self._print_summary("incomplete" if failed else "complete")
        return INCOMPLETE if failed else COMPLETE

    async def _plan(self) -> Plan:
        async with self._progress_display(None):
            return await self.run.plan()

    async def _write_rows(self) -> None:
        async with open_output(self.output, self.header) as output:
            writer = RowWriter(output)
            self.rows = lambda: writer.rows
            async with self.run, self._progress_display(output.stream):
                await write_rows(self.run, writer, self.encode)
            if writer.rows or not self._has_failures():
                output.finish()

    async def _write_projects(self, output: ResumableOutput) -> None:
        self.rows = lambda: output.rows
        with closing(output):
            async with self.run, self._progress_display(None):
                output.open(self.run.resumed)
                async for batch in self.run.batches():
                    for row in batch.items:
                        output.put(batch.project, self.encode(row))
            if output.rows or not self._has_failures():
                output.finish()
            self._check_left_over(output)

    def _check_left_over(self, output: ResumableOutput) -> None:
        """Report rows of projects that did not fail, which must all be in the file.

        Raises:
            CommandError: There are some.
        """
        outcomes = self.run.report.outcomes
        left = {
            project: rows
            for project, rows in output.left_over().items()
            if project not in outcomes or outcomes[project].error is None
        }
        if left:
            names = ", ".join(f"{rows:,} of {project}" for project, rows in left.items())
            raise CommandError(
                f"Rows were received but not written: {names}.",
                "Run again without --checkpoint, and report this fault.",
                code=INCOMPLETE,
            )

    def _has_failures(self) -> bool:
        report = self.run.report
        return bool(report.failed or report.unlisted or self.unlisted)

    def _progress_display(self, stream: BinaryIO | None) -> AbstractAsyncContextManager[object]:
        """Show the progress during a block. `stream` receives the rows."""
        watched = Watched(progress=self._progress, failures=lambda: self.run.failures, notifier=self.notifier)
        return show_progress(self.console, watched, stream, quiet=self.spec.quiet)

    def _progress(self) -> Progress:
        # The client counts all requests, the run only those of its projects.
        return evolve(self.run.progress, requests=self.client.stats.requests)

    def _print_summary(self, status: ExportStatus, rows: int | None = None) -> None:
        """Print the summary, with the number of rows that were written unless another one is given."""
        if self.spec.quiet and status == "complete":
            return
        report = self.run.report
        summary = ExportSummary(
            status=status,
            report=report,
            stats=self.client.stats,
            rows=self.rows() if rows is None else rows,
            output=None if self.spec.output == "-" else self.spec.output,
            checkpoint=self.spec.checkpoint,
            unlisted={**report.unlisted, **self.unlisted},
        )
        print_summary(self.console, summary)
