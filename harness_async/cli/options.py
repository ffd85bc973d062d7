"""What may stand on the command line: the options that commands share, and how their texts are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer
from attrs import frozen

from harness_async.cli.connection import DEMO_PROJECT
from harness_async.outcomes import ProjectRef


class RowFormat(StrEnum):
    """How `export` writes rows."""

    JSONL = "jsonl"
    CSV = "csv"


class ViewFormat(StrEnum):
    """How the other commands show what they found."""

    TABLE = "table"
    JSONL = "jsonl"


_AGE = re.compile(r"(\d+)([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """Read a time in ISO 8601, UTC where it names no zone, or an age such as `7d`, counted back from now.

    Raises:
        ValueError: It is neither.
    """
    try:
        if age := _AGE.fullmatch(text.strip()):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(text.strip())
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: write 2025-01-31, 2025-01-31T18:00Z or 2025-01-31T18:00+01:00, "
            "or an age such as 30m, 12h, 7d, 2w"
        ) from None


@frozen
class TimeOption:
    """A time as it was written: an age is counted back from a now that a resumed run sets to when it began."""

    text: str

    def at(self, now: datetime | None) -> datetime:
        """Give the time itself."""
        return parse_time(self.text, now)


def _moment(text: str) -> TimeOption:
    try:
        parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return TimeOption(text)


def _project(text: str) -> ProjectRef:
    try:
        return ProjectRef.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; `harness-async projects` lists them") from error


@frozen(kw_only=True)
class Filters:
    """Which executions are wanted, under the names that the library takes."""

    status: Sequence[str] | None
    workspace: str | None
    start_time: TimeOption | None
    end_time: TimeOption | None

    def arguments(self, now: datetime | None = None) -> dict[str, Any]:
        """Give them as keyword arguments of `executions.list` and `bulk`."""
        return {
            "status": self.status,
            "workspace": self.workspace,
            "start_time": None if self.start_time is None else self.start_time.at(now),
            "end_time": None if self.end_time is None else self.end_time.at(now),
        }


ProjectArgument: TypeAlias = Annotated[
    ProjectRef,
    typer.Argument(
        metavar="ORG/PROJECT",
        parser=_project,
        help=f"The project, such as default/payments. With --demo, for example {DEMO_PROJECT}.",
    ),
]
ProjectsOption: TypeAlias = Annotated[
    list[ProjectRef] | None,
    typer.Option("--project", metavar="ORG/PROJECT", parser=_project, help="This project. May be repeated."),
]
OrgsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--org", metavar="ORG", help="All projects of this organization. May be repeated."),
]
StatusOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--status", metavar="STATUS", help="Only these: none, success, failure. May be repeated."),
]
WorkspaceOption: TypeAlias = Annotated[
    str | None, typer.Option("--workspace", metavar="ID", help="Only those of this workspace.")
]
SinceOption: TypeAlias = Annotated[
    TimeOption | None,
    typer.Option(
        "--since",
        metavar="TIME",
        parser=_moment,
        help="Only those created from then on: a time in ISO 8601 (without a zone it is UTC, a date alone is its "
        "midnight), or an age such as 30m, 12h, 7d, 2w.",
    ),
]
UntilOption: TypeAlias = Annotated[
    TimeOption | None,
    typer.Option("--until", metavar="TIME", parser=_moment, help="Only those created up to then; written as --since."),
]
FormatOption: TypeAlias = Annotated[
    ViewFormat, typer.Option("--format", help="A table for people, or one JSON object a line.")
]
AccountOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--account", metavar="ID", help="The account; else HARNESS_ACCOUNT_ID, else the one in the key."),
]
BaseUrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url", metavar="URL", help="The host; else HARNESS_BASE_URL, HARNESS_ENDPOINT, https://app.harness.io."
    ),
]
DemoOption: TypeAlias = Annotated[
    bool, typer.Option("--demo", help="Use a made-up account served on this machine: no key, nothing leaves it.")
]
