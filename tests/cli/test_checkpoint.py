"""Exports that are killed: after the same command runs again, every row is in the file exactly once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness_async import ProjectOutcome, ProjectRef
from harness_async.cli.files import find_target
from harness_async.cli.options import RowFormat
from harness_async.cli.resumable_output import ResumableOutput
from harness_async.testing import FakeHarness
from tests.support.cli_runner import Result, export, json_lines, row_keys
from tests.support.kill_exports import main as kill_exports


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


@pytest.mark.parametrize("name", ["rows.jsonl", "run"])
def test_disk_full(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file that cannot be written stops the export with a summary. The next run completes the output."""
    fsync = os.fsync
    calls: list[int] = []

    def fail_third(descriptor: int) -> None:
        path = tmp_path / name
        if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
            calls.append(descriptor)
            if len(calls) == 3:
                raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_third)
    result = export_to(tmp_path)
    assert result.exit_code != 0
    assert "Export stopped" in result.stderr
    assert f"{tmp_path / name}: No space left on device" in result.stderr
    monkeypatch.setattr(os, "fsync", fsync)
    assert export_to(tmp_path).exit_code == 0
    assert written(tmp_path) == row_keys(server.all_executions())


def test_killed_processes() -> None:
    """After SIGKILL at random moments, the next process completes the file."""
    assert kill_exports(kills=3, seed=5, latency=0.2, per_round=3) >= 0


def test_changed_options_or_files(server: FakeHarness, tmp_path: Path) -> None:
    """A complete export runs again without effect. Other filters, another format or a changed file is exit code 2."""
    assert export_to(tmp_path).exit_code == 0
    complete = (tmp_path / "rows.jsonl").read_bytes()
    assert export_to(tmp_path).exit_code == 0
    for arguments, message in (
        (("--status", "failure"), "other filters"),
        (("--format", "csv"), "belongs to an export with --format jsonl, not csv"),
    ):
        result = export_to(tmp_path, *arguments)
        assert (result.exit_code, message in result.stderr) == (2, True)
        assert (tmp_path / "rows.jsonl").read_bytes() == complete
    (tmp_path / "rows.jsonl").write_text("")
    result = export_to(tmp_path)
    assert (result.exit_code, "the file was changed" in result.stderr) == (2, True)
    (tmp_path / "rows.jsonl").unlink()
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
