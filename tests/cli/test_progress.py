"""The progress of `export` and `sync`: the display, and status lines."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, Group

from harness_async import Progress, ProjectOutcome
from harness_async.cli import run
from harness_async.cli.logs import messages_on_stderr
from harness_async.cli.pauses import PauseNotifier
from harness_async.cli.progress import Display, Watched, show_progress
from harness_async.testing import FakeHarness
from tests.support import virtual
from tests.support.cli_errors import failed_outcome, status_error
from tests.support.cli_runner import STYLES, Terminal, posix


def progress(**changes: Any) -> Progress:
    """Create the progress of a moment."""
    values: dict[str, Any] = {"projects_done": 12, "projects_total": 4000, "rows": 1_234_567, "requests": 400}
    return Progress(**(values | {"elapsed": 60.0, "eta": 4000.0, "limited_by": "rate limit"} | changes))


def watched(
    get_progress: Callable[[], Progress] = progress, failures: Sequence[ProjectOutcome] = (), reason: str = ""
) -> Watched:
    """Create what a display shows."""
    notifier = PauseNotifier()
    notifier.reason = reason
    return Watched(progress=get_progress, failures=lambda: failures, notifier=notifier)


def lines_of(width: int, shown: Watched, *moments: Progress) -> list[str]:
    """Return the lines of the display at the last of these moments, without styles."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)
    display = Display(console, shown)
    for moment in moments:
        display.show(moment)
    with console.capture() as capture:
        console.print(Group(*display.get_renderables()))
    return [line.rstrip() for line in STYLES.sub("", capture.get()).splitlines() if line]


def test_lines() -> None:
    """The display is the bar with the projects, a line of figures, and the reason of a pause."""
    bar, figures, reason = lines_of(
        80, watched(failures=list(map(failed_outcome, range(3))), reason="Retrying: 503 \x1b[2J"), progress()
    )
    assert re.fullmatch(r"[━╺╸]{40,}    12/4,000 projects · 3 failed", bar)
    assert figures == "1,234,567 rows · 400 requests/min · about 1:07 h left · limited by rate limit"
    assert reason == "Retrying: 503 \\x1b[2J"
    _, figures = lines_of(80, watched(), progress(projects_total=None, eta=None, limited_by="consumer"))
    assert figures.endswith("1:00 elapsed · limited by output")


