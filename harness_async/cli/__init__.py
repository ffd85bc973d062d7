"""The command line: arguments, printing, exit codes; the work is the library's.

Exit codes: 0 complete, 1 something failed, 2 usage or configuration, 3 the key was refused, 130 interrupted,
141 the reader of standard output went away, 143 terminated.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, BinaryIO

import typer
from attrs import asdict, frozen

from harness_async.bulk import BulkRun
from harness_async.cli.arguments import (
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
from harness_async.cli.connecting import (
    COMPLETE,
    INCOMPLETE,
    INTERRUPTED,
    PIPE_CLOSED,
    CommandError,
    Connection,
    connect,
    run_job,
)
from harness_async.cli.report import Closing, Ending, ProgressView, may_show_progress, print_closing
from harness_async.cli.rows import RowWriter, choose_format, encoder, give_up_stdout, iso, make_row, open_output, to_json
from harness_async.cli.view import plain, print_error, print_members, print_note, print_rows, stderr, styled_status
from harness_async.client import HarnessClient
from harness_async.config import RateLimit
from harness_async.converters import unstructure
from harness_async.errors import AuthenticationError, HarnessError
from harness_async.executions import Execution
from harness_async.outcomes import ProjectLike, ProjectRef, Projects

app = typer.Typer(
    name="harness-async",
    help="Executions of the Harness platform, in bulk.\n\n"
    "The key comes from HARNESS_PLATFORM_API_KEY or HARNESS_API_KEY. There is no option for it: what stands on a "
    "command line shows in process lists and shell histories.",
    epilog="Exit codes: 0 complete, 1 something failed, 2 usage or configuration, 3 the key was refused, "
    "130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
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
    if code == PIPE_CLOSED:
        give_up_stdout()
    return int(code or COMPLETE)


# -- export ------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class _Export:
    """What an export is to do."""

    orgs: Sequence[str]
    projects: Sequence[ProjectRef]
    filters: Filters
    form: RowFormat
    output: str | None
    quiet: bool


@app.command()
def export(
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
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute", metavar="N", min=1, help="Send no more than that; else 400 (--demo: no limit)."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, and no closing table unless it failed.")] = False,
    account: AccountOption = None,
    base_url: BaseUrlOption = None,
    demo: DemoOption = False,
) -> None:
    """Write the executions of many projects to a file or stdout, one row a line.

    Without --org and --project: of every project that the key can see; with both: of all that are named. Rows come
    as they arrive, those of different projects mixed. What fails is named at the end, and the exit code is 1.
    """
    job = _Export(
        orgs=org or (),
        projects=project or (),
        filters=Filters(status=status or None, workspace=workspace, start_time=since, end_time=until),
        form=choose_format(form, output),
        output=output,
        quiet=quiet,
    )
    rate_limit = None if requests_per_minute is None else RateLimit(requests_per_minute, 60.0)
    run_job(_export(job, Connection(account=account, base_url=base_url, demo=demo), rate_limit))


async def _export(job: _Export, connection: Connection, rate_limit: RateLimit | None) -> int:
    unlisted: dict[str, HarnessError] = {}
    async with connect(connection, rate_limit, quiet=job.quiet) as client:
        try:
            run = client.executions.bulk(_projects(client, job, unlisted), **asdict(job.filters, recurse=False))
        except ValueError as error:
            raise CommandError(f"{error}.", "See harness-async export --help.") from error
        with open_output(job.output) as stream:
            return await _write_run(client, run, stream, job, unlisted)


def _projects(client: HarnessClient, job: _Export, unlisted: dict[str, HarnessError]) -> Projects | None:
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


async def _write_run(
    client: HarnessClient, run: BulkRun[Execution], stream: BinaryIO, job: _Export, unlisted: dict[str, HarnessError]
) -> int:
    """Write the rows of a run as they come, show how far it is, and close with the table."""
    console = stderr()
    head, encode = encoder(job.form)
    writer = RowWriter(stream)

    def close(ending: Ending) -> None:
        if job.quiet and ending == "complete":
            return
        print_closing(
            console,
            Closing(
                report=run.report,
                stats=client.stats,
                rows=writer.rows,
                target="" if job.output in {None, "-"} else f"in {job.output}",
                ending=ending,
                unlisted={**run.report.unlisted, **unlisted},
            ),
        )

    try:
        stream.write(head)
        view = ProgressView(console, lambda: run.progress)
        await _pump(run, writer, encode, None if job.quiet or not may_show_progress(console) else view)
    except BrokenPipeError:
        raise
    except OSError as error:
        ...
    except HarnessError:
        close("stopped")
        raise
    except asyncio.CancelledError:
        close("interrupted")
        raise
    report = run.report
    failed = bool(report.failed or report.unlisted or unlisted)
    close("incomplete" if failed else "complete")
    return INCOMPLETE if failed else COMPLETE
