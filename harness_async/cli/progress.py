"""The progress display of an export, its plan, and its summary."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from attrs import define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from harness_async import BulkReport, HarnessError, Plan, Progress, ProjectOutcome, Stats
from harness_async.bulk.models import summarize_error
from harness_async.cli.console import (
    format_count,
    pluralize,
    print_note,
    print_trimmed,
    sanitize,
    stdout_console,
)
from harness_async.cli.errors import advice_for

_REFRESH_INTERVAL = 0.1
"""Seconds between two refreshes."""

_RATE_WINDOW = 15.0
"""Seconds over which the request rate is measured: long enough to be steady, short enough to show a pause."""

_LIMIT_WINDOW = 2.0
"""Seconds over which `Progress.limited_by` is aggregated. It can change with every request."""

_ONE_LINE_WIDTH = 80
"""Columns from which all figures fit on one line. Narrower terminals get two lines."""

_MIN_BAR_WIDTH, _MAX_BAR_WIDTH = 4, 60

_MAX_PRINTED_FAILURES = 10
"""Failures printed above the display. More are counted, so that they do not scroll everything else away."""

_MAX_LISTED_FAILURES = 20
"""Projects that the summary lists for each kind of failure. More are counted."""

_MINUTE, _HOUR = 60, 3600

_ESTIMATE_STEPS = ((_MINUTE, 1), (10 * _MINUTE, 5), (_HOUR, 30))
"""Estimates below the first number of seconds are rounded to the second. Longer ones are rounded to minutes."""

_ESTIMATE_TOLERANCE = 0.05
"""Relative change of an estimate that does not change the displayed one."""

ExportStatus = Literal["complete", "incomplete", "interrupted", "stopped"]

_TITLES: Mapping[ExportStatus, tuple[str, str]] = {
    "complete": ("Export complete", "bold green"),
    "incomplete": ("Export incomplete", "bold yellow"),
    "interrupted": ("Export interrupted", "bold yellow"),
    "stopped": ("Export stopped", "bold red"),
}
_OUTCOME_LABELS: Mapping[str, tuple[str, str]] = {
    "complete": ("complete", ""),
    "failed": ("failed", "red"),
    "denied": ("denied", "yellow"),
    "not_found": ("not found", "yellow"),
    "pending": ("not finished", "yellow"),
}
"""Labels and styles of `ProjectOutcome.status`, in the order of the summary."""


def format_duration(seconds: float) -> str:
    """Format a duration: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_estimate(seconds: float) -> str:
    """Format an estimated duration, longer ones with less precision: 0:07, 3:20, 12:30, 1:07 h."""
    step = _estimate_step(seconds)
    rounded = round(seconds / step) * step
    if rounded < _HOUR:
        return format_duration(rounded)
    hours, minutes = divmod(round(rounded / _MINUTE), 60)
    return f"{hours}:{minutes:02} h"


def _estimate_step(seconds: float) -> int:
    return next((step for limit, step in _ESTIMATE_STEPS if seconds < limit), _MINUTE)


def may_show_progress(console: Console, rows: BinaryIO | None) -> bool:
    """Return whether stderr is a terminal that can be redrawn, and does not also receive the rows."""
    # `is_interactive` follows TTY_INTERACTIVE; it is also true for a pipe with FORCE_COLOR.
    can_redraw = console.is_interactive and not console.is_dumb_terminal and not console.legacy_windows
    return sys.stderr.isatty() and can_redraw and not (rows is not None and rows.isatty())


