"""The command `sync`: new rows to a file, and the state for the next sync.

Both files are replaced atomically, the rows first, so that the state never covers rows that are in no file. After a
failure between the two, the next sync writes the same rows again, which is harmless because rows are upserts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from attrs import evolve, frozen

from harness_async import BulkReport, HarnessError, ProjectRef, SyncRun, SyncState
from harness_async.cli.connection import Connection, connect, run_command
from harness_async.cli.console import format_count, print_note, sanitize, stderr_console
from harness_async.cli.errors import COMPLETE, INCOMPLETE, CommandError
from harness_async.cli.files import open_output, write_file
from harness_async.cli.options import OrgsOption, ProjectsOption, RowFormat, RowFormatOption
from harness_async.cli.pauses import PauseNotifier
from harness_async.cli.progress import Watched, show_progress
from harness_async.cli.resources import RESOURCES, Resource, SyncResource
from harness_async.cli.row_writer import RowWriter, write_rows
from harness_async.cli.selection import check_spelling, select_projects
from harness_async.cli.targets import check_distinct, find_target
from harness_async.cli.writers import choose_format, create_encoder

_DEMO_URL = re.compile(r"http://127\.0\.0\.1:\d+")
"""The server of `--demo`, which has another port each time."""


@frozen(kw_only=True)
class SyncSpec:
    """The options of a sync."""

    resource: Resource
    orgs: Sequence[str]
    projects: Sequence[ProjectRef]
    state: str
    output: str
    row_format: RowFormat
    raw_csv: bool
    quiet: bool


def sync(
    resource: Annotated[
        SyncResource,
        typer.Argument(
            metavar="RESOURCE",
            help="What to sync: executions (default) or pipeline-executions.",
            show_default=False,
            show_choices=False,
        ),
    ] = SyncResource.EXECUTIONS,
    *,
    org: OrgsOption = None,
    project: ProjectsOption = None,
    state: Annotated[
        str,
        typer.Option("--state", "-s", metavar="FILE", help="State of the previous sync. Created if it does not exist."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Output file, replaced at the end; - is stdout.")
    ],
    row_format: RowFormatOption = None,
    raw_csv: Annotated[
        bool,
        typer.Option(
            "--raw-csv", help="Do not prefix CSV text with ' where a spreadsheet would run it as a formula (=1+1)."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Hide the progress, and the report unless something failed.")
    ] = False,
    connection: Connection,
) -> None:
    """Write the executions of many projects that are new or have changed since the previous sync.

    Without --org and --project, every project that the key can read is read. Other projects keep their state.

    Each run writes only what is new, so the output of an earlier run is not in that of a later one. Rows are upserts:
    an execution appears again when its status changes. Both files are replaced atomically, the output before the state.
    """
    spec = SyncSpec(
        resource=RESOURCES[resource],
        orgs=org or (),
        projects=project or (),
        state=state,
        output=output,
        row_format=choose_format(row_format, output),
        raw_csv=raw_csv,
        quiet=quiet,
    )
    run_command(_sync(spec, connection))


def _read_state(path: Path) -> SyncState | None:
    """Read the state of the previous sync. None if the file does not exist.

    Raises:
        CommandError: The file cannot be read, or is not a state.
    """
    try:
        return SyncState.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CommandError(
            f"Cannot read the state {path}: {error}.",
            "Choose another --state, or delete the file to start from the beginning.",
        ) from error


async def _sync(spec: SyncSpec, connection: Connection) -> int:
    """Write the new rows, then the state. Return the exit code."""
    check_spelling(spec.projects)
    check_distinct({**connection.files, "--state": spec.state, "--output": spec.output})
    state = find_target("--state", spec.state, regular=True)
    output = find_target("--output", spec.output)
    previous = _read_state(Path(spec.state))
    resource = spec.resource
    header, encode = create_encoder(spec.row_format, resource.columns, raw=spec.raw_csv)
    notifier = PauseNotifier(prints=not spec.quiet)
    async with connect(connection, notifier=notifier, quiet=spec.quiet) as client:
        api = resource.api(client)
        if connection.demo and previous is not None:
            previous = _move_demo_state(previous, api.sync().state.owner)
        unlisted: dict[str, HarnessError] = {}
        try:
            run: SyncRun[Any] = api.sync(previous, select_projects(client, spec.orgs, spec.projects, unlisted))
        except ValueError as error:
            raise CommandError(f"{spec.state}: {error}.", "Choose another --state.") from error
        watched = Watched(progress=lambda: run.progress, failures=lambda: run.failures, notifier=notifier)
        try:
            async with open_output(output, header, at_end=True) as rows:
                writer = RowWriter(rows)
                async with run, show_progress(stderr_console(), watched, rows.stream, quiet=spec.quiet):
                    await write_rows(run, writer, lambda row: encode(resource.to_row(row)))
                if writer.rows or run.report.complete or not run.report.outcomes:
                    rows.finish()
        except asyncio.CancelledError:
            print_note("Sync interrupted: the state is as it was, so the next sync begins where this one did.")
            raise
        write_file(state, run.state.to_json().encode())
    report = evolve(run.report, unlisted={**run.report.unlisted, **unlisted})
    if not spec.quiet or report.failed or report.unlisted:
        _print_report(run, report, writer.rows, is_first=previous is None)
    return INCOMPLETE if report.failed or report.unlisted else COMPLETE


def _move_demo_state(state: SyncState, owner: str) -> SyncState:
    """Return the state of an earlier demo as one of the present demo server, if they differ in the port only."""
    is_same = _DEMO_URL.sub("", state.owner) == _DEMO_URL.sub("", owner)
    return evolve(state, owner=owner) if is_same else state


def _print_report(run: SyncRun[Any], report: BulkReport, rows: int, *, is_first: bool) -> None:
    lines = str(report).splitlines()
    for label, projects in (("new", () if is_first else run.appeared), ("gone", run.vanished)):
        if projects:
            lines.append(f"{label:<12}{', '.join(map(str, projects))}")
    lines.append(f"Wrote {format_count(rows, 'row')}. Each run writes only what is new since the run before.")
    console = stderr_console()
    for line in lines:
        console.print(sanitize(line))
