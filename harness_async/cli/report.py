"""The progress of an export while it runs, and its closing table."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import BinaryIO, Literal

from attrs import define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from harness_async.cli.view import advise, count, plain, reason, show
from harness_async.errors import HarnessError
from harness_async.outcomes import BulkReport, OutcomeStatus, Progress, ProjectOutcome
from harness_async.stats import Stats

_REFRESH = 0.1
"""Seconds between two looks at the run."""

_WINDOW = 15.0
"""Seconds over which the rate is taken: long enough to be calm, short enough to show a cooldown."""

_MOOD = 2.0
"""Seconds over which what limits the run is taken: it may change with every request."""

_WIDE, _MIDDLING = 76, 44
"""Columns from which the figures fit on one line, and on two; they never change lines while one looks."""

_BAR = 48
"""Columns of the longest bar."""

_MINUTE = 60

_SHOWN = 20
"""Projects named for each reason of failure; the rest are counted."""

Ending = Literal["complete", "incomplete", "interrupted", "stopped"]

_TITLES: Mapping[Ending, tuple[str, str]] = {
    "complete": ("Export complete", "bold green"),
    "incomplete": ("Export incomplete", "bold yellow"),
    "interrupted": ("Export interrupted", "bold yellow"),
    "stopped": ("Export stopped", "bold red"),
}
_COUNTED: Mapping[OutcomeStatus, tuple[str, str]] = {
    "complete": ("complete", ""),
    "failed": ("failed", "red"),
    "denied": ("denied", "yellow"),
    "not_found": ("not found", "yellow"),
    "pending": ("not finished", "yellow"),
}


def clock(seconds: float) -> str:
    """Write a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@define
