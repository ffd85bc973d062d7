"""Options shared by several commands, and their parsing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer
from attrs import frozen

from harness_async import ProjectRef
from harness_async.cli.connection import DEMO_PROJECT


class RowFormat(StrEnum):
    """File format of `export` and `sync`."""

    JSONL = "jsonl"
    CSV = "csv"


class ViewFormat(StrEnum):
    """Output format of the other commands."""

    TABLE = "table"
    JSONL = "jsonl"


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


def _parse_project(text: str) -> ProjectRef:
    try:
        return ProjectRef.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error} (list them with harness-async projects)") from error


@frozen(kw_only=True)
class Filters:
    """Filters of an execution list, named as in the library."""

    status: Sequence[str] | None
    workspace: str | None
    start_time: TimeOption | None
    end_time: TimeOption | None

    def arguments(self, now: datetime | None = None) -> dict[str, Any]:
        """Return keyword arguments for `executions.list` and `executions.bulk`."""
        return {
            "status": self.status,
            "workspace": self.workspace,
            "start_time": None if self.start_time is None else self.start_time.resolve(now),
            "end_time": None if self.end_time is None else self.end_time.resolve(now),
        }


ProjectArgument: TypeAlias = Annotated[
    ProjectRef,
    typer.Argument(
        metavar="ORG/PROJECT",
        parser=_parse_project,
        help=f"Project, such as default/payments. With --demo, for example {DEMO_PROJECT}.",
    ),
]
ProjectsOption: TypeAlias = Annotated[
    list[ProjectRef] | None,
    typer.Option("--project", metavar="ORG/PROJECT", parser=_parse_project, help="Include this project. Repeatable."),
]
OrgsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--org", metavar="ORG", help="Include all projects of this organization. Repeatable."),
]
StatusOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--status", metavar="STATUS", help="Include only this status: none, success or failure. Repeatable."),
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
    ViewFormat, typer.Option("--format", help="A table, or one JSON object per line.")
]
RequestsPerMinuteOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--requests-per-minute", metavar="N", min=1, help="Request rate limit. Default: 400 (with --demo: none)."
    ),
]
AccountOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--account", metavar="ID", help="Account ID. Default: HARNESS_ACCOUNT_ID, else the one in the key."),
]
BaseUrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Server URL. Default: HARNESS_BASE_URL, HARNESS_ENDPOINT, or https://app.harness.io.",
    ),
]
DemoOption: TypeAlias = Annotated[
    bool, typer.Option("--demo", help="Use generated data of a server in this process. Needs no key and no network.")
]
