"""The progress of an export on a terminal that is narrow, dumb or resized, the failures above it, and the closing."""

from __future__ import annotations

import asyncio
import codecs
import io
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness_async import BulkReport, Progress, ProjectOutcome, ProjectRef
from harness_async.cli.console import hint_for
from harness_async.cli.progress import (
    ExportStatus,
    ExportSummary,
    LiveLines,
    ProgressDisplay,
    format_estimate,
    print_summary,
)
from harness_async.errors import (
    DeadlineExceededError,
    DecodeError,
    ErrorDetails,
    HarnessError,
    PaginationError,
    RequestTimeoutError,
    TransportError,
    UnexpectedResponseError,
    status_error_class,
)
from harness_async.outcomes import OutcomeStatus
from harness_async.stats import Stats
from harness_async.testing import Delay, FakeHarness, run_in_thread

posix = pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")

COLOURS = {*map(str, (*range(30, 39), *range(40, 49), *range(90, 98), *range(100, 108)))}


@pytest.fixture(scope="module", autouse=True)
def _no_stray_loop() -> None:
    """Keep looptime from making a loop for plain tests, which would then be left behind unclosed."""
    asyncio.set_event_loop(None)


# -- a terminal --------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """What a terminal shows of the sequences that the progress uses; it knows no others.

    When its width changes it wraps its lines anew, as most do, or cuts them, as xterm does.
    """

    def __init__(self, columns: int, *, reflow: bool = True, rows: int = 24) -> None:
        super().__init__()
        self.columns, self.reflow, self.rows = columns, reflow, rows
        self.told = ""  # all that was written to it
        self.cursor = True
        self._lines, self._goes_on = [""], [False]  # those that have scrolled away included
        self._top = self._row = self._column = 0
        self._wrap = True
        self._rest = ""

    def write(self, text: str) -> int:
        self.told += text
        text = self._rest + text
        cut = re.search(r"\x1b(\[[?\d;]*)?$", text)  # the rest of the sequence is still to come
        text, self._rest = (text, "") if cut is None else (text[: cut.start()], cut.group())
        for code, letter, char in re.findall(r"\x1b\[([?\d;]*)([A-Za-z])|(.)", text, re.DOTALL):
            match char:
                case "":
                    self._obey(code, letter)
                case "\r":
                    self._column = 0
                case "\n":
                    self._feed()
                case _:
                    assert char.isprintable(), repr(char)
                    self._put(char)
        return len(text)

    def isatty(self) -> bool:
        return True

    def resize(self, columns: int) -> None:
        if self.reflow:
            self._rewrap(columns)
        else:
            self._lines = [line[:columns] for line in self._lines]
            self._goes_on = [False] * len(self._lines)
            self._column = min(self._column, columns - 1)
        self.columns = columns

    @property
    def text(self) -> list[str]:
        """The lines, those that have scrolled away included, without blanks and blank ones at the end."""
        return "\n".join(line.rstrip() for line in self._lines).rstrip("\n").split("\n")

    def _rewrap(self, columns: int) -> None:
        lines, goes_on, row, column = [""], [False], 0, 0
        for number, (line, more) in enumerate(zip(self._lines, self._goes_on, strict=True)):
            if number == self._row:
                place = len(lines[-1]) + self._column
                row, column = len(lines) - 1 + place // columns, place % columns
            lines[-1] += line
            while len(lines[-1]) > columns:
                goes_on[-1] = True
                lines[-1:] = [lines[-1][:columns], lines[-1][columns:]]
                goes_on.append(False)
            if not more:
                lines.append("")
                goes_on.append(False)
        self._lines, self._goes_on, self._row, self._column = lines[:-1], goes_on[:-1], row, column
        self._top = min(max(0, len(self._lines) - self.rows), row)

    def _obey(self, code: str, letter: str) -> None:
        match letter, code:
            case "A", _:
                self._row = max(self._top, self._row - int(code or 1))
            case "J", "":
                self._lines[self._row :] = [self._lines[self._row][: self._column]]
                self._goes_on[self._row :] = [False]
            case "K", "2":
                self._lines[self._row], self._goes_on[self._row] = "", False
            case (("h" | "l"), "?7"):
                self._wrap = letter == "h"
            case (("h" | "l"), "?25"):
                self.cursor = letter == "h"
            case "m", _:
                pass
            case _:
                raise AssertionError(f"no sequence that it knows: {code}{letter}")

    def _feed(self) -> None:
        self._row, self._column = self._row + 1, 0
        if self._row == len(self._lines):
            self._lines.append("")
            self._goes_on.append(False)
        self._top = max(self._top, self._row - self.rows + 1)

    def _put(self, char: str) -> None:
        if self._column >= self.columns:
            if self._wrap:
                self._goes_on[self._row] = True
                self._feed()
            else:
                self._column = self.columns - 1
        line = self._lines[self._row].ljust(self._column)
        self._lines[self._row] = line[: self._column] + char + line[self._column + 1 :]
        self._column += 1


class Screen:
    """A process whose standard error, or all of its output, goes to a terminal that can be resized."""

    def __init__(self, terminal: Terminal, *, talk: bool = False) -> None:
        self.terminal = terminal
        self._talk = talk
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @contextmanager
    def run(self, *command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        import pty

        self._end, slave = pty.openpty()
        self.resize(self.terminal.columns)
        inherited = {name: value for name, value in os.environ.items() if name not in _ABOUT_TERMINALS}
        other = subprocess.PIPE if self._talk else slave
        try:
            with subprocess.Popen(  # noqa: S603 - our own commands
                [sys.executable, *command],
                stdin=subprocess.PIPE if self._talk else subprocess.DEVNULL,
                stdout=other,
                stderr=slave,
                env={**inherited, "TERM": "xterm-256color", **environ},
                text=True,
            ) as process:
                os.close(slave)
                try:
                    yield process
                    while self._read():
                        pass
                finally:
                    process.kill()
        finally:
            os.close(self._end)

    def resize(self, columns: int) -> None:
        import fcntl
        import termios

        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", self.terminal.rows, columns, 0, 0))
        self.terminal.resize(columns)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Read until what is shown is as wanted."""
        while not condition():
            assert self._read(), f"the end came before: {self.terminal.text}"

    def _read(self) -> bool:
        try:
            data = os.read(self._end, 65536)
        except OSError:  # how a terminal ends on Linux
            return False
        self.terminal.write(self._decoder.decode(data))
        return bool(data)