class ProgressView:
    """The lines that show how far a run is, drawn anew ten times a second from its own event loop."""

    console: Console
    look: Callable[[], Progress]
    trouble: Callable[[], str]
    """Says why nothing is sent at this moment, if that is so."""

    _samples: deque[Progress] = field(factory=deque[Progress], init=False)

    async def keep_up(self) -> None:
        """Draw until cancelled, then leave nothing behind."""
        # No refresh thread: the progress of a run may be asked for only in its loop.
        with Live(
            console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as live:
            while True:
                live.update(self.render(self.look()), refresh=True)
                await asyncio.sleep(_REFRESH)

    def render(self, progress: Progress) -> RenderableType:
        """Make the lines of this moment."""
        self._samples.append(progress)
        while self._samples[0].elapsed < progress.elapsed - _WINDOW:
            self._samples.popleft()
        width = self.console.width
        total = "?" if progress.projects_total is None else f"{progress.projects_total:,}"
        done = f" {progress.projects_done:,}/{total} projects"
        bar = ProgressBar(
            total=progress.projects_total,
            completed=progress.projects_done,
            width=max(4, min(_BAR, width - len(done) - 1)),
            pulse=progress.projects_total is None,
            animation_time=progress.elapsed,
            complete_style="cyan",
            finished_style="green",
            pulse_style="cyan",
        )
        head = Table.grid()
        head.add_row(bar, Text(done, style="bold"))
        trouble = self.trouble()
        note = plain(f"trying again: {trouble}", "yellow")
        note.no_wrap, note.overflow = True, "ellipsis"
        return Group(head, *self._figures(progress, width), *([note] if trouble else []))

    def _figures(self, progress: Progress, width: int) -> list[Text]:
        eta = progress.eta
        time = f"{clock(progress.elapsed)} so far" if eta is None else f"{clock(eta)} left"
        figures = [count(progress.rows, "row"), f"{self._rate(progress):,.0f} requests/min"]
        limit = self._limit(progress)
        if width >= _WIDE:
            lines = [[*figures, time, limit]]
        else:
            lines = [figures, [time, limit]] if width >= _MIDDLING else [figures, [time], [limit]]
        return [Text(" · ".join(line), style="dim", no_wrap=True, overflow="ellipsis") for line in lines]

    def _rate(self, progress: Progress) -> float:
        """Take the requests per minute of the window."""
        first = self._samples[0]
        if progress.elapsed <= _WINDOW:
            # From the start of the run, not from the first look, which may come after the first requests.
            return progress.requests / max(progress.elapsed, 1.0) * 60
        return (progress.requests - first.requests) / max(progress.elapsed - first.elapsed, 1.0) * 60

    def _limit(self, progress: Progress) -> str:
        recent = Counter(sample.limited_by for sample in self._samples if sample.elapsed > progress.elapsed - _MOOD)
        word = recent.most_common(1)[0][0] if recent else progress.limited_by
        return f"limited by {'output' if word == 'consumer' else word}"


def may_show_progress(console: Console, rows: BinaryIO | None) -> bool:
    """Whether lines can be drawn anew on standard error without getting between rows on the same screen."""
    return sys.stderr.isatty() and not console.is_dumb_terminal and not (rows is not None and rows.isatty())


@frozen(kw_only=True)
class Closing:
    """What is known at the end of an export."""

    report: BulkReport
    stats: Stats
    rows: int
    """Written, which after an interruption may be fewer than were taken."""

    target: str
    ending: Ending
    unlisted: Mapping[str, HarnessError]
    """Organizations whose projects could not be listed."""

    resumable: bool = False
    """Whether the same command goes on from here."""


def print_closing(console: Console, closing: Closing) -> None:
    """Print the closing table, and what failed with what to do about it."""
    title, style = _TITLES[closing.ending]
    if closing.ending == "interrupted":
        # Over the "^C" that the terminal has put there.
        console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
    console.print(Text(title, style=style))
    show(console, Padding(_figures(closing), (0, 0, 0, 2)))
    for (label, advice), names in _group_failures(closing).items():
        console.print()
        console.print(Text.assemble((f"{label} ({len(names)})", "bold"), f"  {advice}"))
        for name, why in names[:_SHOWN]:
            show(console, Padding(Text.assemble(plain(name), "  ", plain(why, "dim")), (0, 0, 0, 2)))
        if len(names) > _SHOWN:
            console.print(f"  and {len(names) - _SHOWN:,} more", style="dim")
    if closing.resumable and closing.ending != "complete":
        console.print("The checkpoint is kept: run the same command again to go on from here.")


def _noun(number: int, noun: str) -> str:
    return noun if number == 1 else f"{noun}s"


def _figures(closing: Closing) -> Table:
    outcomes = Counter(outcome.status for outcome in closing.report.outcomes.values())
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim", overflow="fold")
    for status, (label, style) in _COUNTED.items():
        if number := outcomes[status]:
            table.add_row(Text(label, style), f"{number:,}", _noun(number, "project"))
    if closing.unlisted:
        table.add_row(
            Text("not listed", "yellow"), f"{len(closing.unlisted):,}", _noun(len(closing.unlisted), "organization")
        )
    if not outcomes:
        table.add_row("projects", "0")
    stats = closing.stats
    extras = ((stats.retries, "repeated"), (stats.throttled, "throttled"))
    table.add_row("rows", f"{closing.rows:,}", plain(closing.target))
    table.add_row(
        "requests", f"{stats.requests:,}", ", ".join(f"{number:,} {word}" for number, word in extras if number)
    )
    seconds = closing.report.elapsed
    table.add_row("time", f"{seconds:.1f}" if seconds < _MINUTE else clock(seconds), "s" if seconds < _MINUTE else "")
    return table


def _group_failures(closing: Closing) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Put together what failed in the same way and wants the same step, the worst first."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    order = {status: place for place, status in enumerate(_COUNTED)}
    outcomes: list[ProjectOutcome] = sorted(closing.report.outcomes.values(), key=lambda each: order[each.status])
    for outcome in outcomes:
        if outcome.error is not None:
            key = (_COUNTED[outcome.status][0].capitalize(), advise(outcome.error))
            groups.setdefault(key, []).append((str(outcome.project), reason(outcome.error)))
    for org, error in closing.unlisted.items():
        groups.setdefault(("Not listed", advise(error)), []).append((f"{org}/*", reason(error)))
    return groups
