"""The progress display, the terminals it is shown on, and the summary."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness_async import BulkReport, Progress, ProjectOutcome, ProjectRef, Stats
from harness_async.cli import run
from harness_async.cli.console import stderr_console
from harness_async.cli.progress import (
    ExportStatus,
    ExportSummary,
    ProgressDisplay,
    format_estimate,
    may_show_progress,
    print_summary,
)
from harness_async.testing import FakeHarness
from tests.support.cli_errors import failed_outcome, status_error
from tests.support.cli_runner import Terminal, export

posix = pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")

STYLES = re.compile(r"\x1b\[[\d;]*m")
COLORS = {*map(str, (*range(30, 39), *range(40, 49), *range(90, 98), *range(100, 108)))}


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {"projects_done": 12, "projects_total": 4000, "rows": 1_234_567, "requests": 400}
    values |= {"elapsed": 60.0, "eta": 4000.0, "limited_by": "rate limit"}
    return Progress(**(values | changes))


def create_display(
    width: int = 100,
    failures: Sequence[ProjectOutcome] = (),
    *,
    get_progress: Callable[[], Progress] = progress,
    retry_reason: str = "",
) -> ProgressDisplay:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)
    return ProgressDisplay(
        console, get_progress=get_progress, get_failures=lambda: failures, get_retry_reason=lambda: retry_reason
    )


def lines_of(display: ProgressDisplay, moment: Progress) -> list[str]:
    """Render a moment and return its lines without styles."""
    with display.console.capture() as capture:
        display.console.print(display.render(moment))
    return STYLES.sub("", capture.get()).splitlines()


def written(display: ProgressDisplay) -> str:
    file = display.console.file
    assert isinstance(file, io.StringIO)
    text: str = file.getvalue()
    return STYLES.sub("", text)


# -- lines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 200])
def test_lines(width: int) -> None:
    """The display is a line with the bar and the projects, a line of figures, and the reason of retries, if any."""
    failures = list(map(failed_outcome, range(3)))
    bar, figures, retry = lines_of(create_display(width, failures, retry_reason="503 \x1b"), progress())
    assert bar.startswith("━━━━")
    assert bar.endswith("   12/4,000 projects · 3 failed")
    assert figures == "1,234,567 rows · 400 requests/min · about 1:07 h left · limited by rate limit"
    assert retry == "retrying: 503 \\x1b"
    bar, figures = lines_of(
        create_display(width), progress(projects_done=0, projects_total=None, eta=None, limited_by="consumer")
    )
    assert bar.endswith(" 0/? projects")
    assert figures == "1,234,567 rows · 400 requests/min · 1:00 elapsed · limited by output"


@pytest.mark.parametrize("width", [10, 20, 30, 40, 60, 79, 80, 100, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    """No line is wider than the terminal, their number does not change, and from 44 columns nothing is cut."""
    display = create_display(width, list(map(failed_outcome, range(1200))), retry_reason="status 503")
    for moment in (progress(projects_total=None, eta=None), progress(), progress(limited_by="consumer", eta=3599.0)):
        lines = lines_of(display, moment)
        assert len(lines) == (3 if width >= 80 else 4)
        assert all(len(line) <= width for line in lines)
        assert width < 44 or "…" not in "".join(lines)


def test_bar_keeps_its_length() -> None:
    """The bar has the same length while the number of projects grows, and is left out where it has no room."""
    display = create_display(60)
    bars = [re.match("[━╺╸]+", lines_of(display, progress(projects_done=done))[0]) for done in (0, 12, 999, 4000)]
    assert [bar and len(bar[0]) for bar in bars] == [60 - len(" 4,000/4,000 projects")] * 4
    assert lines_of(create_display(23), progress())[0].strip() == "12/4,000 projects"


def test_estimated_projects() -> None:
    """Until all projects are estimated or one is done, the estimated ones are shown."""
    display = create_display()
    shown = [
        lines_of(display, progress(projects_done=done, projects_planned=planned))[0].lstrip("━╺╸ ")
        for done, planned in ((3, 0), (3, 70), (3, 3996), (3, 3997), (4, 3997))
    ]
    assert shown == [
        "3/4,000 projects",
        "70/4,000 projects estimated",
        "3,996/4,000 projects estimated",
        "3/4,000 projects",
        "4/4,000 projects",
    ]


def test_request_rate() -> None:
    """The rate is that of the last seconds: after a pause it is 0."""
    display = create_display()
    moments = [(0.5, 4), (30.0, 200), (40.0, 300), (50.0, 300)]
    figures = [lines_of(display, progress(elapsed=elapsed, requests=requests))[1] for elapsed, requests in moments]
    assert [line.split(" · ")[1] for line in figures] == [f"{rate} requests/min" for rate in (240, 400, 600, 0)]


def test_time_left() -> None:
    """The time left counts down. Estimates that differ little do not change it, one that differs much does."""
    display = create_display()

    def shown(elapsed: float, eta: float) -> str:
        found = re.search(r"about (\S+) left", lines_of(display, progress(elapsed=elapsed, eta=eta))[1])
        return found[1] if found else ""

    assert [shown(10.0 + tenth / 10, 200.0 + 4.0 * (-1) ** tenth) for tenth in range(10)] == ["3:25"] * 10
    assert [shown(110.0, 101.0), shown(111.0, 300.0), shown(112.0, 30.0)] == ["1:45", "5:00", "0:30"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0:00"),
        (41.6, "0:42"),
        (59.9, "1:00"),
        (203, "3:25"),
        (599, "10:00"),
        (760, "12:30"),
        (3590, "1:00 h"),
        (4000, "1:07 h"),
        (360_000, "100:00 h"),
    ],
)
def test_format_estimate(seconds: float, text: str) -> None:
    """An estimate is rounded to seconds below a minute, to 5 and 30 seconds below an hour, then to minutes."""
    assert format_estimate(seconds) == text


def test_new_failures() -> None:
    """Each failure is returned once, up to ten; then one line says that the others are counted."""
    failures = [failed_outcome(0)]
    display = create_display(failures=failures)
    assert list(map(str, display.new_failures())) == ["denied  default/project_0  403 missing permission"]
    assert display.new_failures() == []
    failures.extend(map(failed_outcome, range(1, 10)))
    assert len(display.new_failures()) == 9
    failures.append(failed_outcome(10))
    assert list(map(str, display.new_failures())) == ["more failures are counted below and listed at the end"]
    failures.extend(map(failed_outcome, range(11, 10_000)))
    assert display.new_failures() == []
    assert len(create_display(failures=failures).new_failures()) == 11


@pytest.mark.parametrize(
    ("outcome", "text", "style"),
    [
        (
            failed_outcome(1, "failed", status_error(502, "bad\ngateway")),
            "failed  default/project_1  502 bad gateway",
            "red",
        ),
        (
            failed_outcome(1, "not_found", status_error(404, "\x1b[2J")),
            "not found  default/project_1  404 \\x1b[2J",
            "yellow",
        ),
    ],
    ids=["failed", "not found"],
)
def test_failure_line(outcome: ProjectOutcome, text: str, style: str) -> None:
    """A failure is one line, with the status in its color and the reason without control characters."""
    (line,) = create_display(failures=[outcome]).new_failures()
    assert (line.plain, line.spans[0].style) == (text, style)


# -- the display while it runs -----------------------------------------------------------------------------------


async def test_display() -> None:
    """Failures and log records are printed above the display. At the end it is erased, and they stay."""
    failures: list[ProjectOutcome] = []
    display = create_display(40, failures)
    async with display:
        while "requests/min" not in written(display):
            await asyncio.sleep(0)
        failures.append(failed_outcome(1))
        while "denied" not in written(display):
            await asyncio.sleep(0.01)
        print("log record", file=sys.stderr)  # noqa: T201
    before, _, after = written(display).partition("denied")
    assert "\x1b[?25l" in before, "the cursor is hidden"
    assert after.startswith("  default/project_1  403 missing …\n")
    assert "\x1b[2Klog record\n" in after
    last_drawn = after.rindex("limited by")
    assert after[last_drawn:].count("\x1b[2K") == 3, "each line of the display is erased"
    assert after.endswith("\x1b[?25h\r\x1b[1A\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2K"), "the cursor is back"


async def test_display_after_an_error() -> None:
    """An exception of the block passes through, and the display is erased."""
    display = create_display()
    with pytest.raises(RuntimeError, match="of the run"):
        async with display:
            while "requests/min" not in written(display):
                await asyncio.sleep(0)
            raise RuntimeError("of the run")
    assert "\x1b[?25h" in written(display)


async def test_display_that_fails() -> None:
    """A terminal that is gone does not disturb the run. Any other error of the display is raised at the end."""

    def fail(error: Exception) -> Callable[[], Progress]:
        def get_progress() -> Progress:
            raise error

        return get_progress

    async with create_display(get_progress=fail(OSError("no terminal"))):
        await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        async with create_display(get_progress=fail(ZeroDivisionError())):
            await asyncio.sleep(0)


# -- terminals ---------------------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> FakeHarness:
    """A server with a project of three executions, and one that is denied."""
    fake = FakeHarness()
    fake.add_executions("default", "network", 3)
    fake.add_executions("default", "payments", 3)
    fake.deny("default", "payments")
    return fake


def has_colors(text: str) -> bool:
    return bool(COLORS & set(";".join(re.findall(r"\x1b\[([\d;]*)m", text)).split(";")))


@posix
@pytest.mark.parametrize(
    ("environment", "progress_shown", "colors"),
    [
        ({}, True, True),
        ({"COLUMNS": "30"}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, False),
        ({"TTY_INTERACTIVE": "0"}, False, True),
    ],
    ids=["wide", "narrow", "NO_COLOR", "dumb", "dumb and FORCE_COLOR", "TTY_INTERACTIVE"],
)
@pytest.mark.parametrize("quiet", [False, True], ids=["", "quiet"])
def test_terminal(
    server: FakeHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    *,
    progress_shown: bool,
    colors: bool,
    quiet: bool,
) -> None:
    """A terminal gets progress and colors unless it cannot show them or --quiet or the environment hides them."""
    monkeypatch.setenv("COLUMNS", "100")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    arguments = ["export", "--output", str(tmp_path / "rows"), *(["--quiet"] if quiet else [])]
    with Terminal() as terminal, redirect_stderr(terminal.stream):
        assert run(arguments) == 1
    before, title, summary = terminal.text.partition("Export incomplete")
    assert title
    assert ("\x1b[?25l" in before, "projects" in before) == (progress_shown and not quiet,) * 2
    assert has_colors(terminal.text) is colors
    if not (progress_shown or colors):
        assert "\x1b" not in terminal.text
    summary = STYLES.sub("", summary)
    assert "Denied (1)" in summary
    assert all(len(line) <= int(environment.get("COLUMNS", "100")) for line in summary.splitlines())


@posix
def test_rows_on_the_terminal(tmp_path: Path) -> None:
    """Progress is shown if the rows go to a file or nowhere, not if they go to a terminal or stderr is a pipe."""
    with Terminal() as terminal, (tmp_path / "rows").open("wb") as file, redirect_stderr(terminal.stream):
        assert may_show_progress(stderr_console(), None)
        assert may_show_progress(stderr_console(), file)
        with open(os.dup(terminal.stream.fileno()), "wb") as rows:  # noqa: PTH123 - a descriptor
            assert not may_show_progress(stderr_console(), rows)
        with redirect_stderr(io.StringIO()):
            assert not may_show_progress(stderr_console(), file)


@pytest.mark.parametrize(
    ("environment", "colors"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
    ids=["plain", "FORCE_COLOR", "both"],
)
def test_pipe(
    server: FakeHarness, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, colors: bool
) -> None:
    """A pipe gets whole lines without progress, cursor movement or trailing blanks, with colors only if forced."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = export()
    assert (result.exit_code, result.stdout.count("\n")) == (1, 3)
    assert has_colors(result.stderr) is colors
    assert ("\x1b" in result.stderr) is bool(environment)
    plain = STYLES.sub("", result.stderr)
    assert not re.search(r"[\x1b\r]| $|limited by", plain, re.MULTILINE)


