"""The plan of an export, and its closing table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from attrs import frozen
from rich.console import Console
from rich.control import Control
from rich.padding import Padding
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from harness_async import BulkReport, HarnessError, Plan, Stats
from harness_async.bulk.checkpoint import read_started_at
from harness_async.cli.console import (
    format_duration,
    pluralize,
    print_note,
    print_trimmed,
    sanitize,
    stdout_console,
)
from harness_async.cli.errors import advice_for, describe
from harness_async.cli.progress import OUTCOME_LABELS

_MAX_LISTED_FAILURES = 20
"""Projects that the summary lists for each kind of failure. More are counted."""

ExportStatus = Literal["complete", "incomplete", "interrupted", "stopped"]

_TITLES: Mapping[ExportStatus, tuple[str, str]] = {
    "complete": ("Export complete", "bold green"),
    "incomplete": ("Export incomplete", "bold yellow"),
    "interrupted": ("Export interrupted", "bold yellow"),
    "stopped": ("Export stopped", "bold red"),
}


def print_plan(plan: Plan, unlisted: Mapping[str, HarnessError]) -> None:
    """Print the plan to stdout, and to stderr the organizations that could not be listed."""
    console = stdout_console()
    for line in str(plan).splitlines():
        print_trimmed(console, sanitize(line))
    for org, error in unlisted.items():
        print_note(f"{org}/*: projects not listed: {describe(error)}")


@frozen(kw_only=True)
class ExportSummary:
    """The result of an export."""

    status: ExportStatus
    report: BulkReport
    stats: Stats
    rows: int
    """Rows written. After an interruption fewer than the run returned."""

    output: str | None
    """None is stdout."""

    unlisted: Mapping[str, HarnessError]
    """Organizations whose projects could not be listed."""

    checkpoint: Path | None = None


def print_summary(console: Console, summary: ExportSummary) -> None:
    """Print the result, the failures with hints at their fix, and how to continue."""
    title, style = _TITLES[summary.status]
    if summary.status == "interrupted" and console.file.isatty():  # erase the "^C" that the terminal printed
        console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
    console.print(Text(title, style=style))
    print_trimmed(console, Padding(_summary_table(summary), (0, 0, 0, 2)))
    for (label, hint), failures in _group_failures(summary).items():
        console.print()
        console.print(Text.assemble((f"{label} ({len(failures):,})", "bold"), f"  {hint}"))
        for name, cause in failures[:_MAX_LISTED_FAILURES]:
            line = Text.assemble(sanitize(name), "  ", sanitize(cause, "dim"))
            print_trimmed(console, Padding(line, (0, 0, 0, 2)))
        if len(failures) > _MAX_LISTED_FAILURES:
            console.print(f"  and {len(failures) - _MAX_LISTED_FAILURES:,} more", style="dim")
    if next_step := _next_step(summary):
        console.print()
        console.print(next_step)


def _next_step(summary: ExportSummary) -> str:
    """Return how to continue an export that is not complete, or an empty string."""
    interrupted = summary.status == "interrupted"
    if summary.status == "complete" or not (interrupted or summary.checkpoint or summary.report.complete):
        return ""
    if summary.checkpoint is None:
        options = "--output FILE and --checkpoint FILE" if summary.output is None else "--checkpoint FILE"
        if interrupted:
            return f"The next run starts from the beginning. With {options}, it resumes an interrupted run."
        return f"The next run requests everything again. With {options}, it requests only what is not complete."
    if read_started_at(summary.checkpoint) is None:  # no project was completed
        return ""
    resume = "The checkpoint is kept: run the same command again to resume."
    if summary.report.failed or summary.unlisted:
        return f"{resume} Failed projects are requested again, complete ones are not."
    return resume


def _summary_table(summary: ExportSummary) -> Table:
    statuses: Counter[str] = Counter(outcome.status for outcome in summary.report.outcomes.values())
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim", overflow="fold")
    for status, (label, style) in OUTCOME_LABELS.items():
        if number := statuses[status]:
            table.add_row(Text(label, style), f"{number:,}", pluralize(number, "project"))
    if number := len(summary.unlisted):
        table.add_row(Text("not listed", "yellow"), f"{number:,}", pluralize(number, "organization"))
    if not statuses:
        table.add_row("projects", "0")
    table.add_row("rows", f"{summary.rows:,}", "" if summary.output is None else sanitize(f"in {summary.output}"))
    stats = summary.stats
    details = [
        f"{number:,} {label}"
        for number, label in ((stats.retries, "retried"), (stats.throttled, "throttled"))
        if number
    ]
    table.add_row("requests", f"{stats.requests:,}", ", ".join(details))
    seconds = summary.report.elapsed
    if seconds < 60:  # noqa: PLR2004 - a minute
        table.add_row("time", f"{seconds:.1f}", "s")
    else:
        table.add_row("time", format_duration(seconds))
    return table


def _group_failures(summary: ExportSummary) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Group failures by label and hint, in the order of the labels: {(label, hint): [(name, cause)]}."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    order = list(OUTCOME_LABELS)
    for outcome in sorted(summary.report.outcomes.values(), key=lambda outcome: order.index(outcome.status)):
        if outcome.error is not None:
            key = (OUTCOME_LABELS[outcome.status][0].capitalize(), advice_for(outcome.error))
            groups.setdefault(key, []).append((str(outcome.project), describe(outcome.error)))
    for org, error in summary.unlisted.items():
        groups.setdefault(("Not listed", advice_for(error)), []).append((f"{org}/*", describe(error)))
    return groups
