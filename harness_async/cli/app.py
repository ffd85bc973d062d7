"""The typer application: registers the commands and runs them.

Exit codes: 0 complete, 1 something failed, 2 usage or configuration error, 3 key rejected, 130 interrupted,
129 hung up, 141 stdout closed by its reader, 143 terminated.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import typer

from harness_async.cli.api import api
from harness_async.cli.console import discard, print_error
from harness_async.cli.doctor.command import doctor
from harness_async.cli.errors import COMPLETE, INTERRUPTED, STDOUT_CLOSED, USAGE, print_report
from harness_async.cli.export import export
from harness_async.cli.logs import messages_on_stderr
from harness_async.cli.options import VersionOption, with_common_options
from harness_async.cli.show import executions, get, projects
from harness_async.cli.summary import summary
from harness_async.cli.sync import sync

app: typer.Typer = typer.Typer(
    name="harness-async",
    help="Export the executions and other lists of the Harness platform in bulk, and call any endpoint.\n\n"
    "The API key is read from HARNESS_PLATFORM_API_KEY or HARNESS_API_KEY, or from a file. No option takes the key "
    "itself, because command lines are visible in process lists and shell histories.",
    epilog="Exit codes: 0 complete, 1 something failed, 2 usage or configuration error, 3 key rejected, "
    "130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # "rich" keeps the line breaks of docstrings
)


@app.callback()
def _root(*, version: VersionOption = False) -> None:
    del version  # its callback has printed it


app.command()(with_common_options(export))
app.command()(with_common_options(sync))
app.command()(with_common_options(summary))
app.command()(with_common_options(projects))
app.command()(with_common_options(executions))
app.command(context_settings={"ignore_unknown_options": True})(with_common_options(get))  # IDs may start with a dash
app.command()(with_common_options(api))
app.command()(with_common_options(doctor))


@runtime_checkable
class _UsageError(Protocol):
    """The public attributes of a usage error, for which typer has no public class before 0.28."""

    ctx: typer.Context | None
    exit_code: int

    def format_message(self) -> str: ...


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Without arguments, print the help and return 2."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open until the exit
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a limited encoding must not make a table fail
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with messages_on_stderr():
            code = _run(arguments or ["--help"])
            sys.stdout.flush()
    except BrokenPipeError:
        code = STDOUT_CLOSED
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):  # for which click and rich exit with 1
            raise
        code = STDOUT_CLOSED
    except OSError as error:  # stdout is a file on a full disk
        code = print_report(error)
        discard(sys.stdout)
    if code == STDOUT_CLOSED:
        discard(sys.stdout)
    return code if arguments else USAGE


def _run(arguments: list[str]) -> int:
    if empty := _find_empty_value(arguments):
        print_error(f"{empty} is empty. Is a shell variable not set?")
        return USAGE
    try:
        code = app(arguments, prog_name="harness-async", standalone_mode=False)
    except typer.Abort:  # Ctrl-C
        return INTERRUPTED
    except BrokenPipeError:
        return STDOUT_CLOSED
    except Exception as error:  # noqa: BLE001 - every error becomes a message
        if not isinstance(error, _UsageError):
            return print_report(error)
        command = "harness-async" if error.ctx is None else error.ctx.command_path
        print_error(error.format_message().replace("Value error, ", ""), f"See {command} --help.")
        return error.exit_code
    return int(code or COMPLETE)


_EMPTY_OPTION = re.compile(r"(--[\w-]+)=")


def _find_empty_value(arguments: Sequence[str]) -> str:
    """Return the option, or the place, of an empty argument; an empty string if there is none.

    No option accepts empty text. It comes from `--org "$ORG"` where the variable is not set.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if found := _EMPTY_OPTION.fullmatch(argument):
            return found[1]
        if not argument:
            return before if before.startswith("-") else "An argument"
    return ""