@pytest.mark.parametrize("width", [30, 44, 80, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    """No line is wider than the terminal, and from 44 columns nothing is cut."""
    shown = watched(failures=list(map(failed_outcome, range(1200))), reason="Retrying: 503")
    lines = lines_of(width, shown, progress())
    assert len(lines) == (3 if width >= 80 else 4)
    assert len(lines[0]) <= width
    assert all(len(line) <= width - len("^C") for line in lines[1:]), "room for what the terminal prints on Ctrl-C"
    assert width < 44 or "…" not in "".join(lines)


@pytest.mark.parametrize(
    ("moments", "projects", "rate"),
    [
        ([{"projects_done": 3}, {"projects_done": 3, "projects_planned": 70}], "70/4,000 projects estimated", "400"),
        ([{"projects_done": 3}, {"projects_done": 3, "projects_planned": 3997}], "3/4,000 projects", "400"),
        ([{"elapsed": 0.5, "requests": 4}], "12/4,000 projects", "240"),
        ([{"elapsed": 30, "requests": 200}, {"elapsed": 40, "requests": 300}], "12/4,000 projects", "600"),
        ([{"elapsed": 40, "requests": 300}, {"elapsed": 50, "requests": 300}], "12/4,000 projects", "0"),
    ],
    ids=["estimating", "estimated", "start", "fast", "pause"],
)
def test_figures(moments: list[dict[str, Any]], projects: str, rate: str) -> None:
    """Estimated projects are shown until one is done; the rate is that of the last seconds, 0 in a pause."""
    bar, figures = lines_of(100, watched(), *(progress(**moment) for moment in moments))
    assert bar.lstrip("━╺╸ ") == projects
    assert figures.split(" · ")[1] == f"{rate} requests/min"


def test_new_failures() -> None:
    """Each failure is printed once, up to ten, without control characters; the others are only counted."""
    failures = [failed_outcome(0), failed_outcome(1, "not_found", status_error(404, "\x1b[2J"))]
    display = Display(Console(file=io.StringIO()), watched(failures=failures))
    assert list(map(str, display.new_failures())) == [
        "denied  default/project_0  403: missing permission",
        "not found  default/project_1  404: \\x1b[2J",
    ]
    failures.extend(map(failed_outcome, range(2, 10)))
    assert len(display.new_failures()) == 8
    failures.append(failed_outcome(10))
    assert list(map(str, display.new_failures())) == ["more failures are counted below and listed at the end"]


@posix
async def test_display_is_erased() -> None:
    """Failures and log records are printed above the display, which is erased at the end, also after an error."""
    failures: list[ProjectOutcome] = []
    with Terminal() as terminal, redirect_stderr(terminal.stream):
        console = Console(file=terminal.stream, width=40, force_terminal=True)
        with pytest.raises(RuntimeError, match="of the run"):
            async with show_progress(console, watched(failures=failures), None, quiet=False):
                while "requests/min" not in terminal.text:
                    await asyncio.sleep(0)
                with messages_on_stderr():
                    logging.getLogger("harness_async").warning("log record")
                failures.append(failed_outcome(1))
                while "denied" not in terminal.text:
                    await asyncio.sleep(0.01)
                raise RuntimeError("of the run")
    assert re.search(r"\x1b\[2K\d\d:\d\d:\d\d WARNING log record\n", terminal.text)
    assert "denied  default/project_1  403: missing…\n" in STYLES.sub("", terminal.text)
    assert terminal.text.endswith("\x1b[?25h\r\x1b[1A\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2K"), "the cursor is back"


def test_terminal_that_is_gone() -> None:
    """A stderr that cannot be written any more does not disturb the run."""

    def fail() -> Progress:
        raise OSError("no terminal")

    async def main() -> None:
        async with show_progress(Console(file=io.StringIO()), watched(fail), None, quiet=False):
            await asyncio.sleep(1)

    virtual.run(main())


@pytest.mark.parametrize("quiet", [False, True], ids=["", "quiet"])
def test_status_lines(quiet: bool) -> None:
    """Where stderr is no terminal, a line is printed every 10 s, and none with --quiet."""
    stream = io.StringIO()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        shown = watched(lambda: progress(elapsed=loop.time() - start, rows=5), [failed_outcome(1)])
        async with show_progress(Console(file=stream, width=200), shown, None, quiet=quiet):
            await asyncio.sleep(25)

    virtual.run(main())
    line = "12/4,000 projects, 1 failed, 5 rows, {} requests/min, about 1:07 h left, limited by rate limit"
    assert stream.getvalue().splitlines() == ([] if quiet else [line.format("2,400"), line.format("0")])


@pytest.fixture
def fake() -> FakeHarness:
    """A server with a project of three executions, and one that is denied."""
    fake = FakeHarness()
    fake.add_executions("default", "network", 3)
    fake.add_executions("default", "payments", 3)
    fake.deny("default", "payments")
    return fake


@posix
@pytest.mark.parametrize(
    ("environment", "arguments", "shown", "colors"),
    [
        ({}, [], True, True),
        ({}, ["--quiet"], False, True),
        ({"NO_COLOR": "1"}, [], True, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, [], False, False),
    ],
    ids=["plain", "quiet", "NO_COLOR", "dumb"],
)
def test_terminal(
    server: FakeHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: list[str],
    *,
    shown: bool,
    colors: bool,
) -> None:
    """A terminal gets a display and colors unless it cannot show them, or --quiet or the environment hides them."""
    monkeypatch.setenv("COLUMNS", "100")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Terminal() as terminal, redirect_stderr(terminal.stream):
        assert run(["export", "--output", str(tmp_path / "rows"), *arguments]) == 1
    before, title, _ = terminal.text.partition("Export incomplete")
    assert title
    assert ("\x1b[?25l" in before) is shown
    assert bool(re.search(r"\x1b\[[\d;]*(3|4|9|10)\d", terminal.text)) is colors
