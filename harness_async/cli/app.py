"""The typer application: commands, their options, and `run`.

Exit codes: 0 complete, 1 something failed, 2 usage or configuration error, 3 key rejected, 130 interrupted,
141 stdout closed by its reader, 143 terminated.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import typer
from rich.text import Text

from harness_async import Execution, Page, ProjectRef, RateLimit
from harness_async.cli.connection import (
    COMPLETE,
    INTERRUPTED,
    STDOUT_CLOSED,
    USAGE,
    Connection,
    connect,
    run_command,
    usage_errors,
)
from harness_async.cli.console import (
    format_count,
    print_error,
    print_fields,
    print_note,
    print_table,
    sanitize,
    status_text,
)
from harness_async.cli.export import ExportSpec, export_rows
from harness_async.cli.options import (
    AccountOption,
    BaseUrlOption,
    DemoOption,
    Filters,
    OrgsOption,
    ProjectArgument,
    ProjectsOption,
    RequestsPerMinuteOption,
    RowFormatOption,
    SinceOption,
    StatusOption,
    UntilOption,
    ViewFormat,
    ViewFormatOption,
    WorkspaceOption,
)
from harness_async.cli.sync import SyncSpec, sync_rows
from harness_async.cli.writers import (
    choose_format,
    discard_stdout,
    execution_row,
    format_time,
    print_json_lines,
    project_row,
)

app: typer.Typer = typer.Typer(
    name="harness-async",
    help="Export executions of the Harness platform in bulk.\n\n"
    "The API key is read from HARNESS_PLATFORM_API_KEY or HARNESS_API_KEY. There is no option for it, because command "
    "lines are visible in process lists and shell histories.",
    epilog="Exit codes: 0 complete, 1 something failed, 2 usage or configuration error, 3 key rejected, "
    "130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # "rich" keeps the line breaks of docstrings
)


@runtime_checkable
class _UsageError(Protocol):
    """The public attributes of a usage error.

    No public class covers them in all supported versions: before typer 0.26 the errors are click's, later typer's own
    copies in a private package. `typer.TyperException` exists since 0.28 and has no `ctx`.
    """

    ctx: typer.Context | None
    exit_code: int

    def format_message(self) -> str: ...


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Without arguments, print the help and return 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a limited encoding must not make a table fail
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(arguments or ["--help"], prog_name="harness-async", standalone_mode=False)
    except typer.Abort:  # Ctrl-C, before typer 0.26
        code = INTERRUPTED
    except Exception as error:
        if not isinstance(error, _UsageError):
            raise
        command = "harness-async" if error.ctx is None else error.ctx.command_path
        print_error(error.format_message(), f"See {command} --help.")
        code = error.exit_code
    if code == STDOUT_CLOSED:
        discard_stdout()
    return int(code or COMPLETE) if arguments else USAGE


@app.command()
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
        str | None, typer.Option("--output", metavar="FILE", help="Output file (overwritten). Default: stdout.")
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
    requests_per_minute: RequestsPerMinuteOption = None,
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
        bool, typer.Option("--quiet", help="Hide the progress, and the summary unless something failed.")
    ] = False,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
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
    connection = Connection(account=account, base_url=base_url, demo=demo)
    run_command(export_rows(spec, connection, _rate_limit(requests_per_minute)))


@app.command()
def sync(
    *,
    state: Annotated[
        Path,
        typer.Option(
            "--state", metavar="FILE", dir_okay=False, help="State of the previous sync. Created if it does not exist."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", dir_okay=False, help="Output file (overwritten).")
    ],
    row_format: RowFormatOption = None,
    requests_per_minute: RequestsPerMinuteOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Hide the report unless something failed.")] = False,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Write the executions of all projects that are new or were unfinished at the previous sync.

    Rows are upserts: an execution appears again when its status changes. Both files are replaced atomically, the
    output before the state.
    """
    spec = SyncSpec(state=state, output=output, row_format=choose_format(row_format, str(output)), quiet=quiet)
    connection = Connection(account=account, base_url=base_url, demo=demo)
    run_command(sync_rows(spec, connection, _rate_limit(requests_per_minute)))


def _rate_limit(requests_per_minute: int | None) -> RateLimit | None:
    return None if requests_per_minute is None else RateLimit(requests_per_minute, 60.0)