_ABOUT_TERMINALS = {
    *("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
}


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {"projects_done": 12, "projects_total": 4000, "rows": 1_234_567, "requests": 400}
    values |= {"elapsed": 60.0, "eta": 4000.0, "limited_by": "rate limit"}
    return Progress(**(values | changes))


def make_error(status: int, message: str = "missing permission") -> HarnessError:
    return status_error_class(status)(ErrorDetails(message=message), status=status, method="GET", url="https://x")


def fail(number: int, status: OutcomeStatus = "denied", error: HarnessError | None = None) -> ProjectOutcome:
    ref = ProjectRef("default", f"project_{number}")
    return ProjectOutcome(project=ref, status=status, error=error or make_error(403))


def make_console(terminal: Terminal) -> Console:
    return Console(file=terminal, width=terminal.columns, height=terminal.rows, force_terminal=True, highlight=False)


def render(view: ProgressDisplay, moment: Progress) -> list[str]:
    """Give the lines of a moment without their styles."""
    with view.console.capture() as captured:
        view.console.print(view.render(moment))
    return re.sub("\x1b\\[[0-9;]*m", "", captured.get()).splitlines()


# -- lines drawn in their place ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reflow", [True, False], ids=["wraps anew", "cuts"])
@pytest.mark.parametrize("before", [1, 40], ids=["top", "bottom"])
@pytest.mark.parametrize("late", [False, True], ids=["known", "not yet known"])
def test_a_resize_leaves_nothing_behind(*, reflow: bool, before: int, late: bool) -> None:
    """At every width there are the lines of this moment and no others, even those drawn before the change is known."""
    terminal = Terminal(100, reflow=reflow)
    console = make_console(terminal)
    history = ["$ export"] * before
    terminal.write("".join(f"{line}\n" for line in history))
    failures: list[ProjectOutcome] = []
    view = ProgressDisplay(console, progress, lambda: "status 503", lambda: failures)
    with LiveLines(console) as lines:
        assert not terminal.cursor
        for width in (100, 60, 20, 30, 100, 44, 120, 10, 80):
            terminal.resize(width)
            if late:
                lines.draw(view.render(progress()))
            console.width = width
            lines.draw(view.render(progress()))
            shown = terminal.text
            assert shown[:before] == history
            assert shown[before:] == [line.rstrip() for line in render(view, progress())]
    assert terminal.text == history
    assert terminal.cursor
    assert terminal._wrap


@pytest.mark.parametrize("reflow", [True, False], ids=["wraps anew", "cuts"])
def test_failures_stay_above_the_lines(*, reflow: bool) -> None:
    """Each in a line of its own in the order in which they come, whatever the width is meanwhile, and after the end."""
    terminal = Terminal(100, reflow=reflow, rows=8)
    console = make_console(terminal)
    failures: list[ProjectOutcome] = []
    view = ProgressDisplay(console, progress, str, lambda: failures)
    with LiveLines(console) as lines:
        for number, width in enumerate((100, 60, 76, 70, 65)):
            terminal.resize(width)
            console.width = width
            failures.append(fail(number))
            lines.draw(view.render(progress()), view.news())
            assert len(terminal.text) == number + 1 + len(render(view, progress()))
    assert terminal.text == [f"denied  default/project_{number}  403 missing permission" for number in range(5)]


def test_a_terminal_of_few_rows_gets_as_many_lines() -> None:
    """What does not fit would scroll, and stay."""
    terminal = Terminal(30, rows=2)
    console = make_console(terminal)
    view = ProgressDisplay(console, progress, str)
    with LiveLines(console) as lines:
        for _ in range(3):
            lines.draw(view.render(progress()))
            assert len(terminal.text) == 2
    assert terminal.text == [""]


_CHILD = """
import sys
from rich.console import Console
from rich.text import Text
from harness_async.cli.progress import LiveLines
console = Console(stderr=True)
with LiveLines(console) as lines:
    for word in sys.stdin:
        row = Text(word.strip() * console.width, no_wrap=True, overflow="crop")
        lines.draw(Text("\\n").join([row] * 3), [Text(f"above {console.width}")])
        print(console.width, flush=True)
"""


@posix
@pytest.mark.parametrize("reflow", [True, False], ids=["wraps anew", "cuts"])
def test_the_width_is_asked_of_the_terminal_each_time(*, reflow: bool) -> None:
    """On a terminal that the kernel resizes, the next drawing has the new width and the old one is gone."""
    screen, above = Screen(Terminal(80, reflow=reflow), talk=True), []
    with screen.run("-c", _CHILD) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, width in enumerate((80, 33, 25, 90)):
            screen.resize(width)
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{width}\n"
            above.append(f"above {width}")
            expected = [*above, *[f"{number}" * width] * 3]
            screen.wait(lambda expected=expected: screen.terminal.text == expected)  # type: ignore[misc]
        process.stdin.close()
        assert process.wait() == 0
    assert screen.terminal.text == above


# -- what the lines say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [10, 20, 30, 40, 44, 60, 80, 100])
def test_the_lines_fit_with_failures_too(width: int) -> None:
    """As many at every moment as the width allows, none wider than the terminal; the failures are counted in them."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    failures: list[ProjectOutcome] = []
    view = ProgressDisplay(console, progress, str, lambda: failures)
    shown = render(view, progress())
    assert "failed" not in "".join(shown)
    failures.extend(map(fail, range(1200)))
    for moment in (progress(projects_total=None, eta=None), progress(limited_by="consumer"), progress(eta=3599.0)):
        lines = render(view, moment)
        assert len(lines) == len(shown) + (width < 44)
        assert all(len(line) <= width for line in lines)
        assert width < 20 or "".join(lines).count("1,200 failed") == 1
        assert width < 40 or "…" not in "".join(lines)


def test_the_bar_keeps_its_length_and_gives_way() -> None:
    """It does not move while the projects get more, and where there is no room there are only the figures."""
    view = ProgressDisplay(
        Console(file=io.StringIO(), width=60, force_terminal=True, color_system="standard"), progress, str
    )
    heads = [render(view, progress(projects_done=done))[0] for done in (0, 12, 999, 4000)]
    assert [len(head) - len(head.lstrip("━╺╸")) for head in heads] == [60 - len(" 4,000/4,000 projects")] * 4
    view = ProgressDisplay(Console(file=io.StringIO(), width=23), progress, str)
    assert render(view, progress())[0].strip() == "12/4,000 projects"


def test_the_first_pages_of_a_plan_are_counted() -> None:
    """Until all were looked at or one is done it is those looked at that show how far the run is."""
    view = ProgressDisplay(Console(file=io.StringIO(), width=80), progress, str)
    heads = [
        render(view, progress(projects_done=done, projects_planned=planned))[0].lstrip("━╺╸ ")
        for done, planned in ((3, 0), (3, 70), (3, 3996), (3, 3997), (4, 3997))
    ]
    words = [
        "3/4,000 projects",
        "70/4,000 projects looked at",
        "3,996/4,000 projects looked at",
        "3/4,000 projects",
        "4/4,000 projects",
    ]
    assert heads == words


def test_failures_are_told_up_to_a_number() -> None:
    """Ten of them once each, then one line that the rest are counted."""
    failures = [fail(0)]
    view = ProgressDisplay(Console(file=io.StringIO(), width=80), progress, str, lambda: failures)
    assert list(map(str, view.news())) == ["denied  default/project_0  403 missing permission"]
    assert view.news() == []
    failures.extend(map(fail, range(1, 9)))
    assert len(view.news()) == 8
    failures.append(fail(9))
    assert list(map(str, view.news())) == ["denied  default/project_9  403 missing permission"]
    assert view.news() == []
    failures.append(fail(10))
    assert list(map(str, view.news())) == ["more failures are counted below and explained at the end"]
    failures.extend(map(fail, range(11, 10_000)))
    assert view.news() == []
    at_once = ProgressDisplay(view.console, progress, str, lambda: failures)
    assert len(at_once.news()) == 11
    assert at_once.news() == []


@pytest.mark.parametrize(
    ("outcome", "text", "style"),
    [
        (fail(1, "failed", make_error(502, "bad\ngateway")), "failed  default/project_1  502 bad gateway", "red"),
        (fail(1), "denied  default/project_1  403 missing permission", "yellow"),
        (fail(1, "not_found", make_error(404, "\x1b[2J")), "not found  default/project_1  404 \\x1b[2J", "yellow"),
    ],
    ids=["failed", "denied", "not found"],
)
def test_a_failure_is_one_line_in_its_colour(outcome: ProjectOutcome, text: str, style: str) -> None:
    """With the status and the reason; what the server says cannot steer the terminal, and what is too long is cut."""
    (line,) = ProgressDisplay(Console(), progress, str, lambda: [outcome]).news()
    assert line.plain == text
    assert line.spans[0].style == style
    terminal = Terminal(20)
    LiveLines(make_console(terminal)).draw("lines", [line])
    assert terminal.text == [f"{text[:19]}…", "lines"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0:00"),
        (41.6, "0:42"),
        (59.9, "1:00"),
        (201, "3:20"),
        (203, "3:25"),
        (599, "10:00"),
        (760, "12:30"),
        (3590, "1:00 h"),
        (4000, "1:07 h"),
        (7199, "2:00 h"),
        (360_000, "100:00 h"),
    ],
)
def test_the_longer_an_estimate_the_coarser(seconds: float, text: str) -> None:
    """Seconds below a minute, then five and thirty of them, from an hour on minutes."""
    assert format_estimate(seconds) == text


def test_the_time_left_counts_down_and_does_not_jump() -> None:
    """Estimates that differ a little do not move the end; one that differs much does."""
    view = ProgressDisplay(Console(file=io.StringIO(), width=100), progress, str)

    def shown(elapsed: float, eta: float | None) -> str:
        return view._time(progress(elapsed=elapsed, eta=eta))

    assert shown(5.0, None) == "0:05 so far"
    assert [shown(10.0 + tenth / 10, 200.0 + 4.0 * (-1) ** tenth) for tenth in range(10)] == ["about 3:25 left"] * 10
    assert shown(110.0, 101.0) == "about 1:45 left"
    assert shown(111.0, 300.0) == "about 5:00 left"
    assert shown(112.0, 30.0) == "about 0:30 left"
    assert shown(145.0, 0.4) == "about 0:00 left"


# -- the closing -------------------------------------------------------------------------------------------------

ANEW = "The next run asks for everything again. With {}, it asks only for what is not complete."
KEPT = "The checkpoint is kept: run the same command again to go on from here."
ASKED = "What failed is asked for again, what is complete is not."


def closing_of(
    ending: ExportStatus, outcomes: Sequence[ProjectOutcome] = (), checkpoint: Path | None = None, target: str = ""
) -> list[str]:
    report = BulkReport(
        outcomes={outcome.project: outcome for outcome in outcomes}, rows=0, requests=0, duplicates=0, elapsed=0.0
    )
    console = Console(file=io.StringIO(), width=200)
    print_summary(
        console,
        ExportSummary(
            report=report, stats=Stats(), rows=0, target=target, ending=ending, unlisted={}, checkpoint=checkpoint
        ),
    )
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


COMPLETE = ProjectOutcome(project=ProjectRef("default", "network"), status="complete")


@pytest.mark.parametrize(
    ("ending", "outcomes", "step"),
    [
        ("interrupted", [], KEPT),
        ("interrupted", [COMPLETE, fail(1)], f"{KEPT} {ASKED}"),
        ("incomplete", [COMPLETE, fail(1)], f"{KEPT} {ASKED}"),
        ("stopped", [COMPLETE], KEPT),
        ("complete", [COMPLETE], None),
    ],
    ids=["interrupted", "with failures", "incomplete", "stopped", "complete"],
)
def test_with_a_checkpoint_the_closing_says_how_to_go_on(
    tmp_path: Path, ending: ExportStatus, outcomes: list[ProjectOutcome], step: str | None
) -> None:
    """Run the same command again, and what that asks for; not where there is nothing to go on from."""
    path = tmp_path / "run"
    assert "checkpoint" not in "".join(closing_of(ending, outcomes, path)), "nothing was begun"
    path.write_text("")
    lines = closing_of(ending, outcomes, path)
    assert lines[-1] == step if step else "checkpoint" not in "".join(lines)


@pytest.mark.parametrize(
    ("ending", "outcomes", "step"),
    [
        ("interrupted", [], "The next run begins anew. With {}, an interrupted run goes on when it is run again."),
        ("stopped", [COMPLETE], ANEW),
        ("incomplete", [COMPLETE, fail(1)], ANEW),
        ("incomplete", [fail(1)], None),
        ("stopped", [], None),
        ("complete", [COMPLETE], None),
    ],
    ids=["interrupted", "stopped", "incomplete", "nothing complete", "nothing done", "complete"],
)
def test_without_a_checkpoint_the_closing_says_what_would_let_a_run_go_on(
    ending: ExportStatus, outcomes: list[ProjectOutcome], step: str | None
) -> None:
    """The options that are missing, where there was anything to lose."""
    for target, options in (("", "--output FILE and --checkpoint FILE"), ("in rows", "--checkpoint FILE")):
        lines = closing_of(ending, outcomes, target=target)
        assert lines[-1] == step.format(options) if step else "--checkpoint" not in "".join(lines)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "file"])
def test_the_echo_of_ctrl_c_is_erased_on_a_terminal_only(*, terminal: bool) -> None:
    """In a file that is told to be coloured like a terminal nothing erases anything."""
    screen = Terminal(80)
    screen.isatty = lambda: terminal  # type: ignore[method-assign]
    screen.write("^C")
    report = BulkReport(outcomes={}, rows=0, requests=0, duplicates=0, elapsed=0.0)
    closing = ExportSummary(report=report, stats=Stats(), rows=0, target="", ending="interrupted", unlisted={})
    print_summary(make_console(screen), closing)
    assert screen.text[0] == ("Export interrupted" if terminal else "^CExport interrupted")


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (make_error(400), "check the options"),
        (make_error(403), "ask for the permission"),
        (make_error(404), "harness-async projects"),
        (make_error(408), "at this moment: run again later"),
        (make_error(409), "at this moment: run again later"),
        (make_error(422), "check the options"),
        (make_error(423), "at this moment: run again later"),
        (make_error(429), "--requests-per-minute"),
        (make_error(503), "in trouble: run again later"),
        (DeadlineExceededError("late"), "slow or in trouble: run again later"),
        (RequestTimeoutError("no answer in 30 s"), "No answer in time: run again later"),
        (TransportError("refused"), "check the network and the address"),
        (UnexpectedResponseError("HTML"), "sign-in page"),
        (DecodeError("does not fit"), "newer harness-async"),
        (PaginationError("a page again"), "Run again."),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "status", "")) if isinstance(value, Exception) else "",
)
def test_every_failure_has_its_next_step(error: HarnessError, step: str) -> None:
    """In the closing table, in the head of its group; what passes by itself is not blamed on the options."""
    assert step in hint_for(error)
    lines = closing_of("incomplete", [fail(1, "failed", error)])
    assert f"Failed (1)  {hint_for(error)}" in lines


# -- an export on a terminal -------------------------------------------------------------------------------------

EXPORT = ("-m", "harness_async", "export", "--requests-per-minute", "60000")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarness]:
    """A running server with a project of three rows and one that is denied, and the environment that leads to it."""
    fake = FakeHarness()
    fake.add_executions("default", "network", 3)
    fake.add_executions("default", "payments", 3)
    fake.deny("default", "payments")
    with run_in_thread(fake):
        for name in ("HARNESS_PLATFORM_API_KEY", "HARNESS_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_ACCOUNT_ID", fake.account_id)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        yield fake


def colours(text: str) -> set[str]:
    codes = ";".join(re.findall(r"\x1b\[([\d;]*)m", text))
    return COLOURS & set(codes.split(";"))


@posix
@pytest.mark.parametrize("reflow", [True, False], ids=["wraps anew", "cuts"])
@pytest.mark.parametrize("checkpoint", [False, True], ids=["without", "with checkpoint"])
def test_ctrl_c_on_a_resized_terminal_leaves_failures_and_the_table(
    server: FakeHarness, tmp_path: Path, *, reflow: bool, checkpoint: bool
) -> None:
    """A failure shows while another project is still read; at the end there is no line of the progress left."""
    server.faults.add(Delay(3600), path="*/network/*", times=None)
    files = ["--output", str(tmp_path / "rows"), *(["--checkpoint", str(tmp_path / "run")] if checkpoint else [])]
    screen = Screen(Terminal(100, reflow=reflow))
    with screen.run(*EXPORT, *files) as process:
        screen.wait(lambda: "1/2 projects · 1 failed" in "\n".join(screen.terminal.text))
        screen.resize(60)
        screen.wait(lambda: screen.terminal.text[-2].endswith("requests/min"))
        screen.resize(35)
        screen.wait(lambda: screen.terminal.text[-1] == "1 failed")
        screen.resize(90)
        screen.wait(lambda: "requests/min" in screen.terminal.text[-1])
        screen.terminal.write("^C")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    failure = "denied  default/payments  403 missing permission"
    first, title, *table, step = screen.terminal.text
    assert (first, title) == (failure if reflow else failure[:35], "Export interrupted")
    assert not re.search("requests/min|limited by|so far|left|━", "\n".join(table))
    assert "  default/payments  403 missing permission" in table
    assert ("again to go on from here" if checkpoint else "With --checkpoint FILE, an interrupted run") in " ".join(
        [*table[-2:], step]
    )
    assert screen.terminal.cursor


@posix
@pytest.mark.parametrize(
    ("width", "environ", "drawn", "coloured"),
    [
        (100, {}, True, True),
        (40, {}, True, True),
        (20, {}, True, True),
        (40, {"NO_COLOR": "1"}, True, False),
        (100, {"TERM": "dumb"}, False, False),
        (20, {"TERM": "dumb"}, False, False),
        (40, {"TERM": "dumb", "FORCE_COLOR": "1"}, False, False),
        (40, {"TTY_INTERACTIVE": "0"}, False, True),
    ],
    ids=[
        "wide",
        "narrow",
        "narrowest",
        "NO_COLOR",
        "dumb",
        "dumb and narrow",
        "dumb and FORCE_COLOR",
        "TTY_INTERACTIVE",
    ],
)
def test_the_terminal_gets_what_it_can_show(
    server: FakeHarness, tmp_path: Path, width: int, environ: Mapping[str, str], *, drawn: bool, coloured: bool
) -> None:
    """Colours and lines drawn in place, unless it says that it cannot or will not; the closing table in any case."""
    screen = Screen(Terminal(width))
    with screen.run(*EXPORT, "--output", str(tmp_path / "rows"), **environ) as process:
        pass
    assert process.returncode == 1
    told = screen.terminal.told
    assert bool(colours(told)) is coloured
    assert ("\x1b[?25l" in told, "projects" in told.partition("Export incomplete")[0]) == (drawn, drawn)
    if not drawn and not coloured:
        assert "\x1b" not in told
    assert "Export incomplete" in screen.terminal.text
    assert "Denied (1)" in "\n".join(screen.terminal.text)
    assert not any(screen.terminal._goes_on), "a line is wider than the terminal"


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
    ids=["plain", "FORCE_COLOR", "both"],
)
def test_a_pipe_gets_whole_lines_and_nothing_that_moves(
    server: FakeHarness, environ: Mapping[str, str], *, coloured: bool
) -> None:
    """No progress, no cursor, no lines filled up with blanks, and colours only where they are asked for."""
    inherited = {name: value for name, value in os.environ.items() if name not in _ABOUT_TERMINALS}
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *EXPORT], capture_output=True, text=True, check=False, env={**inherited, **environ}
    )
    assert done.returncode == 1
    assert done.stdout.count("\n") == 3
    assert bool(colours(done.stderr)) is coloured
    assert "\x1b" not in re.sub(r"\x1b\[[\d;]*m", "", done.stderr)
    assert ("\x1b" in done.stderr) is bool(environ)
    shown = re.sub(r"\x1b\[[\d;]*m", "", done.stderr).splitlines()
    assert [line.rstrip() for line in shown] == shown
    assert "\r" not in done.stderr
    assert "limited by" not in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 200
