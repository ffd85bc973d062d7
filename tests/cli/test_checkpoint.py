"""Exports that are killed: after the same command runs again, every row is in the file exactly once."""

from __future__ import annotations

import csv
import errno
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from harness_async import ProjectOutcome, ProjectRef
from harness_async.cli.options import RowFormat
from harness_async.cli.resumable_output import ResumableOutput
from harness_async.cli.targets import find_target
from harness_async.testing import Delay, FakeHarness
from tests.support.cli_runner import Result, export, invoke, json_lines, posix, row_keys, start


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def fake() -> FakeHarness:
    return FakeHarness.seeded(projects=6, executions=400, seed=2)


def export_to(folder: Path, *more: str) -> Result:
    files = ("--output", str(folder / "rows.jsonl"), "--checkpoint", str(folder / "run"))
    return export("--quiet", "--since", "400d", *files, *more)


def written(folder: Path) -> list[tuple[str, ...]]:
    return row_keys(json_lines((folder / "rows.jsonl").read_text(encoding="utf-8")))


def test_crash_at_every_write(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash at any write to disk, of rows or of the checkpoint, the next run completes the file."""
    fsync = os.fsync
    crashed = True
    point = 0
    while crashed:
        point += 1
        folder = tmp_path / str(point)
        folder.mkdir()
        remaining = point

        def crash(descriptor: int) -> None:
            nonlocal remaining
            remaining -= 1
            if remaining == 0:
                raise Crash
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", crash)
        try:
            assert export_to(folder).exit_code == 0
            crashed = False
        except (Crash, BaseExceptionGroup):
            pass
        monkeypatch.setattr(os, "fsync", fsync)
        assert export_to(folder).exit_code == 0
        assert written(folder) == row_keys(server.all_executions())
    assert point > 6, "every project is synced to disk"


def kill_at(server: FakeHarness, number: int, arguments: Sequence[str]) -> None:
    """Start a command, and kill it when the server has received a number of requests."""
    server.requests.clear()
    with start(*arguments) as process:
        server.before_request = lambda _: process.kill() if len(server.requests) == number else None
    server.before_request = None
    assert process.returncode == -signal.SIGKILL


@posix
@pytest.mark.parametrize("name", ["executions.csv", "pipeline-executions.jsonl"])
def test_killed_processes(server: FakeHarness, tmp_path: Path, name: str) -> None:
    """After SIGKILL in the middle, again and again, the last process completes the file: every row once."""
    resource, output = name.partition(".")[0], tmp_path / name
    arguments = ("export", resource, "-o", str(output), "--checkpoint", str(tmp_path / "run"), "--raw-csv")
    for request in (9, 6):
        kill_at(server, request, arguments)
    assert invoke(*arguments).exit_code == 0
    with output.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream)) if name.endswith("csv") else json_lines(stream.read())
    if resource == "executions":
        assert row_keys(rows) == row_keys(server.all_executions())
    else:
        ids = [row["planExecutionId"] for ref in server.projects for row in server.rows("pipeline_executions", *ref)]
        assert sorted(row["plan_execution_id"] for row in rows) == sorted(ids)


@posix
def test_interrupted(server: FakeHarness, tmp_path: Path) -> None:
    """The summary of an interrupted run has its real time and counts; the next run reads only the rest."""
    (slow, *_), done = server.projects[:1], len(server.projects) - 1
    server.faults.add(Delay(3600), path=f"*/{slow[1]}/executions", times=None)
    with start("export", "--output", str(tmp_path / "o"), "--checkpoint", str(tmp_path / "c")) as process:
        while not (tmp_path / "c").exists() or len((tmp_path / "c").read_bytes().splitlines()) <= done:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    written = len((tmp_path / "o").read_bytes().splitlines())
    assert re.search(rf"complete +{done} +projects\n +not finished +1 +project\n +rows +{written} ", stderr)
    assert re.search(rf"requests +{len(server.requests)}\n", stderr)
    seconds = re.search(r"time +([0-9.]+) +s", stderr)
    assert seconds is not None
    assert float(seconds[1]) >= 0.2
    assert "run the same command again to resume" in stderr
    server.faults.clear()
    server.requests.clear()
    assert export("--output", str(tmp_path / "o"), "--checkpoint", str(tmp_path / "c")).exit_code == 0
    assert {request.path.split("/")[6] for request in server.requests if "/iacm/" in request.path} == {slow[1]}
    assert row_keys(json_lines((tmp_path / "o").read_text())) == row_keys(server.all_executions())


@pytest.mark.parametrize("spelling", ["default/PAYMENTS", "Default/payments"])
def test_other_spelling(server: FakeHarness, tmp_path: Path, spelling: str) -> None:
    """Rows are filed under the project that was requested, however the server spells it in its rows."""
    server.add_executions("default", "payments", 5)
    files = ("--output", str(tmp_path / "o"), "--checkpoint", str(tmp_path / "c"))
    for _ in range(2):
        assert export("--project", spelling, *files).exit_code == 0
        assert row_keys(json_lines((tmp_path / "o").read_text())) == row_keys(server.executions("default", "payments"))


def test_left_over(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that no completed project accounts for are an error that names them."""
    commit = ResumableOutput.commit

    def forget(output: ResumableOutput, outcome: ProjectOutcome) -> Mapping[str, Any]:
        other = evolve(outcome, project=ProjectRef("other", "one")) if outcome.project == lost else outcome
        return commit(output, other)

    lost = ProjectRef(*server.projects[0])
    rows = len(server.executions(*server.projects[0]))
    monkeypatch.setattr(ResumableOutput, "commit", forget)
    result = export_to(tmp_path)
    assert result.exit_code == 1
    assert f"Rows were received but not written: {rows} of {lost}." in result.stderr
    assert "Export complete" not in result.stderr


def test_no_lock(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot be locked, the error says so and offers to continue without a lock."""
    fcntl = pytest.importorskip("fcntl")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    result = export_to(tmp_path)
    assert (result.exit_code, server.requests) == (2, [])
    assert not (tmp_path / "rows.jsonl").exists()
    assert "cannot be locked: No locks available" in result.stderr
    assert "--no-lock" in result.stderr
    assert export_to(tmp_path, "--no-lock").exit_code == 0
    assert written(tmp_path) == row_keys(server.all_executions())


def test_changed_options_or_files(server: FakeHarness, tmp_path: Path) -> None:
    """A complete export runs again without effect. Other filters, another format or a changed file is exit code 2."""
    assert export_to(tmp_path).exit_code == 0
    complete = (tmp_path / "rows.jsonl").read_bytes()
    assert export_to(tmp_path).exit_code == 0
    for arguments, message in (
        (("--status", "failure"), "other filters"),
        (("--format", "csv"), "belongs to an export with --format jsonl, not --format csv"),
        (("--format", "csv", "--raw-csv"), "belongs to an export with --format jsonl, not --format csv --raw-csv"),
    ):
        result = export_to(tmp_path, *arguments)
        assert (result.exit_code, message in result.stderr) == (2, True)
        assert (tmp_path / "rows.jsonl").read_bytes() == complete
    (tmp_path / "rows.jsonl").write_text("")
    result = export_to(tmp_path)
    assert (result.exit_code, "the file was changed" in result.stderr) == (2, True)
    (tmp_path / "rows.jsonl").unlink()
    result = export_to(tmp_path)
    assert (result.exit_code, "has 0 bytes" in result.stderr) == (2, True)
    (tmp_path / "rows.jsonl").mkdir()
    result = export_to(tmp_path)
    assert (result.exit_code, "Is a directory" in result.stderr) == (2, True)


def test_large_project(tmp_path: Path) -> None:
    """Rows that wait for the end of their project move to a temporary file beyond a limit of memory."""
    output = ResumableOutput(find_target("--output", str(tmp_path / "rows")), RowFormat.JSONL, b"")
    output.open({})
    ref = ProjectRef("o", "p")
    for _ in range(3000):
        output.put(ref, b"x" * 200 + b"\n")
    assert output._pending[ref].spool._rolled  # type: ignore[attr-defined]
    assert output.left_over() == {ref: 3000}
    assert not list(tmp_path.iterdir()), "an old file stays until the first project is complete"
    recorded = output.commit(ProjectOutcome(project=ref, status="complete"))
    assert recorded["length"] == 3000 * 201 == (tmp_path / "rows").stat().st_size
    assert output.left_over() == {}
    output.close()