@app.command()
def projects(
    *,
    org: OrgsOption = None,
    view_format: ViewFormatOption = ViewFormat.TABLE,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """List the projects that the key can read."""
    run_command(_list_projects(org, view_format, Connection(account=account, base_url=base_url, demo=demo)))


async def _list_projects(orgs: Sequence[str] | None, view_format: ViewFormat, connection: Connection) -> int:
    async with connect(connection) as client:
        found = await client.projects.list_all(orgs=orgs or None).collect()
    if view_format is ViewFormat.JSONL:
        print_json_lines(map(project_row, found))
        return COMPLETE
    rows = [
        [sanitize(project.org), sanitize(project.identifier), sanitize(project.name), sanitize(modules)]
        for project in found
        for modules in [", ".join(project.modules)]
    ]
    if rows:
        print_table(("org", "project", "name", "modules"), rows, details=2)
    print_note(f"{format_count(len(rows), 'project')}.")
    return COMPLETE


@app.command()
def executions(
    *,
    project: ProjectArgument,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=100, help="Number of executions to request.")
    ] = 20,
    status: StatusOption = None,
    workspace: WorkspaceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    view_format: ViewFormatOption = ViewFormat.TABLE,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Show the newest executions of one project.

    Requests one page and sorts it, newest first. The order of the API is not documented: if the project has more
    executions than --limit, use --since to be certain to see the newest.
    """
    filters = Filters(status=status or None, workspace=workspace, start_time=since, end_time=until)
    connection = Connection(account=account, base_url=base_url, demo=demo)
    run_command(_show_executions(project, limit, filters, view_format, connection))


async def _show_executions(
    project: ProjectRef, limit: int, filters: Filters, view_format: ViewFormat, connection: Connection
) -> int:
    async with connect(connection) as client:
        with usage_errors():
            pager = client.executions.list(project.org, project.project, limit=limit, **filters.arguments())
        async with aclosing(pager.pages()) as pages:
            page = await anext(pages)
    newest = sorted(page.items, key=lambda execution: execution.created, reverse=True)
    if view_format is ViewFormat.JSONL:
        print_json_lines(map(execution_row, newest))
        return COMPLETE
    if newest:
        print_table(
            ("created", "status", "workspace", "pipeline", "execution", "stage"),
            [_execution_cells(execution) for execution in newest],
            details=2,
        )
    print_note(_describe_page(page, limit))
    return COMPLETE


def _execution_cells(execution: Execution) -> list[Text]:
    return [
        sanitize(format_time(execution.created_at, "seconds") or execution.created),
        status_text(execution.status),
        *map(sanitize, (execution.workspace, execution.pipeline)),
        *map(sanitize, (execution.pipeline_execution_id, execution.pipeline_stage_id)),
    ]


def _describe_page(page: Page[Execution], limit: int) -> str:
    shown = len(page.items)
    if not shown:
        return "No executions match."
    if page.total_items == shown or shown < limit:
        return f"All {format_count(shown, 'execution')}."
    total = "" if page.total_items is None else f" of {page.total_items:,}"
    return f"{shown:,}{total}: the first in the order of the API, which is not documented."


@app.command(context_settings={"ignore_unknown_options": True})  # IDs may start with a dash
def get(
    *,
    project: ProjectArgument,
    execution: Annotated[str, typer.Argument(metavar="EXECUTION", help="Pipeline execution ID.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Pipeline stage ID.")],
    view_format: ViewFormatOption = ViewFormat.TABLE,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Show one execution.

    The IDs are the last two columns of `harness-async executions`. They may start with a dash.
    """
    connection = Connection(account=account, base_url=base_url, demo=demo)
    run_command(_show_execution(project, execution, stage, view_format, connection))


async def _show_execution(
    project: ProjectRef, execution: str, stage: str, view_format: ViewFormat, connection: Connection
) -> int:
    async with connect(connection) as client:
        with usage_errors():
            found = await client.executions.get(project.org, project.project, execution, stage)
    row = execution_row(found)
    if view_format is ViewFormat.JSONL:
        print_json_lines([row])
        return COMPLETE
    cells = {name: sanitize("" if value is None else value) for name, value in row.items()}
    print_fields({**cells, "status": status_text(found.status)})
    return COMPLETE