@define
class ProgressDisplay:
    """Shows the progress of a run on the terminal during an `async with` block.

    The display is erased at the end. Failures are printed above it and stay. A task of the event loop redraws it, not a
    thread of rich, because the progress of a run may only be read in its loop.
    """

    console: Console
    get_progress: Callable[[], Progress] = field(kw_only=True)
    get_failures: Callable[[], Sequence[ProjectOutcome]] = field(kw_only=True)
    """Returns the failed projects so far, oldest first."""

    get_retry_reason: Callable[[], str] = field(kw_only=True)
    """Returns why requests are retried at the moment, or an empty string."""

    _samples: deque[Progress] = field(factory=deque[Progress], init=False)
    _printed_failures: int = field(default=0, init=False)
    _initially_done: int | None = field(default=None, init=False)
    _end: float | None = field(default=None, init=False)
    """Estimated end of the run, in seconds since its start."""

    _task: asyncio.Task[None] | None = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._refresh_until_cancelled())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            failure = None if self._task.cancelled() else self._task.exception()
            if failure is not None and error is None:
                raise failure

    async def _refresh_until_cancelled(self) -> None:
        # stdout does not go to this terminal. What the process writes to stderr, such as log records, appears above.
        with (
            suppress(OSError),  # the terminal is gone; the run continues without a display
            Live(console=self.console, auto_refresh=False, transient=True, redirect_stdout=False) as live,
        ):
            while True:
                for line in self.new_failures():
                    live.console.print(line, no_wrap=True, overflow="ellipsis")
                live.update(self.render(self.get_progress()), refresh=True)
                await asyncio.sleep(_REFRESH_INTERVAL)

    def new_failures(self) -> list[Text]:
        """Return a line for each failure since the previous call, up to a maximum number of lines."""
        failures = self.get_failures()
        start, self._printed_failures = self._printed_failures, len(failures)
        lines = [_failure_line(outcome) for outcome in failures[start:_MAX_PRINTED_FAILURES]]
        if start <= _MAX_PRINTED_FAILURES < len(failures):
            lines.append(Text("more failures are counted below and listed at the end", "dim"))
        return lines

    def render(self, progress: Progress) -> RenderableType:
        """Return the lines of the display."""
        self._samples.append(progress)
        while self._samples[0].elapsed < progress.elapsed - _RATE_WINDOW:
            self._samples.popleft()
        figures = [format_count(progress.rows, "row"), f"{self._requests_per_minute():,.0f} requests/min"]
        state = [self._time_left(progress), f"limited by {self._limited_by()}"]
        lines = [[*figures, *state]] if self.console.width >= _ONE_LINE_WIDTH else [figures, state]
        retry_reason = self.get_retry_reason()
        return Group(
            self._render_bar(progress),
            *(_one_line(Text(" · ".join(line), "dim")) for line in lines),
            *([_one_line(sanitize(f"retrying: {retry_reason}", "yellow"))] if retry_reason else []),
        )

    def _render_bar(self, progress: Progress) -> RenderableType:
        done, unit = progress.projects_done, "projects"
        if self._initially_done is None:
            self._initially_done = done  # more than 0 in a resumed run
        estimated = progress.projects_planned
        if estimated and done == self._initially_done and done + estimated != progress.projects_total:
            done, unit = estimated, "projects estimated"
        total = "?" if progress.projects_total is None else f"{progress.projects_total:,}"
        # Padded to the width of the total, so that the bar keeps its length.
        label = Text(f"{done:>{len(total)},}/{total} {unit}", "bold")
        if failed := len(self.get_failures()):
            label = Text.assemble(label, (f" · {failed:,} failed", "red"))
        bar_width = min(_MAX_BAR_WIDTH, self.console.width - label.cell_len - 1)
        if bar_width < _MIN_BAR_WIDTH:
            return _one_line(label)
        bar = ProgressBar(
            total=progress.projects_total,
            completed=done,
            width=bar_width,
            pulse=progress.projects_total is None,
            animation_time=progress.elapsed,
            complete_style="cyan",
            finished_style="green",
            pulse_style="cyan",
        )
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(bar, label)
        return row

    def _requests_per_minute(self) -> float:
        """Return the request rate over the window, or since the start of the run if the window is not complete."""
        first, last = self._samples[0], self._samples[-1]
        seconds = last.elapsed - first.elapsed
        if last.elapsed <= _RATE_WINDOW or seconds < 1.0:
            return last.requests / max(last.elapsed, 1.0) * 60
        return (last.requests - first.requests) / seconds * 60

    def _time_left(self, progress: Progress) -> str:
        """Return the time left. It counts down steadily while new estimates differ little from the first."""
        if progress.eta is None:
            return f"{format_duration(progress.elapsed)} elapsed"
        end = progress.elapsed + progress.eta
        tolerance = max(_estimate_step(progress.eta), progress.eta * _ESTIMATE_TOLERANCE)
        if self._end is None or abs(end - self._end) > tolerance:
            self._end = end
        return f"about {format_estimate(max(0.0, self._end - progress.elapsed))} left"

    def _limited_by(self) -> str:
        """Return what limited the run most often within the window."""
        now = self._samples[-1].elapsed
        recent = Counter(sample.limited_by for sample in self._samples if sample.elapsed > now - _LIMIT_WINDOW)
        limit = recent.most_common(1)[0][0]
        return "output" if limit == "consumer" else limit


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _failure_line(outcome: ProjectOutcome) -> Text:
    label, style = _OUTCOME_LABELS[outcome.status]
    cause = "" if outcome.error is None else summarize_error(outcome.error)
    return Text.assemble((label, style), "  ", sanitize(outcome.project), "  ", sanitize(cause, "dim"))


def print_plan(plan: Plan, unlisted: Mapping[str, HarnessError]) -> None:
    """Print the plan to stdout, and to stderr the organizations that could not be listed."""
    console = stdout_console()
    for line in str(plan).splitlines():
        print_trimmed(console, sanitize(line))
    for org, error in unlisted.items():
        print_note(f"{org}/*: projects not listed: {summarize_error(error)}")


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
    if not summary.checkpoint.exists():
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
    for status, (label, style) in _OUTCOME_LABELS.items():
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
    if seconds < _MINUTE:
        table.add_row("time", f"{seconds:.1f}", "s")
    else:
        table.add_row("time", format_duration(seconds))
    return table


def _group_failures(summary: ExportSummary) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Group failures by label and hint, in the order of the labels: {(label, hint): [(name, cause)]}."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    order = list(_OUTCOME_LABELS)
    for outcome in sorted(summary.report.outcomes.values(), key=lambda outcome: order.index(outcome.status)):
        if outcome.error is not None:
            key = (_OUTCOME_LABELS[outcome.status][0].capitalize(), advice_for(outcome.error))
            groups.setdefault(key, []).append((str(outcome.project), summarize_error(outcome.error)))
    for org, error in summary.unlisted.items():
        groups.setdefault(("Not listed", advice_for(error)), []).append((f"{org}/*", summarize_error(error)))
    return groups
