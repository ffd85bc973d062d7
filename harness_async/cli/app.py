"""The command line: arguments, printing, exit codes; the work is the library's.

Exit codes: 0 complete, 1 something failed, 2 usage or configuration, 3 the key was refused, 130 interrupted,
141 the reader of standard output went away, 143 terminated.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from harness_async.cli.connection import (
    COMPLETE,
    INTERRUPTED,
    STDOUT_CLOSED,
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
    FormatOption,
    OrgsOption,
    ProjectArgument,
    ProjectsOption,
    RowFormat,
    SinceOption,
    StatusOption,
    UntilOption,
    ViewFormat,
    WorkspaceOption,
)
from harness_async.cli.sync import SyncSpec, sync_rows
from harness_async.cli.writers import choose_format, discard_stdout, execution_row, format_time, print_json
from harness_async.config import RateLimit
from harness_async.converters import unstructure
from harness_async.executions import Execution
from harness_async.outcomes import ProjectRef
from harness_async.pagination import Page

app: typer.Typer = typer.Typer(
    name="harness-async",
    help="Executions of the Harness platform, in bulk.\n\n"
    "The key comes from HARNESS_PLATFORM_API_KEY or HARNESS_API_KEY. There is no option for it: what stands on a "
    "command line shows in process lists and shell histories.",
    epilog="Exit codes: 0 complete, 1 something failed, 2 usage or configuration, 3 the key was refused, "
    "130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of docstrings, which "rich" would break where the source does
    no_args_is_help=True,
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what it is told wrongly is an error of two lines."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a table must not fail for the encoding of a terminal
    try:
        code = app(arguments, prog_name="harness-async", standalone_mode=False)
    except typer.Abort:  # Ctrl-C, in older versions of typer
        code = INTERRUPTED
    except Exception as error:
        # typer bundles click since 0.26 and used a separate one before: the errors of usage have no public class.
        format_message: Callable[[], str] | None = getattr(error, "format_message", None)
        if format_message is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(format_message() + "\n")
        else:
            path = getattr(getattr(error, "ctx", None), "command_path", "harness-async")
            print_error(format_message(), f"See {path} --help.")
        code = int(getattr(error, "exit_code", 2))
    if code == STDOUT_CLOSED:
        discard_stdout()
    return int(code or COMPLETE)


@app.command()
def export(
    *,
    org: OrgsOption = None,
    project: ProjectsOption = None,
    status: StatusOption = None,
    workspace: WorkspaceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    form: Annotated[
        RowFormat | None,
        typer.Option("--format", help="JSON or CSV, a row a line; else by the name of the file, else jsonl."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="Write there, over what is there; else to stdout.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            dir_okay=False,
            help="Keep there what is finished: started again with the same arguments, a run that was killed goes on "
            "where it stopped. Needs --output; rows of a project are written when it is complete.",
        ),
    ] = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute", metavar="N", min=1, help="Send no more than that; else 400 (--demo: no limit)."
        ),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option("--max-requests", metavar="N", min=0, help="Write nothing if it would take more requests."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it would take: a request for each project, and no rows.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, and no closing table unless it failed.")] = False,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Write the executions of many projects to a file or stdout, one row a line.

    Without --org and --project: of every project that the key can see; with both: of all that are named. Rows come
    as they arrive, those of different projects mixed. What fails is named at the end, and the exit code is 1.
    """
    job = ExportSpec(
        orgs=org or (),
        projects=project or (),
        filters=Filters(status=status or None, workspace=workspace, start_time=since, end_time=until),
        form=choose_format(form, output),
        output=output,
        checkpoint=checkpoint,
        max_requests=max_requests,
        plan_only=plan,
        quiet=quiet,
    )
    if checkpoint is not None and output in {None, "-"}:
        raise typer.BadParameter("--checkpoint needs --output FILE: what went to stdout cannot be taken back")
    if checkpoint is not None and demo:
        raise typer.BadParameter("--checkpoint goes with no --demo: the made-up account is gone when the run ends")
    rate_limit = None if requests_per_minute is None else RateLimit(requests_per_minute, 60.0)
    run_command(export_rows(job, Connection(account=account, base_url=base_url, demo=demo), rate_limit))


