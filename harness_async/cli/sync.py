"""The command `sync`: new executions to a file, and the state for the next sync.

Both files are replaced atomically, the rows first, so that the state never covers rows that are in no file. After a
failure between the two, the next sync writes the same rows again, which is harmless because rows are upserts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from attrs import frozen

from harness_async import SyncState
from harness_async.cli.connection import Connection, connect, run_command
from harness_async.cli.console import sanitize, stderr_console
from harness_async.cli.errors import COMPLETE, INCOMPLETE, CommandError, usage_errors
from harness_async.cli.options import RowFormat, RowFormatOption
from harness_async.cli.writers import choose_format, create_encoder, replace_file


@frozen(kw_only=True)
class SyncSpec:
    """The options of a sync."""

    state: Path
    output: Path
    row_format: RowFormat
    quiet: bool


def sync(
    *,
    state: Annotated[
        Path,
        typer.Option(
            "--state", metavar="FILE", dir_okay=False, help="State of the previous sync. Created if it does not exist."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Output file (overwritten).")
    ],
    row_format: RowFormatOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Hide the report unless something failed.")] = False,
    connection: Connection,
) -> None:
    """Write the executions of all projects that are new or were unfinished at the previous sync.

    Rows are upserts: an execution appears again when its status changes. Both files are replaced atomically, the
    output before the state.
    """
    spec = SyncSpec(state=state, output=output, row_format=choose_format(row_format, str(output)), quiet=quiet)
    run_command(sync_rows(spec, connection))


def read_state(path: Path) -> SyncState | None:
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
            f"Cannot read the state {path}: {error}.", "Delete the file to start from the beginning."
        ) from error


async def sync_rows(spec: SyncSpec, connection: Connection) -> int:
    """Write the new rows, then the state. Return the exit code."""
    previous = read_state(spec.state)
    header, encode = create_encoder(spec.row_format)
    async with connect(connection, quiet=spec.quiet) as client:
        with usage_errors():
            run = client.executions.sync(previous)
        with replace_file(spec.output) as stream:
            stream.write(header)
            async with run:
                async for execution in run:
                    stream.write(encode(execution))
    with replace_file(spec.state) as stream:
        stream.write(run.state.to_json().encode())
    report = run.report
    if not spec.quiet or report.failed or report.unlisted:
        console = stderr_console()
        lines = str(report).splitlines()
        for label, projects in (("new", run.appeared if previous else ()), ("gone", run.vanished)):
            if projects:
                lines.append(f"{label:<12}{', '.join(map(str, projects))}")
        for line in lines:
            console.print(sanitize(line))
    return INCOMPLETE if report.failed or report.unlisted else COMPLETE
