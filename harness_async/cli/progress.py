"""The progress of an export while it runs, and its closing table."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from attrs import define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from harness_async.cli.console import format_count, hint_for, print_trimmed, sanitize
from harness_async.errors import HarnessError
from harness_async.outcomes import BulkReport, OutcomeStatus, Progress, ProjectOutcome, reason
from harness_async.stats import Stats

_REFRESH = 0.1
"""Seconds between two looks at the run."""

_WINDOW = 15.0
"""Seconds over which the rate is taken: long enough to be calm, short enough to show a cooldown."""

_MOOD = 2.0
"""Seconds over which what limits the run is taken: it may change with every request."""

_WIDE, _MIDDLING = 80, 44
"""Columns from which the figures fit on one line, and on two; they never change lines while one looks."""

_SHORTEST, _LONGEST = 4, 48
"""Columns of the bar; where there is no room for the shortest there is none."""

_TOLD = 10
"""Failures told as they come; ten thousand would scroll everything else away, so the rest are counted."""

_MINUTE, _HOUR = 60, 3600

_STEPS = ((_MINUTE, 1), (600, 5), (_HOUR, 30))
"""Below how many seconds an estimate is told in which steps; above, in minutes."""

_AGREEMENT = 0.05
"""Share by which a new estimate may differ from the one told and still count as the same."""

# To the start of the line and away with all that follows; the cursor off and on; overlong lines cut and wrapped.
_ERASE, _HIDE, _SHOW, _CUT, _WRAP = "\r\x1b[J", "\x1b[?25l", "\x1b[?25h", "\x1b[?7l", "\x1b[?7h"

_SHOWN = 20
"""Projects named for each reason of failure; the rest are counted."""

ExportStatus = Literal["complete", "incomplete", "interrupted", "stopped"]

_TITLES: Mapping[ExportStatus, tuple[str, str]] = {
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


def format_duration(seconds: float) -> str:
    """Write a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_estimate(seconds: float) -> str:
    """Write an estimate, the longer the coarser: 0:07, 3:20, 12:30, 1:07 h."""
    step = _step(seconds)
    rounded = round(seconds / step) * step
    if rounded < _HOUR:
        return format_duration(rounded)
    hours, minutes = divmod(round(rounded / _MINUTE), 60)
    return f"{hours}:{minutes:02} h"


def _step(seconds: float) -> int:
    return next((step for below, step in _STEPS if seconds < below), _MINUTE)


