"""Options shared by several commands, and their parsing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer
from attrs import frozen

from harness_async import ProjectRef, __version__
from harness_async.cli.connection import DEMO_PROJECT, Connection
from harness_async.cli.errors import CommandError
from harness_async.cli.logs import set_verbosity


class RowFormat(StrEnum):
    """File format of `export` and `sync`."""

    JSONL = "jsonl"
    CSV = "csv"


class ViewFormat(StrEnum):
    """Output format of the other commands."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


_SHOWN_TIME = "%Y-%m-%d %H:%M:%SZ"

_AGE = re.compile(r"(\d+)([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """Parse a time in ISO 8601, in UTC if it has no zone, or an age such as `7d`, subtracted from `now`.

    Raises:
        ValueError: The text is neither.
    """
    try:
        if age := _AGE.fullmatch(text.strip()):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(text.strip())
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"not a time: {text!r} (use ISO 8601 such as 2025-01-31 or 2025-01-31T18:00+01:00, "
            "or an age such as 30m, 12h, 7d, 2w)"
        ) from None


@frozen
class TimeOption:
    """A time as written on the command line. An age is resolved later, so that a resumed run uses its first start."""

    text: str

    def resolve(self, now: datetime | None) -> datetime:
        """Return the time, with an age subtracted from `now` (default: the current time)."""
        return parse_time(self.text, now)


def _parse_time_option(text: str) -> TimeOption:
    try:
        parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return TimeOption(text)


def parse_project(text: str) -> ProjectRef:
    """Parse ORG/PROJECT.

    Raises:
        typer.BadParameter: The text is something else.
    """
    try:
        return ProjectRef.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; list them with 'harness-async projects'") from error


@frozen(kw_only=True)
class Filters:
    """Filters of an execution list, named as in the library."""

    status: Sequence[str] | None
    workspace: str | None
    start_time: TimeOption | None
    end_time: TimeOption | None

    def arguments(self, now: datetime | None = None) -> dict[str, Any]:
        """Return keyword arguments for `executions.list` and `executions.bulk`.

        Raises:
            CommandError: The range of time is empty.
        """
        start, end = (each and each.resolve(now) for each in (self.start_time, self.end_time))
        if start and end and start > end:
            raise CommandError(f"--since ({start:{_SHOWN_TIME}}) is later than --until ({end:{_SHOWN_TIME}}).")
        return {"status": self.status, "workspace": self.workspace, "start_time": start, "end_time": end}


ProjectArgument: TypeAlias = Annotated[
    ProjectRef,
    typer.Argument(
        metavar="ORG/PROJECT",
        parser=parse_project,
        help=f"Project, such as default/payments. With --demo, for example {DEMO_PROJECT}.",
    ),
]
ProjectsOption: TypeAlias = Annotated[
    list[ProjectRef] | None,
    typer.Option(
        "--project", "-p", metavar="ORG/PROJECT", parser=parse_project, help="Include this project. Repeatable."
    ),
]
OrgsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--org", metavar="ORG", help="Include all projects of this organization. Repeatable."),
]
StatusOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        "-s",
        metavar="STATUS",
        help="Include only this status, in the API's words; executions: none, success or failure. Repeatable.",
    ),
]
WorkspaceOption: TypeAlias = Annotated[
    str | None, typer.Option("--workspace", metavar="ID", help="Include only this workspace.")
]
SinceOption: TypeAlias = Annotated[
    TimeOption | None,
    typer.Option(
        "--since",
        metavar="TIME",
        parser=_parse_time_option,
        help="Include only executions created at or after this time: ISO 8601 (UTC if it has no zone, midnight if it "
        "is a date), or an age such as 30m, 12h, 7d, 2w.",
    ),
]
UntilOption: TypeAlias = Annotated[
    TimeOption | None,
    typer.Option(
        "--until",
        metavar="TIME",
        parser=_parse_time_option,
        help="Include only executions created up to this time, written as for --since.",
    ),
]
RowFormatOption: TypeAlias = Annotated[
    RowFormat | None,
    typer.Option("--format", help="File format. Default: csv if the name of the output ends in .csv, else jsonl."),
]
ViewFormatOption: TypeAlias = Annotated[
    ViewFormat, typer.Option("--format", help="A table, a JSON array, one JSON object per line, or CSV.")
]

# -- options of every command ------------------------------------------------------------------------------------

_CONNECTION_PANEL = "Connection"


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"harness-async {__version__}")
        raise typer.Exit


VersionOption: TypeAlias = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
VerboseOption: TypeAlias = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Log retries and waits to stderr; -vv also requests."
    ),
]


def _read_connection(
    *,
    api_key_file: Annotated[
        str | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            rich_help_panel=_CONNECTION_PANEL,
            help="Read the key from this file, - is stdin. Default: HARNESS_PLATFORM_API_KEY or HARNESS_API_KEY.",
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            "--account",
            metavar="ID",
            rich_help_panel=_CONNECTION_PANEL,
            help="Account ID. Default: HARNESS_ACCOUNT_ID, else the one in the key.",
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            rich_help_panel=_CONNECTION_PANEL,
            help="Server URL. Default: HARNESS_BASE_URL, HARNESS_ENDPOINT, or https://app.harness.io.",
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            "--proxy",
            metavar="URL",
            rich_help_panel=_CONNECTION_PANEL,
            help="HTTP proxy. Default: HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, without the hosts in NO_PROXY.",
        ),
    ] = None,
    ca_bundle: Annotated[
        str | None,
        typer.Option(
            "--ca-bundle",
            metavar="FILE",
            rich_help_panel=_CONNECTION_PANEL,
            help="PEM file of the certificate authorities to trust. Default: SSL_CERT_FILE, or those of the system.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            rich_help_panel=_CONNECTION_PANEL,
            help="Longest time of a call, with its waits and retries. Default: 300.",
        ),
    ] = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute",
            metavar="N",
            min=1,
            rich_help_panel=_CONNECTION_PANEL,
            help="Request rate limit. Default: 400 (with --demo: none).",
        ),
    ] = None,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            rich_help_panel=_CONNECTION_PANEL,
            help="Use generated data of a server in this process. Needs no key and no network.",
        ),
    ] = False,
) -> Connection:
    return Connection(
        api_key_file=api_key_file,
        account=account,
        base_url=base_url,
        proxy=proxy,
        ca_bundle=ca_bundle,
        timeout=timeout,
        requests_per_minute=requests_per_minute,
        demo=demo,
    )


def _read_verbosity(*, verbose: VerboseOption = 0, version: VersionOption = False) -> None:
    del version  # its callback has printed it
    set_verbosity(verbose)


def with_common_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function of a command with the options of every command.

    They are --verbose and --version, and in place of a parameter `connection: Connection` those that describe a
    connection.
    """
    parameters = dict(inspect.signature(function, eval_str=True).parameters)
    takes_connection = parameters.pop("connection", None) is not None
    connection = inspect.signature(_read_connection, eval_str=True).parameters if takes_connection else {}
    common = inspect.signature(_read_verbosity, eval_str=True).parameters

    def command(**arguments: Any) -> None:
        _read_verbosity(**{name: arguments.pop(name) for name in common})
        if takes_connection:
            arguments["connection"] = _read_connection(**{name: arguments.pop(name) for name in connection})
        function(**arguments)

    every = [*parameters.values(), *connection.values(), *common.values()]
    # typer reads the name, the documentation, the signature and the annotations.
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]  # for inspect
    return command