@app.command()
def sync(
    *,
    state: Annotated[
        Path,
        typer.Option("--state", metavar="FILE", dir_okay=False, help="How far the last sync came; made if missing."),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", dir_okay=False, help="Write there, in place of what is there.")
    ],
    form: Annotated[
        RowFormat | None,
        typer.Option("--format", help="JSON or CSV, a row a line; else by the name of the file, else jsonl."),
    ] = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option("--requests-per-minute", metavar="N", min=1, help="Send no more than that; else 400."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No closing table unless it failed.")] = False,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Write what is new since the last sync, and outcomes that came since, of all projects.

    Rows are upserts: one that is known comes again when its status has changed. Both files are replaced whole, the
    rows before the state.
    """
    job = SyncSpec(state=state, output=output, form=choose_format(form, str(output)), quiet=quiet)
    rate_limit = None if requests_per_minute is None else RateLimit(requests_per_minute, 60.0)
    run_command(sync_rows(job, Connection(account=account, base_url=base_url, demo=demo), rate_limit))


@app.command()
def projects(
    *,
    org: OrgsOption = None,
    form: FormatOption = ViewFormat.TABLE,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """List the projects that the key can see."""
    run_command(_projects(org, form, Connection(account=account, base_url=base_url, demo=demo)))


async def _projects(orgs: Sequence[str] | None, form: ViewFormat, connection: Connection) -> int:
    async with connect(connection) as client:
        found = await client.projects.list_all(orgs=orgs or None).collect()
    if form is ViewFormat.JSONL:
        print_json(unstructure(project) for project in found)
        return COMPLETE
    rows = [
        [
            sanitize(project.org),
            sanitize(project.identifier),
            sanitize(project.name),
            sanitize(", ".join(project.modules)),
        ]
        for project in found
    ]
    if rows:
        print_table(("org", "project", "name", "modules"), rows, details=2)
    print_note(f"{format_count(len(rows), 'project')}.")
    return COMPLETE


@app.command()
def executions(
    *,
    project: ProjectArgument,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100, help="How many to ask for.")] = 20,
    status: StatusOption = None,
    workspace: WorkspaceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    form: FormatOption = ViewFormat.TABLE,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Show the newest executions of one project.

    One page of the API's list, the newest on top. The order of that list is not documented: where there are more than
    were asked for, it is the API that chose which; --since makes sure of the newest.
    """
    filters = Filters(status=status or None, workspace=workspace, start_time=since, end_time=until)
    run_command(_executions(project, limit, filters, form, Connection(account=account, base_url=base_url, demo=demo)))


async def _executions(
    project: ProjectRef, limit: int, filters: Filters, form: ViewFormat, connection: Connection
) -> int:
    async with connect(connection) as client:
        with usage_errors():
            pager = client.executions.list(project.org, project.project, limit=limit, **filters.arguments())
        async with aclosing(pager.pages()) as pages:
            page = await anext(pages)
    newest = sorted(page.items, key=lambda execution: execution.created, reverse=True)
    if form is ViewFormat.JSONL:
        print_json(execution_row(execution) for execution in newest)
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
    of = "" if page.total_items is None else f" of {page.total_items:,}"
    return f"{shown:,}{of}: those that the API listed first, in an order it does not document."


@app.command(context_settings={"ignore_unknown_options": True})  # ids may begin with a dash
def get(
    *,
    project: ProjectArgument,
    execution: Annotated[str, typer.Argument(metavar="EXECUTION", help="The id of the pipeline's execution.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="The id of the pipeline's stage.")],
    form: FormatOption = ViewFormat.TABLE,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Show one execution.

    The ids are the last two columns of the command `executions`; they may begin with a dash.
    """
    run_command(_get(project, execution, stage, form, Connection(account=account, base_url=base_url, demo=demo)))


async def _get(project: ProjectRef, execution: str, stage: str, form: ViewFormat, connection: Connection) -> int:
    async with connect(connection) as client:
        with usage_errors():
            found = await client.executions.get(project.org, project.project, execution, stage)
    row = execution_row(found)
    if form is ViewFormat.JSONL:
        print_json([row])
    else:
        cells = {name: sanitize("" if value is None else value) for name, value in row.items()}
        print_fields(list({**cells, "status": status_text(found.status)}.items()))
    return COMPLETE