# -- summary -----------------------------------------------------------------------------------------------------

COMPLETE = ProjectOutcome(project=ProjectRef("default", "network"), status="complete")


def summary_of(status: ExportStatus, outcomes: Sequence[ProjectOutcome] = (), **changes: Any) -> list[str]:
    """Return the lines of a summary."""
    console = Console(file=io.StringIO(), width=200)
    print_summary(console, create_summary(status, outcomes, **changes))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def create_summary(status: ExportStatus, outcomes: Sequence[ProjectOutcome] = (), **changes: Any) -> ExportSummary:
    report = BulkReport(
        outcomes={outcome.project: outcome for outcome in outcomes}, rows=0, requests=0, duplicates=0, elapsed=3723.4
    )
    values: dict[str, Any] = {"report": report, "stats": Stats(), "rows": 0, "output": None, "unlisted": {}}
    return ExportSummary(status=status, **(values | changes))


def test_summary() -> None:
    """The summary counts projects by status, rows and requests, and groups failures by status and hint."""
    outcomes = [failed_outcome(1), COMPLETE, failed_outcome(2, "failed", status_error(502, "bad\x1b[2J"))]
    stats = Stats(requests=1234, retries=5, throttled=6)
    lines = summary_of("incomplete", outcomes, stats=stats, rows=1_234_567, output="rows.jsonl")
    assert lines[:-2] == [
        "Export incomplete",
        "  complete          1  project",
        "  failed            1  project",
        "  denied            1  project",
        "  rows      1,234,567  in rows.jsonl",
        "  requests      1,234  5 retried, 6 throttled",
        "  time        1:02:03",
        "",
        "Failed (1)  The server failed. Run again later.",
        "  default/project_2  502 bad\\x1b[2J",
        "",
        "Denied (1)  The key may not read this. Request the view permission.",
        "  default/project_1  403 missing permission",
    ]


