"""The commands `projects`, `executions` and `get`: lists and single rows, as a table or as data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import typer
from rich.text import Text

from harness_async import Execution, Page, Project, ProjectRef
from harness_async.cli.connection import Connection, connect, run_command
from harness_async.cli.console import (
    format_count,
    print_data,
    print_fields,
    print_note,
    print_table,
    sanitize,
    status_text,
)
from harness_async.cli.errors import COMPLETE, usage_errors
from harness_async.cli.options import (
    Filters,
    OrgsOption,
    ProjectArgument,
    RowFormat,
    SinceOption,
    StatusOption,
    UntilOption,
    ViewFormat,
    ViewFormatOption,
    WorkspaceOption,
)
from harness_async.cli.resources import RESOURCES
from harness_async.cli.writers import Row, create_encoder, execution_row, format_time, json_line
from harness_async.serialization.model import dict_names


def _print_rows(rows: Sequence[Row], columns: Sequence[str], view_format: ViewFormat) -> None:
    """Print rows to stdout as data."""
    if view_format is ViewFormat.JSON:
        print_data(b"[" + b",\n".join(json_line(row).rstrip() for row in rows) + b"]\n")
        return
    header, encode = create_encoder(RowFormat(view_format), columns)
    print_data(header + b"".join(map(encode, rows)))


def projects(
    *,
    org: OrgsOption = None,
    view_format: ViewFormatOption = ViewFormat.TABLE,
    connection: Connection,
) -> None:
    """List the projects that the key can read."""
    run_command(_list_projects(org, view_format, connection))


async def _list_projects(orgs: Sequence[str] | None, view_format: ViewFormat, connection: Connection) -> int:
    async with connect(connection) as client:
        found = await client.projects.list_all(orgs=orgs or None).collect()
    if view_format is not ViewFormat.TABLE:
        _print_rows([project.to_dict() for project in found], dict_names(Project), view_format)
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
    connection: Connection,
) -> None:
    """Show the newest executions of one project.

    Requests one page and sorts it, newest first. The order of the API is not documented: if the project has more
    executions than --limit, use --since to be certain to see the newest.
    """
    filters = Filters(status=status or None, workspace=workspace, start_time=since, end_time=until)
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
    if view_format is not ViewFormat.TABLE:
        _print_rows([execution_row(execution) for execution in newest], RESOURCES["executions"].columns, view_format)
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


def get(
    *,
    project: ProjectArgument,
    execution: Annotated[str, typer.Argument(metavar="EXECUTION", help="Pipeline execution ID.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Pipeline stage ID.")],
    view_format: ViewFormatOption = ViewFormat.TABLE,
    connection: Connection,
) -> None:
    """Show one execution.

    The IDs are the last two columns of `harness-async executions`. They may start with a dash.
    """
    run_command(_show_execution(project, execution, stage, view_format, connection))


async def _show_execution(
    project: ProjectRef, execution: str, stage: str, view_format: ViewFormat, connection: Connection
) -> int:
    async with connect(connection) as client:
        with usage_errors():
            found = await client.executions.get(project.org, project.project, execution, stage)
    row = execution_row(found)
    if view_format is not ViewFormat.TABLE:
        # One object in JSON, as the API returns it.
        one = ViewFormat.JSONL if view_format is ViewFormat.JSON else view_format
        _print_rows([row], RESOURCES["executions"].columns, one)
        return COMPLETE
    cells = {name: sanitize("" if value is None else value) for name, value in row.items()}
    print_fields({**cells, "status": status_text(found.status)})
    return COMPLETE
