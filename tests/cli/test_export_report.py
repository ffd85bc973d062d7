"""The closing table of an export."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness_async import BulkReport, ProjectOutcome, ProjectRef, Stats
from harness_async.cli.export_report import ExportStatus, ExportSummary, print_summary
from harness_async.testing import FakeHarness
from tests.support.cli_errors import failed_outcome, status_error
from tests.support.cli_runner import STYLES, Terminal, export, posix

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
        "  default/project_2  502: bad\\x1b[2J",
        "",
        "Denied (1)  The key may not read this. Request the view permission.",
        "  default/project_1  403: missing permission",
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
    tmp_path: Path, status: ExportStatus, outcomes: list[ProjectOutcome], with_checkpoint: str, without_checkpoint: str
) -> None:
    """The summary says how to resume, or which options are missing for that, unless there is nothing to keep."""
    path = tmp_path / "run"
    path.touch()  # as mktemp does
    for checkpoint, step in ((tmp_path / "none", ""), (path, ""), (None, without_checkpoint)):
        assert next_step(summary_of(status, outcomes, output="rows", checkpoint=checkpoint)) == step
    to_stdout = without_checkpoint.replace("--checkpoint", "--output FILE and --checkpoint")
    assert next_step(summary_of(status, outcomes)) == to_stdout
    path.write_text(f'{{"begun": "{datetime.now(UTC).isoformat()}"}}\n')
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


@pytest.mark.parametrize("forced", [False, True], ids=["plain", "FORCE_COLOR"])
def test_pipe(server: FakeHarness, monkeypatch: pytest.MonkeyPatch, forced: bool) -> None:
    """A pipe gets whole lines without cursor movement or trailing blanks, with colors only if they are forced."""
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    result = export()
    assert (result.exit_code, result.stdout.count("\n")) == (0, 253)
    assert ("\x1b" in result.stderr) is forced
    assert not re.search(r"[\x1b\r]| $|limited by", STYLES.sub("", result.stderr), re.MULTILINE)