def test_many_failures() -> None:
    """The summary lists twenty failures of a kind and counts the others."""
    lines = summary_of("incomplete", list(map(failed_outcome, range(25))))
    assert sum(line.startswith("  default/project_") for line in lines) == 20
    assert lines[-1] == "  and 5 more"


RESUME = "The checkpoint is kept: run the same command again to resume."
RESUME_FAILED = f"{RESUME} Failed projects are requested again, complete ones are not."
RESTART = "The next run starts from the beginning. With --checkpoint FILE, it resumes an interrupted run."
AGAIN = "The next run requests everything again. With --checkpoint FILE, it requests only what is not complete."


@pytest.mark.parametrize(
    ("status", "outcomes", "with_checkpoint", "without_checkpoint"),
    [
        ("interrupted", [], RESUME, RESTART),
        ("interrupted", [COMPLETE, failed_outcome(1)], RESUME_FAILED, RESTART),
        ("stopped", [], RESUME, ""),
        ("stopped", [COMPLETE], RESUME, AGAIN),
        ("incomplete", [failed_outcome(1)], RESUME_FAILED, ""),
        ("incomplete", [COMPLETE, failed_outcome(1)], RESUME_FAILED, AGAIN),
        ("complete", [COMPLETE], "", ""),
    ],
)
def test_next_step(
    tmp_path: Path,
    status: ExportStatus,
    outcomes: list[ProjectOutcome],
    with_checkpoint: str,
    without_checkpoint: str,
) -> None:
    """The summary says how to resume, or which options are missing for that, unless there is nothing to keep."""
    path = tmp_path / "run"
    for checkpoint, step in ((path, ""), (None, without_checkpoint)):
        assert next_step(summary_of(status, outcomes, output="rows", checkpoint=checkpoint)) == step
    to_stdout = without_checkpoint.replace("--checkpoint", "--output FILE and --checkpoint")
    assert next_step(summary_of(status, outcomes)) == to_stdout
    path.write_text("")
    assert next_step(summary_of(status, outcomes, output="rows", checkpoint=path)) == with_checkpoint


def next_step(lines: list[str]) -> str:
    """Return the last line of a summary if it is a sentence about the next run."""
    return lines[-1] if "checkpoint" in lines[-1] else ""


@posix
def test_ctrl_c_is_erased() -> None:
    """The summary of an interrupted export erases the "^C" on a terminal, and nothing in a file with colors."""
    summary = create_summary("interrupted")
    with Terminal() as terminal:
        print_summary(Console(file=terminal.stream, width=80), summary)
    assert terminal.text.startswith("\r\x1b[2K")
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    print_summary(console, summary)
    assert isinstance(console.file, io.StringIO)
    assert STYLES.sub("", console.file.getvalue()).startswith("Export interrupted")
