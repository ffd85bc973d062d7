"""The progress of `export` and `sync`: a display on a terminal, status lines elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import BinaryIO

from attrs import define, field, frozen
from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from harness_async import Progress, ProjectOutcome
from harness_async.cli.console import format_count, format_duration, format_estimate, sanitize
from harness_async.cli.errors import describe
from harness_async.cli.pauses import PauseNotifier

_REFRESH_INTERVAL = 0.2
"""Seconds between two refreshes of the display."""

_STATUS_INTERVAL = 10.0
"""Seconds between two status lines."""

_RATE_WINDOW = 15.0
"""Seconds over which the request rate is measured: long enough to be steady, short enough to show a pause."""

_LIMIT_WINDOW = 2.0
"""Seconds over which `Progress.limited_by` is aggregated. It can change with every request."""

_MAX_BAR_WIDTH = 100
"""Columns of the bar and its label at most."""

_ONE_LINE_WIDTH = 80
"""Columns from which all figures fit on one line. Narrower terminals get two lines."""

_MAX_PRINTED_FAILURES = 10
"""Failures printed above the display. More are counted, so that they do not scroll everything else away."""

OUTCOME_LABELS: Mapping[str, tuple[str, str]] = {
    "complete": ("complete", ""),
    "failed": ("failed", "red"),
    "denied": ("denied", "yellow"),
    "not_found": ("not found", "yellow"),
    "pending": ("not finished", "yellow"),
}
"""Labels and styles of `ProjectOutcome.status`, in the order of the summary."""


@frozen(kw_only=True)
class Watched:
    """What is shown of a run."""

    progress: Callable[[], Progress]
    failures: Callable[[], Sequence[ProjectOutcome]]
    """Returns the failed projects so far, oldest first."""

    notifier: PauseNotifier


def show_progress(
    console: Console, watched: Watched, rows: BinaryIO | None, *, quiet: bool
) -> AbstractAsyncContextManager[object]:
    """Show the progress of a run during a block.

    Args:
        console: The console of stderr.
        watched: The run.
        rows: The stream that receives the rows. Nothing is shown where it is a terminal.
        quiet: Show nothing, and no reasons of pauses.
    """
    watched.notifier.prints = not quiet
    if quiet or (rows is not None and rows.isatty()):
        return nullcontext()
    # `is_interactive` follows TTY_INTERACTIVE; it is also true for a pipe with FORCE_COLOR.
    can_redraw = console.is_interactive and not console.is_dumb_terminal and not console.legacy_windows
    if sys.stderr.isatty() and can_redraw:
        watched.notifier.prints = False
        return _show_display(console, watched)
    return _print_status_lines(console, watched)


@asynccontextmanager
async def _repeat(action: Callable[[], None], interval: float) -> AsyncIterator[None]:
    """Call a function again and again during a block. An error of stderr ends that, and not the block.

    A task of the event loop calls it, not a thread, because the progress of a run may only be read in its loop.
    """

    async def repeat() -> None:
        with suppress(OSError):  # the terminal is gone, or the pipe is closed
            while True:
                action()
                await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# -- a display on a terminal -------------------------------------------------------------------------------------


class Display(RichProgress):
    """The bar, with lines of figures below it."""

    def __init__(self, console: Console, watched: Watched) -> None:
        self._watched = watched
        self._figures = Figures()
        self._printed_failures = 0
        self._lines: Sequence[Text] = ()  # drawn by the constructor of the base class
        # stdout does not go to this terminal. What the process writes to stderr, such as log records, appears above.
        super().__init__(
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green", pulse_style="cyan"),
            TextColumn("{task.description}"),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            expand=True,
        )
        self._task = self.add_task("", total=None)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar and the lines; `rich.progress` calls it for each refresh."""
        yield Constrain(self.make_tasks_table(self.tasks), _MAX_BAR_WIDTH)
        for line in self._lines:
            yield Constrain(line, self.console.width - len("^C"))  # which the terminal prints behind the last one

    def redraw(self) -> None:
        """Show the present state of the run, and new failures above."""
        for line in self.new_failures():
            self.console.print(line, no_wrap=True, overflow="ellipsis")
        self.show(self._watched.progress())
        self.refresh()

    def show(self, progress: Progress) -> None:
        """Take over the figures of a moment."""
        figures = self._figures
        figures.add(progress)
        label = figures.projects()
        if failed := len(self._watched.failures()):
            label += f" · [red]{failed:,} failed[/]"
        self.update(self._task, total=progress.projects_total, completed=figures.completed, description=label)
        texts = figures.texts()
        groups = [texts] if self.console.width >= _ONE_LINE_WIDTH else [texts[:2], texts[2:]]
        lines = [Text(" · ".join(group), "dim") for group in groups]
        if reason := self._watched.notifier.reason:
            lines.append(sanitize(reason, "yellow"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        self._lines = lines

    def new_failures(self) -> list[Text]:
        """Return a line for each failure since the previous call, up to a maximum number of lines."""
        failures = self._watched.failures()
        start, self._printed_failures = self._printed_failures, len(failures)
        lines = [_failure_line(outcome) for outcome in failures[start:_MAX_PRINTED_FAILURES]]
        if start <= _MAX_PRINTED_FAILURES < len(failures):
            lines.append(Text("more failures are counted below and listed at the end", "dim"))
        return lines


def _failure_line(outcome: ProjectOutcome) -> Text:
    label, style = OUTCOME_LABELS[outcome.status]
    cause = "" if outcome.error is None else describe(outcome.error)
    return Text.assemble((label, style), "  ", sanitize(outcome.project), "  ", sanitize(cause, "dim"))


@asynccontextmanager
async def _show_display(console: Console, watched: Watched) -> AsyncIterator[None]:
    """Show the display during a block. It is erased at the end, and the failures stay."""
    with Display(console, watched) as display:
        async with _repeat(display.redraw, _REFRESH_INTERVAL):
            yield


# -- status lines elsewhere --------------------------------------------------------------------------------------


@asynccontextmanager
async def _print_status_lines(console: Console, watched: Watched) -> AsyncIterator[None]:
    """Print a line every ten seconds during a block."""
    figures = Figures()

    def print_line() -> None:
        progress = watched.progress()
        figures.add(progress)
        if progress.elapsed < _STATUS_INTERVAL / 2:
            return
        failed = len(watched.failures())
        texts = [
            figures.projects().strip(),
            *([f"{failed:,} failed"] if failed else []),
            *figures.texts(),
        ]
        console.print(Text(", ".join(texts)))

    async with _repeat(print_line, _STATUS_INTERVAL):
        yield


# -- figures -----------------------------------------------------------------------------------------------------


@define
class Figures:
    """The figures of a run, from the moments of the last seconds."""

    _samples: deque[Progress] = field(factory=deque[Progress], init=False)
    _initially_done: int | None = field(default=None, init=False)
    """More than 0 in a resumed run."""

    def add(self, progress: Progress) -> None:
        """Add a moment."""
        self._samples.append(progress)
        while self._samples[0].elapsed < progress.elapsed - _RATE_WINDOW:
            self._samples.popleft()
        if self._initially_done is None:
            self._initially_done = progress.projects_done

    @property
    def _now(self) -> Progress:
        return self._samples[-1]

    @property
    def _is_estimating(self) -> bool:
        """Whether the run requests first pages for its estimate: none is done, and not all are estimated."""
        now = self._now
        is_partial = now.projects_done + now.projects_planned != now.projects_total
        return bool(now.projects_planned) and now.projects_done == self._initially_done and is_partial

    @property
    def completed(self) -> int:
        """The number of projects that the bar shows."""
        return self._now.projects_planned if self._is_estimating else self._now.projects_done

    def projects(self) -> str:
        """Return the number of projects, padded so that the bar keeps its length."""
        total = "?" if self._now.projects_total is None else f"{self._now.projects_total:,}"
        return f"{self.completed:>{len(total)},}/{total} projects{' estimated' if self._is_estimating else ''}"

    def texts(self) -> list[str]:
        """Return the rows, the request rate, the time left, and what limits the run."""
        now = self._now
        recent = Counter(each.limited_by for each in self._samples if each.elapsed > now.elapsed - _LIMIT_WINDOW)
        limit = recent.most_common(1)[0][0]
        return [
            format_count(now.rows, "row"),
            f"{self._requests_per_minute():,.0f} requests/min",
            f"{format_duration(now.elapsed)} elapsed" if now.eta is None else f"about {format_estimate(now.eta)} left",
            f"limited by {'output' if limit == 'consumer' else limit}",
        ]

    def _requests_per_minute(self) -> float:
        """Return the request rate over the window, or since the start of the run if the window is not complete."""
        first, last = self._samples[0], self._samples[-1]
        seconds = last.elapsed - first.elapsed
        if last.elapsed <= _RATE_WINDOW or seconds < 1.0:
            return last.requests / max(last.elapsed, 1.0) * 60
        return (last.requests - first.requests) / seconds * 60
