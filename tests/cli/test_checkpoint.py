"""Exports that are killed: started again with the same arguments, the file ends with every row exactly once."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness_async.cli.app import app
from harness_async.cli.resumable_output import ResumableOutput
from harness_async.testing import FakeHarness
from harness_async.testing.threads import run_in_thread
from tests.kill_exports import main as kill_exports


class Crash(BaseException):
    """The process is gone."""


@pytest.fixture
def fake() -> FakeHarness:
    return FakeHarness.seeded(projects=6, executions=400, seed=2)


def export(folder: Path, *more: str) -> int:
    files = ("--output", str(folder / "rows.jsonl"), "--checkpoint", str(folder / "run"))
    arguments = ["export", "--quiet", "--since", "400d", "--requests-per-minute", "100000", *files, *more]
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, Crash):
        raise result.exception
    return result.exit_code


def keys(folder: Path) -> Counter[tuple[str, ...]]:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    members = ("org", "project", "pipeline_execution_id", "pipeline_stage_id")
    return Counter(tuple(row[member] for member in members) for row in rows)


def served(fake: FakeHarness) -> Counter[tuple[str, ...]]:
    members = ("org", "project", "pipeline_execution_id", "pipeline_stage_id")
    return Counter(tuple(row[member] for member in members) for row in fake.all_executions())


async def test_a_crash_at_every_write_loses_and_doubles_nothing(
    fake: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write to disk was the last, of rows or of the checkpoint, the next run makes the file right."""
    real = os.fsync
    point = 0
    with run_in_thread(fake):
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        while True:
            point += 1
            folder = tmp_path / str(point)
            folder.mkdir()
            left = point

            def crash(descriptor: int) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Crash
                real(descriptor)

            monkeypatch.setattr(os, "fsync", crash)
            try:
                crashed = await asyncio.to_thread(export, folder)
            except (Crash, BaseExceptionGroup):
                crashed = None
            monkeypatch.setattr(os, "fsync", real)
            assert await asyncio.to_thread(export, folder) == 0
            assert keys(folder) == served(fake)
            if crashed is not None:
                break
    assert point > 6, "every project is made durable"


def test_real_processes_killed_at_random_moments() -> None:
    """Processes killed with SIGKILL leave nothing that the next one cannot make right."""
    assert kill_exports(kills=3, seed=5, latency=0.2, per_round=3) >= 0


async def test_what_is_wrong_with_the_files_is_said(
    fake: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other arguments, another file or no file at all: refused with what to do, and nothing is changed."""
    with run_in_thread(fake):
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        assert await asyncio.to_thread(export, tmp_path) == 0
        assert await asyncio.to_thread(export, tmp_path) == 0, "a finished run has nothing left to do"
        assert keys(tmp_path) == served(fake)
        assert await asyncio.to_thread(export, tmp_path, "--status", "failure") == 2
        assert await asyncio.to_thread(export, tmp_path, "--format", "csv") == 2
        assert keys(tmp_path) == served(fake)
        (tmp_path / "rows.jsonl").write_text("")
        assert await asyncio.to_thread(export, tmp_path) == 2
    result = CliRunner().invoke(app, ["export", "--demo", "--checkpoint", str(tmp_path / "other")])
    assert result.exit_code == 2
    assert "--output" in result.output


def test_rows_of_a_large_project_wait_on_disk(tmp_path: Path) -> None:
    """Rows that wait for the end of their project cost memory up to a bound, then a temporary file."""
    from harness_async import Execution, ProjectOutcome, ProjectRef
    from harness_async.cli.options import RowFormat

    output = ResumableOutput(tmp_path / "rows", RowFormat.JSONL)
    output.begin({})
    row = Execution(org="o", project="p", pipeline_execution_id="e", pipeline_stage_id="s")
    for _ in range(3000):
        output.put(row, b"x" * 200 + b"\n")
    spool, count = output._waiting[ProjectRef("o", "p")]
    assert spool._rolled  # type: ignore[attr-defined]
    assert count == 3000
    extra = output.commit(ProjectOutcome(project=ProjectRef("o", "p"), status="complete"))
    assert extra["length"] == 3000 * 201 == (tmp_path / "rows").stat().st_size
    output.close()