@define
class LiveLines:
    """Lines at the end of a terminal's text that are drawn anew in their place, and are gone at the end.

    Between two drawings the cursor waits at the start of the first line. Terminals that change their width wrap old
    lines anew or cut them, each its own way, but all keep the cursor where it is in the text: so everything old comes
    behind it, and nobody has to know how many rows that is by now. (Rich's `Live` leaves the cursor behind the last
    line and goes up by the rows of before.)
    """

    console: Console

    def __enter__(self) -> Self:
        self._write(_HIDE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(_ERASE, _SHOW)

    def draw(self, lines: RenderableType, above: Sequence[RenderableType] = ()) -> None:
        """Draw the lines in place of the last ones, and above them what is to stay."""
        # More lines than rows would scroll, and the first one be out of reach.
        rows = self._render(lines)[: self.console.height]
        stay = [row for each in above for row in self._render(each)]
        # In one write, for no half of it to show. Cut, not wrapped: the terminal may be narrower by now than it was
        # when it was asked, and a line must be a row for the way back up.
        up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
        self._write(_ERASE, _CUT, "\n".join([*stay, *rows]), _WRAP, "\r", up)

    def _render(self, what: RenderableType) -> list[str]:
        with self.console.capture() as captured:
            self.console.print(Group(what))  # of a text alone, `print` makes another that may be wrapped
        return captured.get().removesuffix("\n").split("\n")

    def _write(self, *texts: str) -> None:
        self.console.file.write("".join(texts))
        self.console.file.flush()


@define
class ProgressDisplay:
    """The lines that show how far a run is, drawn anew ten times a second from its own event loop."""

    console: Console
    look: Callable[[], Progress]
    trouble: Callable[[], str]
    """Says why nothing is sent at this moment, if that is so."""

    failures: Callable[[], Sequence[ProjectOutcome]] = tuple
    """Gives the projects that failed so far, in the order in which they did."""

    _samples: deque[Progress] = field(factory=deque[Progress], init=False)
    _told: int = field(default=0, init=False)
    _end: float | None = field(default=None, init=False)
    _begun: int | None = field(default=None, init=False)

    async def keep_up(self) -> None:
        """Draw until cancelled, then leave nothing behind but the failures."""
        # No refresh thread: the progress of a run may be asked for only in its loop.
        with LiveLines(self.console) as lines:
            while True:
                lines.draw(self.render(self.look()), self.news())
                await asyncio.sleep(_REFRESH)

    def news(self) -> list[Text]:
        """Make a line for each project that failed since the last time; from some number on they are only counted."""
        failures = self.failures()
        told, self._told = self._told, len(failures)
        lines = [_failure(outcome) for outcome in failures[told:_TOLD]]
        if told <= _TOLD < self._told:
            lines.append(_line(Text("more failures are counted below and explained at the end", "dim")))
        return lines

    def render(self, progress: Progress) -> RenderableType:
        """Make the lines of this moment."""
        self._samples.append(progress)
        while self._samples[0].elapsed < progress.elapsed - _WINDOW:
            self._samples.popleft()
        width, failed = self.console.width, len(self.failures())
        failures = [_line(Text(f"{failed:,} failed", "red"))] if failed else []
        trouble = self.trouble()
        return Group(
            self._head(progress, width, failed if width >= _MIDDLING else 0),
            *self._figures(progress, width),
            *(failures if width < _MIDDLING else []),
            *([_line(sanitize(f"trying again: {trouble}", "yellow"))] if trouble else []),
        )

    def _head(self, progress: Progress, width: int, failed: int) -> RenderableType:
        total = "?" if progress.projects_total is None else f"{progress.projects_total:,}"
        number, word = progress.projects_done, "projects"
        if self._begun is None:
            self._begun = number  # not nought where a run goes on
        looked = progress.projects_planned
        if looked and number == self._begun and number + looked != progress.projects_total:
            number, word = looked, "projects looked at"
        # As wide as it will ever be, for the bar to keep its length.
        done = _line(Text(f"{number:>{len(total)},}/{total} {word}", "bold"))
        if failed:
            done = _line(Text.assemble(done, (f" · {failed:,} failed", "red")))
        room = width - done.cell_len - 1
        if room < _SHORTEST:
            return done
        bar = ProgressBar(
            total=progress.projects_total,
            completed=number,
            width=min(_LONGEST, room),
            pulse=progress.projects_total is None,
            animation_time=progress.elapsed,
            complete_style="cyan",
            finished_style="green",
            pulse_style="cyan",
        )
        head = Table.grid(padding=(0, 1, 0, 0))
        head.add_row(bar, done)
        return head

    def _figures(self, progress: Progress, width: int) -> list[Text]:
        figures = [format_count(progress.rows, "row"), f"{self._rate(progress):,.0f} requests/min"]
        time, limit = self._time(progress), self._limit(progress)
        if width >= _WIDE:
            lines = [[*figures, time, limit]]
        else:
            lines = [figures, [time, limit]] if width >= _MIDDLING else [figures, [time], [limit]]
        return [_line(Text(" · ".join(line), "dim")) for line in lines]

    def _time(self, progress: Progress) -> str:
        """Tell how long the rest takes; an end once told stands while the estimates agree, so that it counts down."""
        if progress.eta is None:
            return f"{format_duration(progress.elapsed)} so far"
        end = progress.elapsed + progress.eta
        if self._end is None or abs(end - self._end) > max(_step(progress.eta), progress.eta * _AGREEMENT):
            self._end = end
        return f"about {format_estimate(max(0.0, self._end - progress.elapsed))} left"

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


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _failure(outcome: ProjectOutcome) -> Text:
    label, style = _COUNTED[outcome.status]
    why = "" if outcome.error is None else reason(outcome.error)
    return _line(Text.assemble((label, style), "  ", sanitize(outcome.project), "  ", sanitize(why, "dim")))


def may_show_progress(console: Console, rows: BinaryIO | None) -> bool:
    """Whether lines can be drawn anew on standard error without getting between rows on the same screen."""
    # What is dumb, or an old console of Windows, does not know the sequences; TTY_INTERACTIVE=0 is rich's word for no.
    able = console.is_interactive and not console.is_dumb_terminal and not console.legacy_windows
    return sys.stderr.isatty() and able and not (rows is not None and rows.isatty())


@frozen(kw_only=True)
class ExportSummary:
    """What is known at the end of an export."""

    report: BulkReport
    stats: Stats
    rows: int
    """Written, which after an interruption may be fewer than were taken."""

    target: str
    ending: ExportStatus
    unlisted: Mapping[str, HarnessError]
    """Organizations whose projects could not be listed."""

    checkpoint: Path | None = None
    """What lets the same command go on from here; not there where nothing was begun."""


def print_summary(console: Console, closing: ExportSummary) -> None:
    """Print the closing table, and what failed with what to do about it."""
    title, style = _TITLES[closing.ending]
    if closing.ending == "interrupted" and console.file.isatty():
        # Over the "^C" that the terminal has put there.
        console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
    console.print(Text(title, style=style))
    print_trimmed(console, Padding(_figures(closing), (0, 0, 0, 2)))
    for (label, advice), names in _group_failures(closing).items():
        console.print()
        console.print(Text.assemble((f"{label} ({len(names)})", "bold"), f"  {advice}"))
        for name, why in names[:_SHOWN]:
            print_trimmed(console, Padding(Text.assemble(sanitize(name), "  ", sanitize(why, "dim")), (0, 0, 0, 2)))
        if len(names) > _SHOWN:
            console.print(f"  and {len(names) - _SHOWN:,} more", style="dim")
    if step := _continue(closing):
        console.print()
        console.print(step)


def _continue(closing: ExportSummary) -> str:
    """Say what running again would do, or what would let it do less."""
    interrupted = closing.ending == "interrupted"
    if closing.ending == "complete" or not (interrupted or closing.checkpoint or closing.report.complete):
        return ""
    if closing.checkpoint is None:
        options = "--checkpoint FILE" if closing.target else "--output FILE and --checkpoint FILE"
        if interrupted:
            return f"The next run begins anew. With {options}, an interrupted run goes on when it is run again."
        return f"The next run asks for everything again. With {options}, it asks only for what is not complete."
    if not closing.checkpoint.exists():
        return ""
    again = "The checkpoint is kept: run the same command again to go on from here."
    failed = closing.report.failed or closing.unlisted
    return f"{again} What failed is asked for again, what is complete is not." if failed else again


def _noun(number: int, noun: str) -> str:
    return noun if number == 1 else f"{noun}s"


def _figures(closing: ExportSummary) -> Table:
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
    table.add_row("rows", f"{closing.rows:,}", sanitize(closing.target))
    table.add_row(
        "requests", f"{stats.requests:,}", ", ".join(f"{number:,} {word}" for number, word in extras if number)
    )
    seconds = closing.report.elapsed
    table.add_row(
        "time", f"{seconds:.1f}" if seconds < _MINUTE else format_duration(seconds), "s" if seconds < _MINUTE else ""
    )
    return table


def _group_failures(closing: ExportSummary) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Put together what failed in the same way and wants the same step, the worst first."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    order = {status: place for place, status in enumerate(_COUNTED)}
    outcomes: list[ProjectOutcome] = sorted(closing.report.outcomes.values(), key=lambda each: order[each.status])
    for outcome in outcomes:
        if outcome.error is not None:
            key = (_COUNTED[outcome.status][0].capitalize(), hint_for(outcome.error))
            groups.setdefault(key, []).append((str(outcome.project), reason(outcome.error)))
    for org, error in closing.unlisted.items():
        groups.setdefault(("Not listed", hint_for(error)), []).append((f"{org}/*", reason(error)))
    return groups
